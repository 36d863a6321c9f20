"""Evaluation of a run on other data: from a pipe, as a whole, and with labels that the training data lacks."""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.config import load_config
from gatewise.engines import ENGINES
from gatewise.engines.native.module import why_not_built
from gatewise.errors import UsageError
from gatewise.runtime.model_file import STORED
from gatewise.tasks.evaluate import evaluate
from tests.cli.conftest import Gatewise, contents
from tests.cli.test_text_classification import TINY, rows, write_csv

TAGS = "the\tDET\ndog\tNOUN\n\nit\tPRON\nate\tVERB\n\n"
QUICK = {"training.epochs": 1, "logging.tensorboard": False, "model.hidden_size": 4}
STDIN_SETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "reviews.csv": ("text-classifier", "review,stars\n" + "good food,5\nbad food,1\ngood food,1\n" * 20, {}),
    "reviews.jsonl": (
        "text-classifier",
        '{"text": "good", "label": "a"}\n{"text": "bad", "label": "b"}\n{"text": "bad", "label": "a"}\n' * 20,
        {},
    ),
    "tags.txt": ("tagger", TAGS * 20, {}),
    "series.csv": ("forecaster", "a\n" + "".join(f"{k % 7}.0\n" for k in range(80)), {"data.window": 4}),
    "book.txt": ("language-model", "it was a dark night\n" * 40, {}),
}


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    write_csv(folder / "reviews.csv", rows(20))
    return gw.train("text-classifier", data=folder / "reviews.csv", out=folder / "run", overrides=TINY).path


def from_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("name", STDIN_SETS)
def test_standard_input_is_read_as_the_file_was(
    name: str, gatewise: Gatewise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, text, more = STDIN_SETS[name]
    (tmp_path / name).write_text(text)
    gw.train(recipe, data=tmp_path / name, out=tmp_path / "run", overrides={**QUICK, **more})
    from_file = gatewise("evaluate", "run", "--data", name, "--json")
    from_stdin(monkeypatch, text.encode())
    piped = gatewise("evaluate", "run", "--data", "-", "--json")
    assert (piped.status, piped.err) == (0, "")
    assert json.loads(piped.out) == json.loads(from_file.out)
    if recipe == "text-classifier":
        places = (tmp_path / "run" / "figures" / "other-data" / "mistakes.csv").read_text().splitlines()[1:]
        assert places and all(place.startswith("standard input:") for place in places)
    from_stdin(monkeypatch, b"\xff\xfe\xff")
    gatewise("evaluate", "run", "--data", "-").check_refused(3, "standard input:")


def test_arrays_from_standard_input(gatewise: Gatewise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 6, 40)
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(lengths.sum(), 2)), y=["a", "b"] * 20, lengths=lengths)
    gw.train("sequence-classifier", data=tmp_path / "a.npz", out=tmp_path / "run", overrides=QUICK)
    expected = gatewise("evaluate", "run", "--data", "a.npz", "--json").out
    from_stdin(monkeypatch, (tmp_path / "a.npz").read_bytes())
    assert gatewise("evaluate", "run", "--data", "-", "--json").out == expected
    over_time = json.loads(gatewise("classify", "run", "a.npz", "--over-time", "--json").out)["predictions"]
    assert [len(one["probabilities"]) for one in over_time] == lengths.tolist()
    at_end = json.loads(gatewise("classify", "run", "a.npz", "--json").out)["predictions"]
    for one, whole in zip(at_end, over_time, strict=True):
        assert one["probabilities"] == pytest.approx(whole["probabilities"][-1], rel=1e-4)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("review,stars\ngood food,5\n\nbad food,\n", [2, 4]),
        ('stars;review\n5;"good; food"\n', [2]),
        ('{"review": "good food", "stars": 5}\n{"review": ""}\n{"review": "bad"}\n', [1, 3]),
        ("my review, in short\ngood food\n", [1, 2]),
        ("good food\n\nreview\n", [1, 3]),
    ],
)
def test_texts_from_standard_input_are_a_table_where_they_name_its_column(
    text: str, lines: list[int], text_run: Path, gatewise: Gatewise, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_stdin(monkeypatch, text.encode())
    done = gatewise("classify", text_run, "-")
    assert done.status == 0, done.err
    assert [line.split(": ")[0] for line in done.out.splitlines()] == [f"-:{line}" for line in lines]


def test_sequences_without_a_known_label_are_refused(
    classifier_run: Path, sequences: Path, gatewise: Gatewise, tmp_path: Path
) -> None:
    with np.load(sequences / "toy.test.npz") as arrays:
        np.savez(tmp_path / "new.npz", x=arrays["x"], y=np.full(len(arrays["y"]), 77))
    gatewise("evaluate", classifier_run, "--data", "new.npz").check_refused(
        3, "new.npz[0]: none of its labels occurs in the training data; found '77'; expected '3', '5', '8'"
    )


def test_unknown_labels_count_as_errors_or_are_refused(text_run: Path, gatewise: Gatewise, tmp_path: Path) -> None:
    write_csv(tmp_path / "new.csv", [*rows(1), ("a fine meal", "3"), ("no food", "3")])
    figures = json.loads(gatewise("evaluate", text_run, "--data", "new.csv", "--json").out)
    known = json.loads(gatewise("evaluate", text_run, "--json").out)
    assert (figures["unknown_labels"], figures["tokens"], known["unknown_labels"]) == (2, 8, 0)
    assert figures["accuracy"] <= 6 / 8
    assert (
        "2 of them have labels that the training data lacks" in gatewise("evaluate", text_run, "--data", "new.csv").out
    )
    gatewise("evaluate", text_run, "--data", "new.csv", "--strict").check_refused(
        3, "new.csv:8: the label '3' does not occur in the training data; expected known labels only (data.strict)"
    )


@pytest.mark.parametrize("task", ["text-classifier", "tagger", "sequence-classifier"])
def test_training_with_unknown_labels(task: str, gatewise: Gatewise, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for split, last in (("train", "b"), ("valid", "b"), ("test", "c")):
        if task == "sequence-classifier":
            np.savez(folder / f"x.{split}.npz", x=np.eye(3)[..., None], y=["a", "b", last])
        elif task == "tagger":
            (folder / f"x.{split}.txt").write_text(f"one\ta\ntwo\tb\nthree\t{last}\n")
        else:
            (folder / f"x.{split}.csv").write_text(f"text,label\none,a\ntwo,b\nthree,{last}\n")
    options = [word for key, value in QUICK.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = gatewise("train", task, "--data", "data", "--out", "run", "--strict", *options)
    done.check_refused(3, "'c'", "does not occur in the training data; expected known", "(data.strict)")
    assert not (tmp_path / "run").exists()
    done = gatewise("train", task, "--data", "data", "--out", "run", *options)
    assert done.status == 0 and "does not occur in the training data; 1 such" in " ".join(done.err.split()), done.err
    assert json.loads(gatewise("evaluate", "run", "--json").out)["unknown_labels"] == 1
    gatewise("evaluate", "run", "--strict").check_refused(3, "'c'", "(data.strict)")


@pytest.mark.skipif(why_not_built() is not None, reason="the native engine was not built")
@pytest.mark.parametrize("weights", STORED)
def test_weights_as_a_stream_stores_them(weights: str, tiny_run: Path, gatewise: Gatewise) -> None:
    plain, done = (gatewise("evaluate", tiny_run, "--json", *more) for more in ((), ("--weights", weights)))
    assert (done.status, done.err) == (0, "")
    figures, expected = json.loads(done.out), json.loads(plain.out)
    added = {name: figures.pop(name) for name in figures.keys() - expected.keys()}
    assert figures == expected
    stream = gw.load(tiny_run).stream(weights)
    assert added.keys() == {"weights", *(f"weights_{name}" for name in ("perplexity", "nll", "ratio", "bytes"))}
    assert (added["weights"], added["weights_bytes"]) == (weights, stream.bytes)
    assert added["weights_perplexity"] == pytest.approx(math.exp(added["weights_nll"]))
    assert added["weights_ratio"] == pytest.approx(added["weights_perplexity"] / expected["perplexity"])
    assert added["weights_ratio"] == pytest.approx(1, abs=1e-5 if weights == "fp32" else 0.01)
    assert (added["weights_ratio"] == pytest.approx(1, abs=1e-6)) == (weights == "fp32"), "not these weights"
    lines = gatewise("evaluate", tiny_run, "--weights", weights).out.splitlines()
    assert lines[:-1] == gatewise("evaluate", tiny_run).out.splitlines()
    assert lines[-1] == (
        f"with {weights} weights {added['weights_perplexity']:.2f} (nll {added['weights_nll']:.4f}), "
        f"{added['weights_ratio']:.4f} times that; a step reads {stream.bytes / 1e6:.2f} MB of weights"
    )


@pytest.mark.skipif(why_not_built() is not None, reason="the native engine was not built")
def test_streams_are_scored_on_the_cpu_unless_another_device_is_named(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()
    monkeypatch.setattr(
        "gatewise.tasks.evaluate.choose_device", lambda name: (asked.append(name), torch.device("cpu"))[1]
    )
    for device, weights in (("auto", "int8"), ("cuda", "int8"), ("auto", None)):
        evaluate(tiny_run, device=device, weights=weights)
    assert asked == ["cpu", "cuda", "auto"]


@pytest.mark.parametrize("kind", ["classifier_run", "regressor_run", "tagger_run", "scratch_run"])
def test_only_language_models_are_streamed(kind: str, gatewise: Gatewise, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    before = contents(run)
    task = load_config(run / "config.toml").task.name
    gatewise("evaluate", run, "--weights", "int8").check_refused(
        2, f"--weights int8: a {task} run is not streamed; expected that of a language-model, or omit --weights"
    )
    gatewise("evaluate", run, "--weights", "int4").check_refused(2, "int4", "fp32", "bf16", "int8")
    assert contents(run) == before


def test_a_model_that_cannot_be_streamed(tiny_run: Path, gatewise: Gatewise, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(tiny_run)
    monkeypatch.setattr(type(ENGINES["reference"]), "why_not_stream", lambda *_: "it is too wide", raising=True)
    monkeypatch.setattr("gatewise.models.language_model.streaming_engine", lambda: ENGINES["reference"])
    gatewise("evaluate", tiny_run, "--weights", "int8").check_refused(
        2, "this model cannot be streamed: it is too wide; use step() instead"
    )
    monkeypatch.undo()
    with pytest.raises(UsageError, match="weights is 'int4'; expected one of fp32, bf16, int8"):
        evaluate(tiny_run, weights="int4")
    assert contents(tiny_run) == before
