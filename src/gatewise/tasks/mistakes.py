"""The examples that a classifier is most certain about, and wrong."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gatewise.artifact.atomic import write_atomically
from gatewise.inspection.mistakes import Picture, draw_pictures
from gatewise.inspection.style import draws, save_picture

MOST = 1000
"""Mistakes that are saved; there may be more."""
DRAWN = 24
"""Mistakes that are drawn, if the examples are sequences of numbers."""


class Mistake(NamedTuple):
    """An example whose most probable label is not its own.

    Attributes:
        example: its index in the split.
        where: the file, and the line or index in it.
        label: its label.
        predicted: the most probable label.
        probability: the probability of the predicted label.
        label_probability: the probability of its own label; 0 if the model does not know it.
        text: the text, if it is one.
    """

    example: int
    where: str
    label: str
    predicted: str
    probability: float
    label_probability: float
    text: str


def find_mistakes(
    probabilities: npt.NDArray[np.floating],
    targets: npt.NDArray[np.int64],
    labels: Sequence[Any],
    describe: Callable[[int], tuple[str, str, str]],
    most: int = MOST,
) -> list[Mistake]:
    """Return the mistakes, the least probable labels first.

    Args:
        probabilities: (N, C) of each label.
        targets: (N,) label indices; a negative index is an unknown label.
        labels: the C labels.
        describe: returns where an example comes from, its own label as text, and its text.
        most: the number of mistakes to return.
    """
    found, rows = probabilities.argmax(1), np.arange(len(targets))
    own = np.where(targets < 0, 0.0, probabilities[rows, np.maximum(targets, 0)])
    wrong = np.flatnonzero(found != targets)
    order = wrong[np.lexsort((-probabilities[wrong, found[wrong]], own[wrong]))][:most]
    mistakes = []
    for k in order.tolist():
        where, label, text = describe(k)
        p = float(probabilities[k, found[k]])
        mistakes.append(Mistake(k, where, label, str(labels[found[k]]), p, float(own[k]), text))
    return mistakes


def save_mistakes(mistakes: Sequence[Mistake], folder: Path, pictures: Sequence[Picture], title: str) -> Path:
    """Write ``mistakes.csv`` and, if there are pictures and ``draws()``, ``mistakes.png``.

    Args:
        mistakes: the mistakes, worst first.
        folder: created if missing.
        pictures: the numbers of the first mistakes, if the examples are sequences of numbers.
        title: describes the evaluated data.

    Returns:
        The path of the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(Mistake._fields[1:])
    for one in mistakes:
        shares = (f"{one.probability:.6g}", f"{one.label_probability:.6g}")
        writer.writerow([one.where, one.label, one.predicted, *shares, one.text])
    # A file name need not be Unicode.
    write_atomically(folder / "mistakes.csv", table.getvalue().encode("utf-8", "backslashreplace"))
    picture = folder / "mistakes.png"
    picture.unlink(missing_ok=True)  # of another evaluation
    if pictures and draws():
        save_picture(lambda shown, figure: draw_pictures(shown, title, figure), pictures, picture)
    return folder / "mistakes.csv"
