"""A tiny run of every task, with its data in each format that the task reads, and the commands that use them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Data:
    """Data of a task in one format: what writes it into a folder, and its path there as ``--data`` names it."""

    write: Callable[[Path, int], None]
    path: str = "."
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A task.

    Attributes:
        recipe: that it starts from.
        overrides: that make it a matter of a moment.
        data: by format, the first is the one that the run is trained on; empty where the task draws its own.
        use: by name, further commands on a finished run; ``{input}`` is the file that they read.
        inputs: by name of such a command, what it reads: a name and its content.
    """

    recipe: str
    overrides: Mapping[str, Any]
    data: Mapping[str, Data] = field(default_factory=dict)
    use: Mapping[str, list[str]] = field(default_factory=dict)
    inputs: Mapping[str, tuple[str, Callable[[Path], None]]] = field(default_factory=dict)

    def options(self, **more: Any) -> list[str]:
        """Return the overrides as words of the command line."""
        merged = {**self.overrides, **{key.replace("__", "."): value for key, value in more.items()}}
        return [word for key, value in merged.items() for word in ("--set", f"{key}={json.dumps(value)}")]


SMALL = {"model.hidden_size": 5, "model.num_layers": 1, "logging.tensorboard": False}

_TAGGED = (
    "the/DET dog/NN ate/V that/DET apple/NN everybody/NN read/V a/DET book/NN company/NN said/V it/PRON will/AUX "
    "Weiß/NN café/NN"
)
TAGS = dict(pair.split("/") for pair in _TAGGED.split())
WORDS = list(TAGS)


def _sentences(count: int, seed: int) -> list[list[str]]:
    draw = np.random.default_rng(seed)
    return [[WORDS[k] for k in draw.integers(0, len(WORDS), draw.integers(1, 6))] for _ in range(count)]


def _text(folder: Path, seed: int) -> None:
    for split, count in (("train", 30), ("valid", 8), ("test", 8)):
        lines = [" ".join(words) for words in _sentences(count, seed)]
        (folder / f"toy.{split}.txt").write_text("\n".join([*lines, "", "end\n"]), encoding="utf-8")


def _comments(folder: Path, seed: int) -> None:
    rows = [
        f'{k},"{" ".join(words).capitalize()}, ""it"" ran.\nSo {words[0]} said!"'
        for k, words in enumerate(_sentences(6, seed))
    ]
    (folder / "toy.csv").write_text("\n".join(["id,body", *rows, ""]), encoding="utf-8")


def _conllu(folder: Path, seed: int) -> None:
    for split, count in (("train", 14), ("dev", 5), ("test", 5)):
        (folder / f"toy-ud-{split}.conllu").write_text(conllu_text(count, seed), encoding="utf-8")


def conllu_text(count: int, seed: int = 1) -> str:
    """Return sentences of two genres, with a multiword token and an empty node."""
    text = ""
    for number, words in enumerate(_sentences(count, seed)):
        text += f"# sent_id = {('web', 'mail')[number % 2]}-{number}\n1-2\t" + "\t".join("_" * 9) + "\n"
        for k, word in enumerate(words, 1):
            text += f"{k}\t{word}\t_\t{TAGS[word]}\t_\t_\t0\troot\t_\t_\n"
        text += "1.1\t" + "\t".join("_" * 9) + "\n\n"
    return text


def _two_columns(folder: Path, seed: int) -> None:
    for split, count in (("train", 14), ("valid", 5), ("test", 5)):
        sentences = ["".join(f"{word} {TAGS[word]}\n" for word in words) for words in _sentences(count, seed)]
        (folder / f"toy.{split}.txt").write_text("\n".join(sentences), encoding="utf-8")


def _arrays(folder: Path, seed: int, *, real: bool = False, pixels: bool = False) -> dict[str, tuple[Any, Any]]:
    draw, parts = np.random.default_rng(seed), {}
    for split, count in (("train", 24), ("valid", 8), ("test", 8)):
        which = draw.integers(0, 3, count)
        x = draw.normal(0, 0.3, (count, 5, 3))
        x[np.arange(count), :, which] += 1
        y = x.mean((1, 2)) if real else np.array([3, 5, 8])[which]
        x = (np.clip(x, 0, 1) * 255).astype(np.uint8) if pixels else x.astype(np.float32)
        parts[split] = x, y.astype(np.uint8) if pixels else y
    return parts


def _npz(folder: Path, seed: int, *, real: bool = False) -> None:
    for split, (x, y) in _arrays(folder, seed, real=real).items():
        (np.savez_compressed if split == "valid" else np.savez)(folder / f"toy.{split}.npz", x=x, y=y)


def _real_npz(folder: Path, seed: int) -> None:
    _npz(folder, seed, real=True)


def idx_bytes(array: Any) -> bytes:
    """Return an array of unsigned bytes as an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def _idx(folder: Path, seed: int) -> None:
    import gzip

    parts = _arrays(folder, seed, pixels=True)
    for split, name in (("train", "train"), ("test", "t10k")):
        x, y = parts[split]
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(y), mtime=0))


def _reviews(folder: Path, seed: int) -> None:
    for split, count in (("train", 14), ("valid", 6), ("test", 6)):
        rows = [f'"{" ".join(words)}",{("web", "mail")[k % 2]}' for k, words in enumerate(_sentences(count, seed))]
        (folder / f"toy.{split}.csv").write_text("\n".join(["review,stars", *rows, ""]), encoding="utf-8")


def _json_lines(folder: Path, seed: int) -> None:
    for split, count in (("train", 14), ("valid", 6), ("test", 6)):
        rows = [
            {"review": " ".join(words), "stars": ("web", "mail")[k % 2]}
            for k, words in enumerate(_sentences(count, seed))
        ]
        (folder / f"toy.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _series(folder: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    level = 10 + 3 * np.sin(np.arange(70) / 2) + draw.normal(0, 0.3, 70)
    rows = [f"{2 * day + 100},{value:.4f},{value / 2:.3f}" for day, value in enumerate(level)]
    (folder / "waves.csv").write_text("\n".join(["day,level,half", *rows, ""]), encoding="utf-8")


def _write_tagged_text(path: Path) -> None:
    path.write_text("the dog ate\n\nEverybody read a xyzzy .\n", encoding="utf-8")


def _write_conllu(path: Path) -> None:
    path.write_text(conllu_text(3), encoding="utf-8")


def _write_texts(path: Path) -> None:
    path.write_text("the dog ate\nEverybody read a xyzzy .\n", encoding="utf-8")


def _write_npy(path: Path) -> None:
    np.save(path, _arrays(path.parent, 5)["test"][0][:3])


def _write_npz(path: Path) -> None:
    np.savez_compressed(path, x=_arrays(path.parent, 5)["test"][0][:3])


def _write_idx(path: Path) -> None:
    import gzip

    path.write_bytes(gzip.compress(idx_bytes(_arrays(path.parent, 5, pixels=True)["test"][0][:3]), mtime=0))


def _write_picture(path: Path) -> None:
    from PIL import Image

    Image.fromarray(_arrays(path.parent, 5, pixels=True)["test"][0][0]).save(path)


def _write_series(path: Path) -> None:
    _series(path.parent, 5)
    (path.parent / "waves.csv").rename(path)


_LETTERS = {"model.embedding_size": 4, "model.character_embedding_size": 3, "model.character_hidden_size": 3}
_JSON = ["--json"]

SUBJECTS: dict[str, Subject] = {
    "language-model": Subject(
        "demo",
        {**SMALL, "data.batch_size": 3, "data.tbptt_length": 6, "training.epochs": 3, "model.dropout": 0.2},
        {"text": Data(_text)},
        {"generate": ["generate", "run", "--prompt", "the dog", "--max-tokens", "8", "--seed", "1"]},
    ),
    "character-model": Subject(
        "demo",
        {
            **SMALL,
            "data.level": "character",
            "data.batch_size": 4,
            "data.tbptt_length": 20,
            "training.max_steps": 9,
            "training.eval_every": 4,
            "training.average_decay": 0.9,
            "model.cell": "gru",
            "model.tie_weights": True,
        },
        {"text": Data(_text)},
        {"generate": ["generate", "run", "--max-tokens", "20", "--temperature", "0.8", "--seed", "1"]},
    ),
    "scratch": Subject(
        "comments-scratch",
        {
            "data.vocabulary_size": 14,
            "model.hidden_size": 4,
            "training.epochs": 2,
            "training.learning_rate": 0.1,
            "logging.tensorboard": False,
        },
        {"csv": Data(_comments, "toy.csv")},
        {"generate": ["generate", "run", "--max-tokens", "8", "--seed", "1"]},
    ),
    "tagger": Subject(
        "ewt-upos",
        {**SMALL, **_LETTERS, "data.batch_size": 4, "training.epochs": 3, "training.average_decay": 0.9},
        {"conllu": Data(_conllu), "columns": Data(_two_columns)},
        {"tag": ["tag", "run", "{input}", "--format", "json"], "tag-conllu": ["tag", "run", "{input}"]},
        {"tag": ("text.txt", _write_tagged_text), "tag-conllu": ("text.conllu", _write_conllu)},
    ),
    "classifier": Subject(
        "mnist-rows",
        {
            **SMALL,
            "data.batch_size": 6,
            "data.valid_size": 6,
            "training.max_steps": 9,
            "training.eval_every": 3,
            "training.learning_rate": 0.03,
            "model.dropout": 0.2,
        },
        {"npz": Data(_npz), "idx": Data(_idx)},
        {f"classify-{kind}": ["classify", "run", "{input}", *_JSON] for kind in ("npy", "npz", "idx")}
        | {
            "classify-png": ["classify", "run", "{input}", "--resize", *_JSON],
            "rows": ["inspect", "rows", "run", "{input}", "--index", "1", "--out", "rows.svg"],
        },
        {
            "classify-npy": ("x.npy", _write_npy),
            "classify-npz": ("x.npz", _write_npz),
            "classify-idx": ("x-ubyte.gz", _write_idx),
            "classify-png": ("x.png", _write_picture),
            "rows": ("x.npy", _write_npy),
        },
    ),
    "text-classifier": Subject(
        "ewt-genre",
        {
            **SMALL,
            **_LETTERS,
            "data.batch_size": 4,
            "data.column": "review",
            "data.label_column": "stars",
            "training.epochs": 3,
        },
        {"csv": Data(_reviews), "jsonl": Data(_json_lines), "conllu": Data(_conllu)},
        {"classify": ["classify", "run", "{input}", *_JSON]},
        {"classify": ("texts.txt", _write_texts)},
    ),
    "regressor": Subject(
        "sunspots",
        {
            **SMALL,
            "data.window": 6,
            "data.valid_size": 10,
            "data.test_size": 12,
            "data.columns": ["level"],
            "data.batch_size": 8,
            "training.epochs": 2,
            "training.average_decay": 0.9,
            "training.learning_rate": 0.02,
        },
        {"csv": Data(_series, "waves.csv")},
        {"forecast": ["forecast", "run", "{input}", "--steps", "3", "--interval", "0.5", *_JSON]},
        {"forecast": ("waves.csv", _write_series)},
    ),
    "array-regressor": Subject(
        "sunspots",
        {
            **SMALL,
            "data.window": 0,
            "data.valid_size": 0,
            "data.test_size": 0,
            "data.batch_size": 6,
            "training.max_steps": 7,
            "training.eval_every": 2,
            "training.learning_rate": 0.02,
        },
        {"npz": Data(_real_npz)},
    ),
    "memory-task": Subject(
        "memory-task",
        {
            "data.length": 5,
            "data.batch_size": 4,
            "model.hidden_size": 4,
            "training.max_steps": 8,
            "training.eval_every": 3,
            "logging.tensorboard": False,
        },
    ),
}
