"""The confusion matrix: counts, precision and recall per label, and an image of the matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gatewise.inspection.confusion import ConfusionMatrix, draw_confusion
from gatewise.inspection.style import draws, save_picture, save_table


@dataclass(frozen=True)
class Confusion:
    """Counts of (true, predicted) label pairs.

    Attributes:
        labels: the C labels.
        counts: (C, C); rows are true labels, columns are predicted labels.
        unknown: (C,); how often each label was predicted for items whose true label is none of them.
    """

    labels: Sequence[str]
    counts: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.int64]

    @classmethod
    def count(cls, labels: Sequence[str], expected: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> "Confusion":
        """Count pairs of label indices, one pair per labelled item; a negative true index is an unknown label."""
        size, known = len(labels), expected >= 0
        unknown = np.bincount(found[~known], minlength=size)
        expected, found = expected[known], found[known]
        return cls(labels, np.bincount(expected * size + found, minlength=size * size).reshape(size, size), unknown)

    @property
    def total(self) -> int:
        """The number of labelled items."""
        return int(self.counts.sum() + self.unknown.sum())

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """How often each label was predicted, (C,)."""
        given: npt.NDArray[np.int64] = self.counts.sum(0) + self.unknown
        return given

    @property
    def accuracy(self) -> float:
        """The share of items labelled correctly."""
        return float(self.counts.trace() / self.total)

    @property
    def majority(self) -> int:
        """The number of items of the most frequent true label."""
        return int(self.counts.sum(1).max())

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that occur, true or predicted; 0 if none does."""
        both = self.predicted + self.counts.sum(1)
        each = 2 * self.counts.diagonal()[both > 0] / both[both > 0]
        return float(each.mean()) if len(each) else 0.0

    def figures(self) -> dict[str, float | int | None]:
        """Return ``precision_LABEL, recall_LABEL, f1_LABEL, tokens_LABEL`` of each label, most frequent first.

        ``precision = correct / predicted``, ``recall = correct / true``, ``f1 = 2 correct / (predicted + true)``; None
        where the denominator is zero.
        """
        right, there, given = self.counts.diagonal(), self.counts.sum(1), self.predicted
        found: dict[str, float | int | None] = {}
        for k in sorted(range(len(self.labels)), key=lambda k: (-there[k], self.labels[k])):
            label = self.labels[k]
            found[f"precision_{label}"] = _share(right[k], given[k])
            found[f"recall_{label}"] = _share(right[k], there[k])
            found[f"f1_{label}"] = _share(2 * right[k], given[k] + there[k])
            found[f"tokens_{label}"] = int(there[k])
        return found

    def save(self, folder: Path, title: str, item: str = "words", label: str = "tag") -> Path:
        """Write ``confusion.csv`` and, if ``draws()``, ``confusion.png``.

        Args:
            folder: created if missing.
            title: describes the evaluated data.
            item: the noun for what has a label, in the plural.
            label: the noun for a label.

        Returns:
            The path of the image, or of the table if there is no image.
        """
        folder.mkdir(parents=True, exist_ok=True)
        labels, counts = list(self.labels), self.counts
        if self.unknown.any():  # a row of their own, and an empty column
            labels, counts = [*labels, f"unknown {label}s"], np.pad(counts, ((0, 1), (0, 1)))
            counts[-1, :-1] = self.unknown
        rows = ([name, *row] for name, row in zip(labels, counts.tolist(), strict=True))
        save_table([["right \\ given", *labels], *rows], folder / "confusion.csv")
        if not draws():
            return folder / "confusion.csv"
        measured = ConfusionMatrix(labels, counts, title, item, label)
        save_picture(draw_confusion, measured, folder / "confusion.png")
        return folder / "confusion.png"


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
