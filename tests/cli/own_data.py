"""Small realistic data sets in the formats that people have, written by a seeded generator.

Each function writes one data set to a folder and returns its path.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

GOOD = ["great", "lovely", "perfect", "wonderful", "excellent", "tasty", "friendly", "quick"]
BAD = ["awful", "broken", "slow", "rude", "terrible", "cold", "noisy", "useless"]
THINGS = ["The soup", "My room", "Their service", "This phone", "The driver", "Our table", "The screen", "Breakfast"]


def sentence(rng: np.random.Generator, good: bool) -> str:
    words = GOOD if good else BAD
    first, second = rng.choice(words, 2, replace=False)
    forms = ("{t} was {a}, really {b}!", "{t}: {a} and {b}.", 'I thought "{a}" at once; {b}...', "{t} is {a}. So {b}!")
    return str(rng.choice(forms)).format(t=rng.choice(THINGS), a=first, b=second)


def reviews(folder: Path) -> Path:
    """Reviews with stars, as a shop exports them: commas, quotes, a row without text, unused columns."""
    rng, rows = np.random.default_rng(1), ["id,Review,Stars,date"]
    for k in range(400):
        good = bool(rng.random() < 0.6)
        text = sentence(rng, good).replace('"', '""')
        rows.append(f'{k},"{text}",{5 if good else 1}.0,2024-03-{k % 28 + 1:02}')
    rows[7] = "6,,5.0,2024-03-07"
    (folder / "reviews.csv").write_text("\n".join(rows) + "\n")
    return folder / "reviews.csv"


def chinese_tickets(folder: Path) -> Path:
    """Support tickets in Chinese, without spaces, with tabs between columns."""
    rng, rows = np.random.default_rng(2), ["内容\t标签"]
    topics = {
        "登录": ["无法登录账号", "密码忘记了", "验证码收不到"],
        "退款": ["想申请退款", "钱还没退回来", "重复扣费了"],
    }
    for _ in range(300):
        topic = str(rng.choice(list(topics)))
        words = rng.choice(["你好，", "请问，", ""]), rng.choice(topics[topic]), rng.choice(["怎么办", "谢谢", "！"])
        rows.append(f"{''.join(map(str, words))}\t{topic}")
    (folder / "tickets.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "tickets.tsv"


def intents(folder: Path) -> Path:
    """Intents of an assistant, a JSON object per line."""
    rng = np.random.default_rng(3)
    forms = {
        "weather": ("Will it rain in {c}?", "How warm is {c} today?", "What's the weather like in {c}?"),
        "music": ("Play some jazz from {c}.", "Put on a song about {c}, please.", "I'd like music by a band from {c}."),
        "travel": ("Book a train to {c}!", "When does the bus to {c} leave?", "Find me a flight to {c}, please."),
    }
    cities = ["Bonn", "Kyiv", "Lima", "Oslo", "Cairo", "Quito"]
    with (folder / "intents.jsonl").open("w") as file:
        for _ in range(300):
            intent = str(rng.choice(list(forms)))
            text = str(rng.choice(forms[intent])).format(c=rng.choice(cities))
            file.write(json.dumps({"utterance": text, "intent": intent}) + "\n")
    return folder / "intents.jsonl"


def entities(folder: Path) -> Path:
    """Names of people and places, a word and its tag per line."""
    rng, lines = np.random.default_rng(4), list[str]()
    people, places = (
        ["Ada", "Alan", "Grace", "Kurt", "Emmy", "Noam"],
        ["Bonn", "Kyiv", "Lima", "Oslo", "Cairo", "Quito"],
    )
    for _ in range(300):
        person, place = rng.choice(people), rng.choice(places)
        forms = (
            [(person, "B-PER"), ("lives", "O"), ("in", "O"), (place, "B-LOC"), (".", "O")],
            [("In", "O"), (place, "B-LOC"), (person, "B-PER"), ("met", "O"), (rng.choice(people), "B-PER"), (".", "O")],
            [("The", "O"), ("train", "O"), ("to", "O"), ("New", "B-LOC"), (place, "I-LOC"), ("left", "O")],
        )
        lines += [f"{word}\t{tag}" for word, tag in forms[rng.integers(3)]] + [""]
    (folder / "entities.txt").write_text("\n".join(lines) + "\n")
    return folder / "entities.txt"


def treebank(folder: Path) -> Path:
    """A small treebank of twenty documents, as one CoNLL-U file."""
    rng, lines = np.random.default_rng(5), list[str]()
    words = {
        "DET": ["the", "a", "this", "every"],
        "NOUN": ["dog", "run", "walk", "light", "book", "play"],
        "VERB": ["runs", "walk", "lights", "books", "play", "sees"],
        "ADJ": ["light", "old", "quick", "red"],
    }
    for document in range(20):
        lines.append(f"# newdoc id = d{document}")
        for number in range(12):
            lines.append(f"# sent_id = d{document}-{number}")
            tags = ["DET", *["ADJ"] * int(rng.integers(2)), "NOUN", "VERB", "DET", "NOUN"]
            lines += [f"{k}\t{rng.choice(words[tag])}\t_\t{tag}" + "\t_" * 6 for k, tag in enumerate(tags, 1)] + [""]
    (folder / "treebank.conllu").write_text("\n".join(lines) + "\n")
    return folder / "treebank.conllu"


def log(folder: Path) -> Path:
    """A server's log, as text."""
    rng, lines = np.random.default_rng(6), list[str]()
    for k in range(800):
        path, status = rng.choice(["/index.html", "/login", "/items", "/logo.png"]), rng.choice([200, 200, 200, 404])
        lines.append(f"INFO request {k % 7} GET {path} status {status} done")
        if status == 404:
            lines.append(f"WARNING not found {path}")
    (folder / "server.log").write_text("\n".join(lines) + "\n")
    return folder / "server.log"


def poems(folder: Path) -> Path:
    """Chinese verses, one per line."""
    rng, lines = np.random.default_rng(7), list[str]()
    for _ in range(400):
        parts = ["明月 清风 白云", "照 过 满", "高楼 江水 山中", "，", "何日 今夜", "归来 相思", "。"]
        lines.append("".join(str(rng.choice(part.split())) for part in parts))
    (folder / "poems.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "poems.txt"


def sensor(folder: Path) -> Path:
    """An hourly sensor with three missing hours: semicolons, decimal commas, a column of text."""
    rng, rows = np.random.default_rng(8), ["Zeit;Temperatur;Ort"]
    for hour in range(700):
        if hour not in (100, 101, 350):
            value = 12 + 6 * np.sin(2 * np.pi * hour / 24) + rng.normal(0, 0.4)
            time = datetime(2024, 1, 1) + timedelta(hours=hour)
            rows.append(f"{time:%d.%m.%Y %H:%M};{f'{value:.2f}'.replace('.', ',')};Bonn")
    (folder / "sensor.csv").write_text("\n".join(rows) + "\n")
    return folder / "sensor.csv"


def sales(folder: Path) -> Path:
    """Monthly sales of twenty-five years with thousands separators."""
    rng, rows = np.random.default_rng(9), ["month,sales"]
    for month in range(300):
        value = 5000 + 8 * month + 1500 * np.sin(2 * np.pi * month / 12) + rng.normal(0, 60)
        rows.append(f'{2000 + month // 12}-{month % 12 + 1:02},"{value:,.1f}"')
    (folder / "sales.csv").write_text("\n".join(rows) + "\n")
    return folder / "sales.csv"


def wave(folder: Path) -> Path:
    """Numbers in columns of white space without a header, as a measuring program writes them."""
    rng, lines = np.random.default_rng(10), list[str]()
    for step in range(500):
        lines.append(f"{step:6d} {np.sin(step / 5) + rng.normal(0, 0.03):10.4f}")
    (folder / "wave.txt").write_text("\n".join(lines) + "\n")
    return folder / "wave.txt"


def gestures(folder: Path) -> Path:
    """Gestures of an accelerometer, each as long as it took, one after the other and sorted by label."""
    rng = np.random.default_rng(11)
    x, y = list[np.ndarray](), list[str]()
    for label in range(3):
        for _ in range(80):
            time = np.linspace(0, 1, steps := int(rng.integers(20, 40)))
            phase, noise = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.2, (steps, 2))
            x.append(np.stack([np.sin(2 * np.pi * (label + 1) * time + phase), np.cos(np.pi * time)], 1) + noise)
            y.append(("circle", "swipe", "tap")[label])
    lengths = [len(one) for one in x]
    np.savez(folder / "gestures.npz", x=np.concatenate(x), y=np.array(y), lengths=lengths, device=np.zeros(1))
    return folder / "gestures.npz"


def pictures(folder: Path) -> Path:
    """Drawings in a folder per class, in the formats and sizes of cameras and browsers."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(12)
    for label in ("circle", "cross"):
        inner = folder / "drawings" / label
        inner.mkdir(parents=True)
        for k in range(60):
            width, height = (int(n) for n in rng.integers(40, 90, 2))
            picture = Image.new("RGB", (width, height), "white")
            draw, line = ImageDraw.Draw(picture), int(rng.integers(3, 6))
            a, b = (int(n) for n in rng.integers(4, 10, 2))
            if label == "circle":
                draw.ellipse((a, b, width - a, height - b), outline="black", width=line)
            else:
                draw.line((a, b, width - a, height - b), "black", line)
                draw.line((a, height - b, width - a, b), "black", line)
            picture.save(inner / f"{k}.{('png', 'jpg', 'JPEG', 'webp')[k % 4]}")
    (folder / "drawings" / "circle" / "Thumbs.db").write_bytes(b"x")
    return folder / "drawings"
