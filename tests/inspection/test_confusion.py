"""The picture of the confusion matrix."""

import numpy as np
import pytest

from gatewise.inspection.confusion import MOST_LABELS, ConfusionMatrix, draw_confusion
from gatewise.inspection.style import make_figure
from tests.inspection.readable import check_readable


def matrix(size: int, name: str = "label") -> ConfusionMatrix:
    draw = np.random.default_rng(size)
    counts = draw.integers(0, 12_000, (size, size)) * (draw.random((size, size)) > 0.5)
    return ConfusionMatrix([f"{name} {k}" for k in range(size)], counts, "test, 0123456789ab", "examples", "label")


@pytest.mark.parametrize("size", [1, 2, 3, 17, 40, 41, 300])
@pytest.mark.parametrize("name", ["l", "a class with a very long name, number"])
def test_nothing_is_cut_off_or_hidden(size: int, name: str) -> None:
    figure = make_figure(draw_confusion, matrix(size, name))
    texts = check_readable(figure)
    assert {"true label", "predicted label"} <= set(texts)
    width, height = figure.get_size_inches()
    assert width < 14
    assert height < 14


def test_the_most_frequent_labels_are_shown_and_the_others_gathered() -> None:
    counts = np.zeros((100, 100), int)
    counts[np.arange(100), np.arange(100)] = 1000 + np.arange(100)
    counts[3, 99] = 7
    counts[98, 5] = 4
    counts[3, 5] = 2
    data = ConfusionMatrix([f"L{k}" for k in range(100)], counts, "test")
    names, shown = data.gathered()
    assert names == [*(f"L{k}" for k in range(61, 100)), "other (61)"]
    assert shown.shape == (MOST_LABELS, MOST_LABELS)
    assert shown.sum() == counts.sum()
    assert (shown[-1, 38], shown[37, -1]) == (7, 4)
    assert shown[-1, -1] == counts[:61, :61].sum()
    texts = " ".join(check_readable(make_figure(draw_confusion, data))).replace("\n", " ")
    assert "the 39 most frequent tags; the others are gathered in the last row and column" in texts
    assert "confusion.csv has all 100" in texts


def test_the_share_that_is_right_counts_every_label() -> None:
    counts = np.array([[8, 2], [1, 9]])
    figure = make_figure(draw_confusion, ConfusionMatrix(["no", "yes"], counts, "test", "texts", "class"))
    assert {"85.00% of 20 texts correct (test)", "true class"} <= set(check_readable(figure))


def test_a_matrix_without_counts() -> None:
    empty = ConfusionMatrix(["no", "yes"], np.zeros((2, 2), int), "test")
    assert "0 words correct (test)" in check_readable(make_figure(draw_confusion, empty))
