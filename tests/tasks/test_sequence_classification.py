"""Sequence classifiers from files to metrics: arrays, digits, MNIST, and errors in them."""

import json
from pathlib import Path

import numpy as np
import pytest

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import DataError, RunError, UsageError
from gatewise.tasks.evaluate import evaluate
from tests.conftest import TINY_CLASSIFIER, unseal, write_sequences


def test_it_learns_what_can_be_learnt_and_leaves_a_run_folder(sequences: Path, classifier_run: Path) -> None:
    lines = RunFolder(classifier_run).read_metrics()
    *evaluations, final = lines
    assert [line["step"] for line in evaluations] == [10, 20, 30, 40]
    assert all({"train_loss", "train_accuracy", "valid_accuracy", "epoch"} <= line.keys() for line in evaluations)
    assert evaluations[-1]["train_loss"] < 0.5 * evaluations[0]["train_loss"]
    assert final["test_accuracy"] > 0.9 > final["majority_test_accuracy"]
    assert final["test_tokens"] == 30
    best = max(line["valid_accuracy"] for line in evaluations)
    assert final["best_step"] == next(line["step"] for line in evaluations if line["valid_accuracy"] == best)
    facts = json.loads((classifier_run / "labels.json").read_text())
    assert facts == {"labels": [3, 5, 8], "input_size": 4, "steps": 6}
    card = (classifier_run / "README.md").read_text()
    assert f"{100 * final['test_accuracy']:.2f}%" in card
    assert "gatewise classify" in card


def test_evaluate_scores_as_by_hand(sequences: Path, classifier_run: Path) -> None:
    figures = evaluate(classifier_run, split="valid")
    with np.load(sequences / "toy.valid.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    model = gw.load(classifier_run)
    assert figures["accuracy"] == pytest.approx(float((model.predict(x) == y).mean()))
    assert list(figures)[:6] == ["task", "split", "accuracy", "tokens", "oov_rate", "data_hash"]
    for label in (3, 5, 8):
        own, found = y == label, model.predict(x) == label
        hits = float((own & found).sum())
        assert figures[f"precision_{label}"] == (pytest.approx(hits / found.sum()) if found.any() else None)
        assert figures[f"recall_{label}"] == pytest.approx(hits / own.sum())
        assert figures[f"f1_{label}"] == pytest.approx(2 * hits / (own.sum() + found.sum()))
    assert figures["macro_f1"] == pytest.approx(np.mean([figures[f"f1_{label}"] for label in (3, 5, 8)]))
    assert (figures["task"], figures["split"], figures["tokens"], figures["oov_rate"]) == ("classifier", "valid", 20, 0)
    again = evaluate(classifier_run, data=sequences, split="valid")
    files = ("confusion", "mistakes")
    assert {**again, **dict.fromkeys(files)} == {**figures, **dict.fromkeys(files)}
    assert all("other-data" in again[name] and "other-data" not in figures[name] for name in files)


@pytest.mark.parametrize(
    ("factor", "offset", "message"),
    [
        (1.0, 1e9, r"x: column 0 is 1000000000 ± 0\.\d+, which float32 cannot resolve; expected numbers near 1"),
        (1e-50, 0.0, r"x: column 0 is \S+e-51 ± \S+e-51, which float32 cannot resolve"),
        (1e300, 0.0, r"x contains \S+e\+300, which is too large; expected numbers that fit float32"),
    ],
)
def test_numbers_of_which_float32_keeps_nothing_are_refused(
    tmp_path: Path, factor: float, offset: float, message: str
) -> None:
    """A classifier does not scale its input."""
    folder = write_sequences(tmp_path / "odd")
    for path in folder.glob("*.npz"):
        with np.load(path) as arrays:
            np.savez(path, x=factor * arrays["x"].astype(np.float64) + offset, y=arrays["y"])
    with pytest.raises(DataError, match=rf"odd \(train\): {message}"):
        gw.train("mnist-rows", data=folder, out=tmp_path / "run", overrides=TINY_CLASSIFIER)
    assert not (tmp_path / "run").exists()


def test_a_label_that_training_did_not_have_is_an_error_of_the_model(classifier_run: Path, tmp_path: Path) -> None:
    figures = evaluate(classifier_run, data=write_sequences(tmp_path / "other", labels=(8, 9, 10)))
    assert figures["accuracy"] == 0 and figures["tokens"] > 0


def test_resume_of_a_run_cut_short_ends_as_one_that_was_not(
    sequences: Path, classifier_run: Path, tmp_path: Path
) -> None:
    short = {**TINY_CLASSIFIER, "training.max_steps": 25}
    gw.train("mnist-rows", data=sequences, out=tmp_path / "run", overrides=short)
    gw.train("mnist-rows", data=sequences, out=tmp_path / "run", overrides=TINY_CLASSIFIER, resume=True)
    a, b = RunFolder(tmp_path / "run"), RunFolder(classifier_run)
    figures = [[line["valid_accuracy"] for line in run.read_metrics()[:-1] if line["step"] % 10 == 0] for run in (a, b)]
    assert figures[0] == figures[1]
    assert a.read_metrics()[-1]["test_accuracy"] == b.read_metrics()[-1]["test_accuracy"]


def test_one_label_alone_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    folder = write_sequences(tmp_path / "same", labels=(3, 3, 3))
    with pytest.raises(DataError, match="only one class, 3"):
        gw.train("mnist-rows", data=folder, out=tmp_path / "run", overrides=TINY_CLASSIFIER)
    assert not (tmp_path / "run").exists()


def test_no_data_or_two_places_or_another_tasks_builtin(tmp_path: Path) -> None:
    for overrides, message in (
        ({}, "names no data"),
        ({"data.path": "x", "data.builtin": "digits"}, "names both path and builtin"),
        ({"data.builtin": "sunspots"}, "'sunspots', which this task does not support"),
    ):
        with pytest.raises(UsageError, match=message):
            gw.train("mnist-rows", out=tmp_path / "run", overrides=overrides)


def test_a_language_model_is_no_classifier(tiny_run: Path, classifier_run: Path) -> None:
    from gatewise.models.language_model import LanguageModel
    from gatewise.models.loading import load

    with pytest.raises(UsageError, match="a classifier run, which holds a SequenceClassifier; expected one that"):
        load(classifier_run, LanguageModel)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "labels.json: no such file"),
        ("[1", "labels.json: invalid JSON"),
        ('{"labels": [1, 2]}', "labels.json: missing key 'input_size'"),
        ('{"labels": [1, 2], "input_size": 4}', r"decoder.weight has shape \(3, 8\); expected \(2, 8\)"),
    ],
)
def test_a_run_whose_labels_are_damaged(
    classifier_run: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(classifier_run, copy)
    unseal(copy)
    (copy / "labels.json").unlink()
    if content is not None:
        (copy / "labels.json").write_text(content)
    with pytest.raises(RunError, match=message):
        gw.load(copy)


@pytest.mark.slow
def test_digits_are_read_without_a_download(tmp_path: Path) -> None:
    run = gw.train("digits-rows", out=tmp_path / "run", overrides={"training.epochs": 6, "logging.tensorboard": False})
    assert run.metrics["test_accuracy"] > 0.6
    assert run.model.predict_proba_over_time(np.zeros((1, 8, 8), np.float32)).shape == (1, 8, 10)
