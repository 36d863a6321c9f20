"""Data sets as people have them: from the file to a model that beats its baseline, a picture and a prediction."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli import own_data
from tests.cli.conftest import Gatewise

TEXT = ("text-classifier", "test_accuracy", "majority_test_accuracy")
TAGS = ("tagger", "test_accuracy", "commonest_tag_test_accuracy")
LM = ("language-model", "test_perplexity", "unigram_test_perplexity")
SERIES = ("forecaster", "test_rmse", "persistence_test_rmse")
ARRAYS = ("sequence-classifier", "test_accuracy", "majority_test_accuracy")
PICTURES = ("image-classifier", "test_accuracy", "majority_test_accuracy")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "starter", "said", "use", "answer"),
    [
        (own_data.reviews, TEXT, "text from column 'Review', label from column 'Stars'", "classify", r":2: [15] \("),
        (own_data.chinese_tickets, TEXT, "read by character", "classify", r":2: (登录|退款) \("),
        (own_data.intents, TEXT, "text from column 'utterance', label from column 'intent'", "classify", r":1: \w+ \("),
        (own_data.entities, TAGS, "split with seed 1, by sentence", "tag", r"^\w+/[BO]"),
        (own_data.treebank, TAGS, "split with seed 1, whole documents", "tag", r"^\w+/DET "),
        (own_data.log, LM, "read by word", "generate", r"INFO|GET|status|done"),
        (own_data.poems, LM, "read by character", "generate", r"[照过满，。]"),
        (own_data.sensor, SERIES, "the first of 3 steps missing, filled", "forecast", r"^30.01.2024 04:00\t\d+\.\d+$"),
        (own_data.sales, SERIES, "forecasts 'sales' 1 step ahead", "forecast", r"^2025-01\t\d+\.\d+$"),
        (own_data.wave, SERIES, "no header row", "forecast", r"^500\t-?\d\.\d+$"),
        (own_data.gestures, ARRAYS, r"sequences of 20 to 39 × 2 .* not used: 'device'", "classify", r"\[0\]: \w+ \("),
        (own_data.pictures, PICTURES, "classes are the folders", "classify", r": (circle|cross) \("),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_from_a_file_to_a_prediction(
    make: Callable[[Path], Path],
    starter: tuple[str, str, str],
    said: str,
    use: str,
    answer: str,
    gatewise: Gatewise,
    tmp_path: Path,
) -> None:
    recipe, metric, baseline = starter
    data = make(tmp_path)
    done = gatewise("train", recipe, "--data", data, "--out", "run")
    assert done.status == 0, done.err
    told = " ".join(done.err.split())
    assert re.search(said, told), told
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    better = metrics[metric] > metrics[baseline] if metric.endswith("accuracy") else metrics[metric] < metrics[baseline]
    assert better, metrics
    settings = (tmp_path / "run" / "config.toml").read_text()
    unsettled = r'^(?!engine|device).* = "auto"$|^(valid_size|test_size|batch_size|epochs) = 0$'
    assert not re.search(unsettled, settings, re.MULTILINE), settings

    file = next(data.rglob("*.jpg")) if data.is_dir() else data
    given = ["--max-tokens", "30", "--seed", "1"] if use == "generate" else [file]
    answered = gatewise(use, "run", *given)
    assert answered.status == 0, answered.err
    assert re.search(answer, answered.out, re.MULTILINE), answered.out[:500]
    assert "no better than its baseline" not in done.out

    for kind in ("training", "forecast") if use == "forecast" else ("training",):
        drawn = gatewise("inspect", kind, "run", "--out", f"{kind}.png")
        assert drawn.status == 0, drawn.err
    again = gatewise("train", recipe, "--data", data, "--out", "run", "--resume")
    assert again.status == 0 and "this run is finished" in " ".join(again.err.split()), again.err
    scored = json.loads(gatewise("evaluate", "run", "--json").out)
    assert scored[metric.removeprefix("test_")] == pytest.approx(metrics[metric], rel=1e-6)
    whole = json.loads(gatewise("evaluate", "run", "--data", data, "--json").out)
    assert whole["tokens"] > 5 * scored["tokens"]


def test_a_file_of_columns_is_tagged_as_it_was_read_in_training(
    gatewise: Gatewise, tagger_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("The\tDET\ndog\tNN\n\nIt\tPRON\nate\tV\n")
    assert [line.count("/") for line in gatewise("tag", tagger_run, "a.txt").out.splitlines()] == [2, 2]
    (tmp_path / "b.txt").write_text("The\tdog\nate\n")
    assert [line.count("/") for line in gatewise("tag", tagger_run, "b.txt").out.splitlines()] == [2, 1]


def test_a_language_model_reads_a_column_of_a_table(gatewise: Gatewise, tmp_path: Path) -> None:
    rows = [{"id": k, "body": f"the dog number {k % 5} ate the book\nand slept"} for k in range(200)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = gatewise("train", "language-model", "--data", "posts.jsonl", "--out", "run", "--set", "training.epochs=1")
    assert done.status == 0 and "text from column 'body'" in " ".join(done.err.split()), done.err
    scored = json.loads(gatewise("evaluate", "run", "--data", "posts.jsonl", "--json").out)
    assert (scored["tokens"], scored["oov_rate"]) == (200 * (8 + 3) - 1, 0)


def test_one_file_of_arrays_with_numbers_to_predict(gatewise: Gatewise, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 6, 1))
    np.savez(tmp_path / "a.npz", x=x, y=x.sum((1, 2)))
    done = gatewise("train", "forecaster", "--data", "a.npz", "--out", "run", "--set", "training.epochs=3")
    assert done.status == 0, done.err
    figures = [json.loads(gatewise("evaluate", "run", *more, "--json").out) for more in ((), ("--data", "a.npz"))]
    assert figures[0]["tokens"] == 20


def test_a_model_that_loses_to_its_baseline_says_so(gatewise: Gatewise, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "noise.npz", x=rng.normal(size=(60, 4, 1)), y=np.repeat([0, 1], [50, 10]))
    options = ("--set", "training.epochs=2", "--set", "training.learning_rate=2.0", "--set", "training.patience=0")
    done = gatewise("train", "sequence-classifier", "--data", "noise.npz", "--out", "run", *options)
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert metrics["test_accuracy"] <= metrics["majority_test_accuracy"]
    assert "this model is no better than its baseline (always the most frequent label): there may be too" in done.out


def test_new_writes_a_starter_and_overwrites_nothing(gatewise: Gatewise, tmp_path: Path) -> None:
    done = gatewise("new", "tagger")
    assert (done.status, done.err) == (0, "")
    assert done.out == "wrote tagger.toml; edit it, then: gatewise train tagger.toml\n"
    assert "# the tags of a sentence are chosen together" in (tmp_path / "tagger.toml").read_text()
    gatewise("new", "tagger").check_refused(2, "tagger.toml: already exists; choose another --out")
    gatewise("new", "tager").check_refused(2, "unknown recipe 'tager'", "did you mean tagger?")
    gatewise("new", "tagger", "--out", "none/a.toml").check_refused(2, "none/a.toml: cannot write it")
