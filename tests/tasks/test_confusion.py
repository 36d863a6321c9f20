"""The confusion matrix: counts, agreement with scikit-learn if installed, the table and the image."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from gatewise.inspection import style
from gatewise.tasks import confusion
from gatewise.tasks.confusion import Confusion

LABELS = ["DET", "NN", "V", "X"]
RIGHT = np.array([0, 1, 1, 2, 0, 1, 2])
GIVEN = np.array([0, 1, 2, 2, 1, 1, 1])


def test_counts_rows_are_what_is_right() -> None:
    found = Confusion.count(LABELS, RIGHT, GIVEN)
    assert found.counts.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert (found.total, found.accuracy) == (7, 4 / 7)


def test_figures_of_each_label_by_falling_count() -> None:
    figures = Confusion.count(LABELS, RIGHT, GIVEN).figures()
    assert [name for name in figures if name.startswith("f1_")] == ["f1_NN", "f1_DET", "f1_V", "f1_X"]
    assert figures["precision_NN"] == 2 / 4
    assert figures["recall_NN"] == 2 / 3
    assert figures["f1_NN"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert (figures["precision_DET"], figures["recall_DET"]) == (1.0, 0.5)
    assert [figures[f"tokens_{label}"] for label in LABELS] == [2, 3, 2, 0]
    assert [figures[f"{name}_X"] for name in ("precision", "recall", "f1")] == [None] * 3


def test_figures_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(3)
    right, given = draw.integers(4, size=300), draw.integers(4, size=300)
    found = Confusion.count(LABELS, right, given)
    expected = metrics.precision_recall_fscore_support(right, given)
    for name, values in zip(("precision", "recall", "f1", "tokens"), expected, strict=True):
        assert [found.figures()[f"{name}_{label}"] for label in LABELS] == pytest.approx(list(values))
    assert np.array_equal(found.counts, metrics.confusion_matrix(right, given))


def test_the_table_and_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = Confusion.count(LABELS, RIGHT, GIVEN)
    assert found.save(tmp_path / "figures", "test") == tmp_path / "figures" / "confusion.png"
    rows = list(csv.reader((tmp_path / "figures" / "confusion.csv").read_text().splitlines()))
    assert rows[0] == ["right \\ given", *LABELS]
    assert [row[0] for row in rows[1:]] == LABELS
    assert [[int(count) for count in row[1:]] for row in rows[1:]] == found.counts.tolist()
    assert (tmp_path / "figures" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_is_given_the_nouns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(confusion, "save_picture", lambda draw, measured, out: drawn.append(measured))
    found = Confusion.count(LABELS, RIGHT, GIVEN)
    found.save(tmp_path / "figures", "test")
    found.save(tmp_path / "figures", "test", "examples", "label")
    assert [(one.item, one.label) for one in drawn] == [("words", "tag"), ("examples", "label")]
    assert drawn[0].counts is found.counts


def test_without_matplotlib_there_is_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # makes an import fail
    path = Confusion.count(LABELS, RIGHT, GIVEN).save(tmp_path / "figures", "test")
    assert path == tmp_path / "figures" / "confusion.csv"
    assert [entry.name for entry in (tmp_path / "figures").iterdir()] == ["confusion.csv"]
