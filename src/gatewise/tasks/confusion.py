"""The confusion matrix: counts, precision and recall per label, and an image of the matrix."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gatewise.artifact.atomic import write_atomically
from gatewise.inspection.style import short


@dataclass(frozen=True)
class Confusion:
    """Counts of (true, predicted) label pairs.

    Attributes:
        labels: the C labels.
        counts: (C, C); rows are true labels, columns are predicted labels.
    """

    labels: Sequence[str]
    counts: npt.NDArray[np.int64]

    @classmethod
    def count(cls, labels: Sequence[str], expected: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> "Confusion":
        """Count pairs of label indices, one pair per labelled item; a negative index, an unknown label, is left out."""
        size, known = len(labels), expected >= 0
        expected, found = expected[known], found[known]
        return cls(labels, np.bincount(expected * size + found, minlength=size * size).reshape(size, size))

    @property
    def total(self) -> int:
        """The number of labelled items."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """The share of items labelled correctly."""
        return float(self.counts.trace() / self.counts.sum())

    @property
    def majority(self) -> int:
        """The number of items of the most frequent true label."""
        return int(self.counts.sum(1).max())

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that occur, true or predicted; 0 if none does."""
        both = self.counts.sum(0) + self.counts.sum(1)
        each = 2 * self.counts.diagonal()[both > 0] / both[both > 0]
        return float(each.mean()) if len(each) else 0.0

    def figures(self) -> dict[str, float | int | None]:
        """Return ``precision_LABEL, recall_LABEL, f1_LABEL, tokens_LABEL`` of each label, most frequent first.

        ``precision = correct / predicted``, ``recall = correct / true``, ``f1 = 2 correct / (predicted + true)``; None
        where the denominator is zero.
        """
        right, there, given = self.counts.diagonal(), self.counts.sum(1), self.counts.sum(0)
        found: dict[str, float | int | None] = {}
        for k in sorted(range(len(self.labels)), key=lambda k: (-there[k], self.labels[k])):
            label = self.labels[k]
            found[f"precision_{label}"] = _share(right[k], given[k])
            found[f"recall_{label}"] = _share(right[k], there[k])
            found[f"f1_{label}"] = _share(2 * right[k], given[k] + there[k])
            found[f"tokens_{label}"] = int(there[k])
        return found

    def save(self, folder: Path, title: str, item: str = "words", label: str = "tag") -> Path:
        """Write ``confusion.csv`` and, if Matplotlib is installed, ``confusion.png``.

        Args:
            folder: created if missing.
            title: describes the evaluated data.
            item: what is labelled, in the plural.
            label: what a label is called.

        Returns:
            The path of the image, or of the table if there is no image.
        """
        folder.mkdir(exist_ok=True)
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["right \\ given", *self.labels])
        writer.writerows([label, *row] for label, row in zip(self.labels, self.counts.tolist(), strict=True))
        write_atomically(folder / "confusion.csv", table.getvalue())
        if find_spec("matplotlib") is None:
            return folder / "confusion.csv"
        write_atomically(folder / "confusion.png", self._picture(title))
        return folder / "confusion.png"

    def _picture(self, title: str) -> bytes:
        """Draw the matrix: colours show shares of each row, numbers show counts."""
        from matplotlib.colors import PowerNorm
        from matplotlib.figure import Figure

        size = len(self.labels)
        shares = self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1)
        side = 2.5 + 0.42 * size
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.add_subplot()
        # Take the square root of the share, so that errors of a few percent remain visible.
        image = axes.imshow(100 * shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
        for row, column in zip(*np.nonzero(self.counts), strict=True):
            ink = "white" if shares[row, column] > 0.3 else "black"
            axes.text(column, row, _short(self.counts[row, column]), ha="center", va="center", color=ink, fontsize=6.5)
        names = [short(str(label)) for label in self.labels]
        axes.set_xticks(range(size), names, rotation=90)
        axes.set_yticks(range(size), names)
        axes.set_xlabel("predicted tag")
        axes.set_ylabel("true tag")
        axes.set_title(f"{100 * self.accuracy:.2f}% of {self.total:,} words correct ({short(title, 60)})", fontsize=10)
        figure.colorbar(image, ax=axes, label="% of the words with the true tag", shrink=0.8)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=150, format="png")
        return buffer.getvalue()


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _short(count: int) -> str:
    """Format a count in at most four characters."""
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
