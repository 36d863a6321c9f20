"""``gatewise inspect``: a figure of each kind from finished runs, its numbers, and refused input."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Gatewise, contents
from tests.inspection.test_measures import memory_run

FOOTPRINT = {
    "bench": "footprint",
    "images": 100,
    "threads": 1,
    "machine": "a machine",
    "date": "2026-11-21",
    "contestants": [
        {"name": name, "parameters": 5, "start_mib": 200.0, "peak_mib": peak, "seconds": [1.0, 2.0, 1.5]}
        for name, peak in (("ours", 300.0), ("theirs", 500.0))
    ],
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of six rows of four pixels."""
    pixels = np.arange(24, dtype=np.uint8).reshape(6, 4) * 10
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Three sequences."""
    np.save(tmp_path / "three.npy", np.random.default_rng(1).random((3, 6, 4), np.float32))
    return tmp_path / "three.npy"


def numbers(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows(gatewise: Gatewise, classifier_run: Path, image: Path, tmp_path: Path) -> None:
    result = gatewise("inspect", "rows", classifier_run, image, "--out", "rows.png", "--data-out", "rows.csv")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("rows.png: read as ")
    with Image.open(tmp_path / "rows.png") as picture:
        assert picture.width == 1440
    over_time = json.loads(gatewise("classify", classifier_run, image, "--over-time", "--json").out)
    verdicts = over_time["predictions"][0]["probabilities"]
    assert [float(line["probability"]) for line in numbers(tmp_path / "rows.csv")] == pytest.approx(
        [p for verdict in verdicts for p in verdict.values()], abs=1e-6
    )


def test_rows_of_one_sequence_among_several(gatewise: Gatewise, classifier_run: Path, arrays: Path) -> None:
    gatewise("inspect", "rows", classifier_run, arrays, "--out", "a.png").check_refused(
        2, "three.npy: 3 sequences; choose one with --index K, 0 to 2"
    )
    gatewise("inspect", "rows", classifier_run, arrays, "--index", "3", "--out", "a.png").check_refused(
        2, "three.npy: no sequence 3; --index ranges from 0 to 2"
    )
    assert gatewise("inspect", "rows", classifier_run, arrays, "--index", "2", "--out", "a.svg").status == 0


def test_rows_with_a_true_label(gatewise: Gatewise, classifier_run: Path, image: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 6, 4), np.float32), y=np.array([3, 8]))
    result = gatewise(
        "inspect", "rows", classifier_run, "a.npz", "--index", "1", "--out", "a.png", "--data-out", "a.csv"
    )
    assert result.out.endswith("; the true label is 8; numbers in a.csv\n")
    assert [line["class"] for line in numbers(tmp_path / "a.csv") if line["true"] == "1"] == ["8"] * 6
    (tmp_path / "5").mkdir()
    image.rename(tmp_path / "5" / "image.png")
    result = gatewise("inspect", "rows", classifier_run, "5/image.png", "--out", "a.png")
    assert result.out.endswith("; the true label is 5\n")


def test_an_image_of_another_size(gatewise: Gatewise, classifier_run: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "big.png")
    command = ("inspect", "rows", classifier_run, tmp_path / "big.png", "--out", "a.png")
    gatewise(*command).check_refused(3, "big.png: 9x9 pixels", "4x6", "--resize")
    assert not (tmp_path / "a.png").exists()
    assert gatewise(*command, "--resize", "--invert").status == 0


def test_gates(gatewise: Gatewise, tiny_run: Path, tagger_run: Path, classifier_run: Path, image: Path) -> None:
    result = gatewise("inspect", "gates", tiny_run, "--text", "the $ dog ate", "--out", "g.png", "--data-out", "g.csv")
    assert (result.status, result.err) == (0, "not in the vocabulary, read as <unk>: '$'\n")
    steps = numbers(Path("g.csv"))
    assert [line["word"] for line in steps[::8]] == ["<eos>", "the", "<unk>", "dog", "ate"]
    scales = [float(line["time_scale_steps"]) for line in steps[:8]]
    assert scales == sorted(scales, reverse=True)
    Path("text.txt").write_text("the dog ate\n")
    assert gatewise("inspect", "gates", tiny_run, "text.txt", "--out", "g.svg").status == 0
    assert steps[8]["prediction"]
    gates = ("inspect", "gates", tagger_run, "--text", "the dog", "--out", "g.png", "--data-out", "g.csv")
    for direction, expected in (("both", {"forward", "backward"}), ("backward", {"backward"})):
        assert gatewise(*gates, "--direction", direction, "--units", "3").status == 0
        assert {line["direction"] for line in numbers(Path("g.csv"))} == expected
    assert gatewise(*gates, "--units", "all").status == 0
    assert {line["direction"] for line in numbers(Path("g.csv"))} == {"forward", "backward"}
    result = gatewise("inspect", "gates", classifier_run, image, "--layer", "1", "--out", "g.png")
    assert result.out == "g.png: layer 1, 6 row(s)\n"


def test_gates_refused(gatewise: Gatewise, tiny_run: Path, classifier_run: Path, image: Path) -> None:
    inspect = ("inspect", "gates", "--out", "g.png")
    gatewise(*inspect, tiny_run).check_refused(2, "expected one of --text TEXT and FILE")
    gatewise(*inspect, tiny_run, image, "--text", "a").check_refused(2, "expected one of --text TEXT and FILE")
    gatewise(*inspect, tiny_run, "--text", " ").check_refused(2, "the text is empty; expected at least one word")
    gatewise(*inspect, classifier_run, "--text", "a").check_refused(2, "reads numbers, not text; give a FILE")
    gatewise(*inspect, tiny_run, "none.txt").check_refused(3, "none.txt: cannot read it")
    Path("empty.txt").write_text("\n")
    gatewise(*inspect, tiny_run, "empty.txt").check_refused(3, "empty.txt: contains no words; expected text")
    gatewise(*inspect, tiny_run, "--text", "dog", "--layer", "2").check_refused(2, "--layer 2: this model has 1")
    gatewise(*inspect, tiny_run, "--text", "dog", "--direction", "both").check_refused(
        2, "--direction both: this model has no backward direction; omit it"
    )
    for units in ("0", "-1", "many", "²"):
        gatewise(*inspect, tiny_run, "--text", "dog", "--units", units).check_refused(
            2, f"--units {units}: expected a positive number, or all"
        )


def test_gates_of_a_model_of_sentences(gatewise: Gatewise, scratch_run: Path) -> None:
    inspect = ("inspect", "gates", scratch_run, "--out", "g.png")
    assert gatewise(*inspect, "--text", "The dog ate the apple.").status == 0
    gatewise(*inspect, "--text", "The dog ate. It read.").check_refused(2, "the text has 2 sentences")


def test_a_taggers_text_is_split_as_tag_splits_it(gatewise: Gatewise, tagger_run: Path, tmp_path: Path) -> None:
    text = "The dog, it ate!"
    (tmp_path / "a.txt").write_text(text)
    tagged = gatewise("tag", tagger_run, "a.txt").out
    assert [pair.rpartition("/")[0] for pair in tagged.split()] == ["The", "dog", ",", "it", "ate", "!"]
    drawn = gatewise("inspect", "tags", tagger_run, "--text", text, "--out", "t.png", "--data-out", "t.csv")
    assert drawn.status == 0 and tagged.strip() in drawn.out
    gates = gatewise("inspect", "gates", tagger_run, "--text", text, "--out", "g.png", "--data-out", "g.csv")
    assert gates.status == 0, gates.err
    with (tmp_path / "g.csv").open() as file:
        assert list(dict.fromkeys(row[1] for row in csv.reader(file)))[1:] == ["The", "dog", ",", "it", "ate", "!"]
    gatewise("inspect", "tags", tagger_run, "--text", "今天 天气", "--out", "t.png", "--data-out", "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        assert list(dict.fromkeys(row[1] for row in csv.reader(file)))[1:] == ["今天", "天气"]


def test_tags(gatewise: Gatewise, tagger_run: Path) -> None:
    result = gatewise("inspect", "tags", tagger_run, "--text", "the dog", "--out", "t.png", "--data-out", "t.csv")
    Path("text.txt").write_text("the dog\n")
    answer = gatewise("tag", tagger_run, "text.txt").out.strip()
    assert result.out == f"t.png: {answer}; numbers in t.csv\n"
    chosen = [line for line in numbers(Path("t.csv")) if line["chosen"] == "1"]
    assert " ".join(f"{line['word']}/{line['tag']}" for line in chosen) == answer
    gatewise("inspect", "tags", tagger_run, "--text", " ", "--out", "t.png").check_refused(2, "--text is empty")


def test_gradient_flow(gatewise: Gatewise, tiny_run: Path, tagger_run: Path) -> None:
    command = (
        "inspect",
        "gradient-flow",
        tiny_run,
        tagger_run,
        "--steps",
        "4",
        "--out",
        "f.png",
        "--data-out",
        "f.csv",
    )
    assert gatewise(*command).status == 0
    lines = numbers(Path("f.csv"))
    assert len(lines) == 2 * 2 * 4
    assert {line["weights"] for line in lines} == {"fresh", "trained"}


def test_gradient_flow_without_a_run(gatewise: Gatewise, tiny_run: Path) -> None:
    command = ("inspect", "gradient-flow", "--out", "f.png", "--data-out", "f.csv", "--steps", "10")
    result = gatewise(*command)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("f.png: LSTM, forget bias 4: × ")
    assert len(numbers(Path("f.csv"))) == 3 * 10
    assert gatewise(*command, "--scale", "0.5").status == 0
    assert {line["model"] for line in numbers(Path("f.csv"))} == {
        "LSTM, forget bias 4",
        "tanh RNN, recurrent weights × 0.5",
    }
    gatewise(*command, "--scale", "0").check_refused(2, "--scale 0: expected a number above 0")
    gatewise(*command, tiny_run, "--scale", "2").check_refused(2, "--scale is for networks without training; omit it")


def test_memory_task(gatewise: Gatewise, tmp_path: Path) -> None:
    runs = [memory_run(tmp_path / cell, cell, 50, 0.2) for cell in ("lstm", "rnn_tanh")]
    assert gatewise("inspect", "memory-task", *runs, "--out", "m.png", "--data-out", "m.csv").status == 0
    last = numbers(Path("m.csv"))[-1]
    assert (last["cell"], last["length"], last["at"]) == ("rnn_tanh", "50", "200")
    assert float(last["mean_squared_error"]) == pytest.approx(0.04)


def test_training(gatewise: Gatewise, tiny_run: Path, classifier_run: Path, scratch_run: Path) -> None:
    command = ("inspect", "training", tiny_run, classifier_run, scratch_run, "--out", "c.svg", "--data-out", "c.csv")
    assert gatewise(*command).status == 0
    assert {line["figure"] for line in numbers(Path("c.csv"))} == {"perplexity", "loss", "accuracy"}


def test_footprint(gatewise: Gatewise) -> None:
    Path("r.json").write_text(json.dumps(FOOTPRINT))
    assert gatewise("inspect", "footprint", "r.json", "--out", "p.png", "--data-out", "p.csv").status == 0
    assert [line["seconds"] for line in numbers(Path("p.csv"))] == ["1.0", "2.0", "1.5"] * 2


@pytest.mark.parametrize("kind", ["rows", "tags", "memory-task", "forecast"])
def test_a_run_of_another_task(kind: str, gatewise: Gatewise, tiny_run: Path, image: Path, tmp_path: Path) -> None:
    extra = {"rows": (image,), "tags": ("--text", "a"), "memory-task": (), "forecast": ()}[kind]
    before = contents(tmp_path)
    gatewise("inspect", kind, tiny_run, *extra, "--out", "a.png").check_refused(
        2, f"{tiny_run}: a run of the task language-model; {kind} requires "
    )
    assert contents(tmp_path) == before


def test_a_run_without_figures(gatewise: Gatewise, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.toml").write_text('[task]\nname = "memory-task"\n')
    for kind in ("training", "memory-task"):
        gatewise("inspect", kind, "r", "--out", "a.png").check_refused(4, "r/metrics.jsonl: no metrics", "train it")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "a.pdf"), "--out a.pdf: expected a name that ends in .png or .svg"),
        (("--out", "a"), "--out a: expected a name that ends in .png or .svg"),
        (("--out", "a.png", "--data-out", "a.txt"), "--data-out a.txt: expected a name that ends in .csv"),
        (("--out", "none/a.png"), "--out none/a.png: no folder none; create it"),
        (("--out", "folder.png"), "--out folder.png: a folder; expected the name of a file"),
        ((), "Missing option '--out'"),
    ],
)
def test_where_to(options: tuple[str, ...], message: str, gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    before = contents(tmp_path)
    gatewise("inspect", "training", tiny_run, *options).check_refused(2, message)
    assert contents(tmp_path) == before


def test_without_matplotlib(gatewise: Gatewise, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    honest = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return honest(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    gatewise("inspect", "training", tiny_run, "--out", "a.png").check_refused(
        2, "drawing a figure needs Matplotlib, which is not installed; it comes with the extra 'all'"
    )


def test_equal_numbers_give_equal_bytes(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        assert gatewise("inspect", "training", tiny_run, "--out", name).status == 0
    for ending in ("svg", "png"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
