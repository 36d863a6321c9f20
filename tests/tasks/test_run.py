"""A finished run in Python: opened, evaluated, drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import gatewise as gw
from gatewise.cli.main import run as command
from gatewise.errors import InputError, RunError
from tests.conftest import TINY


def test_a_run_is_opened_again(classifier_run: Path) -> None:
    run = gw.Run(classifier_run)
    lines = [json.loads(line) for line in (classifier_run / "metrics.jsonl").read_text().splitlines()]
    assert run.path == classifier_run
    assert run.metrics == lines[-1]
    assert run.history == lines[:-1]
    assert run.model is run.model
    assert run.model.labels == [3, 5, 8]
    assert run.sample is None
    accuracy = run.metrics["test_accuracy"]
    assert repr(run).startswith(f"Run({str(classifier_run)!r}, test_accuracy={accuracy:.4g}, ")
    assert ", majority_test_accuracy=" in repr(run)
    assert "hash" not in repr(run)
    assert repr(run).endswith(f", best_epoch={run.metrics['best_epoch']}, best_step={run.metrics['best_step']})")


def test_an_evaluation_has_the_figures_of_the_command(classifier_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = gw.Run(classifier_run)
    for split in (None, "valid"):
        with pytest.raises(SystemExit):
            command(["evaluate", str(classifier_run), "--json", *(["--split", split] if split else [])])
        assert run.evaluate(split=split) == json.loads(capsys.readouterr().out)


def test_a_split_that_there_is_not(classifier_run: Path) -> None:
    with pytest.raises(InputError, match=r"split is 'dev'; expected 'train', 'valid' or 'test'"):
        gw.Run(classifier_run).evaluate(split="dev")


def test_an_evaluation_of_data_from_memory(classifier_run: Path, sequences: Path) -> None:
    """As a whole, and a split of given ones; what is wrong with it is said as in training."""
    run = gw.Run(classifier_run)
    with np.load(sequences / "toy.test.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    files = dict.fromkeys(("confusion", "mistakes"))  # those of other data are in another folder
    own = {**run.evaluate(), **files}
    assert {**run.evaluate((x, y)), **files} == own
    assert {**run.evaluate(sequences, split="test"), **files} == own
    parts = {"train": (x, y), "valid": (x, y), "test": (x[:9], y[:9])}
    assert run.evaluate(parts)["tokens"] == 9
    assert {**run.evaluate(parts, split="valid"), **files} == {**own, "split": "valid"}
    with pytest.raises(InputError, match="30 sequences in x and 2 answers in y"):
        run.evaluate((x, y[:2]))


def test_an_evaluation_uses_the_names_of_the_columns(tmp_path: Path) -> None:
    """Lists and arrays have no names of their own."""
    pd = pytest.importorskip("pandas")
    quick = {"model.hidden_size": 8, "training.epochs": 2, "logging.tensorboard": False}
    reviews = pd.DataFrame({"review": ["good soup", "bad soup"] * 20, "stars": [5, 1] * 20})
    run = gw.train("text-classifier", data=reviews, out=tmp_path / "texts", overrides=quick)
    as_frame, as_lists = run.evaluate(reviews), run.evaluate((list(reviews["review"]), [5, 1] * 20))
    assert as_lists == {**as_frame, "data_hash": as_lists["data_hash"]}
    waves = pd.DataFrame({"sea": np.sin(np.arange(100) / 3), "wind": np.cos(np.arange(100) / 3)})
    run = gw.train("forecaster", data=waves, out=tmp_path / "series", overrides=quick)
    assert run.evaluate(waves.to_numpy())["rmse"] == run.evaluate(waves)["rmse"]


def test_the_curves_are_a_figure(classifier_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = gw.Run(classifier_run).plot()
    (axes,) = (axes for axes in figure.axes if axes.get_ylabel() == "accuracy")
    valid = [line["valid_accuracy"] for line in gw.Run(classifier_run).history]
    assert any(line.get_ydata().tolist() == valid for line in axes.lines)  # type: ignore[union-attr]
    figure.savefig(tmp_path / "curves.png")


def test_only_a_finished_run_is_opened(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder; expected a run folder"):
        gw.Run(tmp_path / "none")
    copy = Path(shutil.copytree(tiny_run, tmp_path / "copy"))
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(RunError, match=r"not finished; continue it with gatewise\.train\(out='.*', resume=True\)"):
        gw.Run(copy)


@pytest.mark.parametrize(("progress", "shown"), [(None, False), (False, False), (True, True)])
def test_what_a_script_without_a_terminal_prints(
    progress: bool | None, shown: bool, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gw.train("demo", data=corpus, out=tmp_path, overrides=TINY, progress=progress)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert ("valid perplexity" in printed.err) == shown
    assert bool(printed.err) == shown
