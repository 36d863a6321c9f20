"""The wheel, installed where there is nothing but NumPy: a run of every task is loaded and gives its test figure."""

import csv
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import gatewise as gw
from gatewise.tasks.memory import draw_part
from tests.conftest import TINY_TAGGER
from tests.end_to_end import alone, fresh

pytestmark = pytest.mark.slow

LARGEST = 1_550_000
"""Bytes of the wheel. The target is 1,500,000; the server, its page and the client bring 100,000 more."""
LONGEST_IMPORT = 0.15
"""Seconds of the processor to import ``gatewise.runtime`` after NumPy."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if what := fresh.missing():
        pytest.skip(f"to build the wheel {what} is missing")
    return fresh.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and NumPy alone."""
    return fresh.make_environment(wheel, tmp_path_factory.mktemp("alone"))


class Case(NamedTuple):
    """A run, the file that its figure is measured on, and the figure's name."""

    run: Path
    file: Path
    figure: str


@pytest.fixture(scope="module")
def cases(
    corpus: Path,
    tiny_run: Path,
    comments: Path,
    scratch_run: Path,
    tagged: Path,
    tagger_run: Path,
    sequences: Path,
    classifier_run: Path,
    waves: Path,
    regressor_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Case]:
    """A run of every task; arrays stand in for a series and for drawn sequences."""
    folder = tmp_path_factory.mktemp("cases")
    genre = gw.train("ewt-genre", data=tagged, out=folder / "genre", overrides={**TINY_TAGGER, "training.epochs": 9})
    adding = {"data.length": 8, "data.batch_size": 16, "model.hidden_size": 8, "logging.tensorboard": False}
    memory = gw.train("memory-task", out=folder / "memory", overrides={**adding, "training.max_steps": 20})
    level = np.array([float(row["level"]) for row in csv.DictReader(waves.read_text().splitlines())])
    windows = np.lib.stride_tricks.sliding_window_view(level, 9)[-30:, :, None]
    np.savez(folder / "waves.npz", x=windows[:, :8], y=windows[:, 8, 0])
    drawn = draw_part("test", 8)
    np.savez(folder / "drawn.npz", x=drawn.x.reshape(2000, 8, 2), y=drawn.y)
    return {
        "language-model": Case(tiny_run, corpus / "toy.test.txt", "test_perplexity"),
        "scratch-language-model": Case(scratch_run, comments, "train_loss"),
        "tagger": Case(tagger_run, tagged / "toy-ud-test.conllu", "test_accuracy"),
        "text-classifier": Case(genre.path, tagged / "toy-ud-test.conllu", "test_accuracy"),
        "classifier": Case(classifier_run, sequences / "toy.test.npz", "test_accuracy"),
        "forecaster": Case(regressor_run, folder / "waves.npz", "test_rmse"),
        "memory-task": Case(memory.path, folder / "drawn.npz", "test_rmse"),
    }


@pytest.fixture(scope="module")
def found(python: Path, cases: dict[str, Case]) -> Any:
    """What the program of ``alone.py`` prints there."""
    words = [word for task, case in cases.items() for word in (task, case.run, case.file)]
    return json.loads(fresh.run(python, "-I", alone.__file__, *words))


def test_the_environment_has_numpy_alone(found: dict[str, Any]) -> None:
    assert found["distributions"] == ["gatewise", "numpy"] + ["tomli"] * (sys.version_info < (3, 11))
    assert not found["torch"]


def test_every_task_gives_its_test_figure(found: dict[str, Any], cases: dict[str, Case]) -> None:
    for task, case in cases.items():
        figure, _ = found["runs"][task]
        assert figure == pytest.approx(gw.Run(case.run).metrics[case.figure], rel=1e-6), task


def test_what_the_figures_are_made_of(found: dict[str, Any], cases: dict[str, Case]) -> None:
    """Tags, probabilities, predictions and losses are those of the models of PyTorch."""
    for task, case in cases.items():
        _, expected = alone.FIGURES[task](gw.load(case.run), case.file)
        _, parts = found["runs"][task]
        if task == "tagger":
            assert parts == expected
        else:
            np.testing.assert_allclose(parts, expected, rtol=2e-6, atol=1e-7, err_msg=task)


def test_size_of_the_wheel(wheel: Path) -> None:
    assert wheel.stat().st_size <= LARGEST


def test_time_to_import(found: dict[str, Any]) -> None:
    assert found["import_seconds"] <= LONGEST_IMPORT
