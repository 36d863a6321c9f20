"""The confusion matrix: how often each true label was predicted as each label."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gatewise.inspection.fonts import columns, short
from gatewise.inspection.style import AMOUNT, WIDTH, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 40
"""Maximum number of rows; with more labels, the last row and column gather the less frequent ones."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts of (true, predicted) label pairs, and how to name what was counted.

    Attributes:
        labels: the C labels.
        counts: (C, C); rows are true labels, columns are predicted labels.
        name: the evaluated data.
        item: the noun for what has a label, in the plural.
        label: the noun for a label.
    """

    labels: Sequence[str]
    counts: npt.NDArray[np.int64]
    name: str
    item: str = "words"
    label: str = "tag"

    def gathered(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return the labels and counts to show: all, or the most frequent true labels and the sum of the others."""
        names = [short(str(label)) for label in self.labels]
        if len(names) <= MOST_LABELS:
            return names, self.counts
        order = np.lexsort((-self.counts.sum(0), -self.counts.sum(1)))
        kept = np.sort(order[: MOST_LABELS - 1])
        group = np.full(len(names), MOST_LABELS - 1)
        group[kept] = np.arange(len(kept))
        counts = np.zeros((MOST_LABELS, MOST_LABELS), np.int64)
        np.add.at(counts, (group[:, None], group[None, :]), self.counts)
        return [*(names[k] for k in kept), f"other ({len(names) - len(kept)})"], counts


def draw_confusion(data: ConfusionMatrix, figure: "Figure") -> None:
    """Draw the matrix: colours show shares of each row, numbers show counts."""
    from matplotlib.colors import PowerNorm

    names, counts = data.gathered()
    size, total, right = len(names), int(counts.sum()), int(data.counts.trace())
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cell = min(1.0, max(0.23, 7 / size))
    room = 0.06 * max(map(columns, names))
    figure.set_size_inches(max(WIDTH, cell * size + room + 1.5), cell * size + room + 1.2)
    below = (
        f"Numbers are counts of {data.item}; an empty cell is 0. Colours are shares of a row, on a square-root scale."
    )
    if size < len(data.labels):
        below += (
            f" Shown are the {size - 1} most frequent {data.label}s; the others are gathered in the last row and "
            f"column. confusion.csv has all {len(data.labels)}."
        )
    correct = f"{100 * right / total:.2f}% of {total:,}" if total else "0"
    title(figure, f"{correct} {data.item} correct ({short(data.name, 40)})", below)
    axes = figure.subplots()
    # The square root keeps errors of a few percent visible.
    image = axes.imshow(shares, cmap=AMOUNT, norm=PowerNorm(0.5, 0, 100), aspect="auto")
    for row, column in zip(*np.nonzero(counts), strict=True):
        ink = "black" if shares[row, column] > 25 else "white"
        text = _short(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=min(6.5, 72 * cell * 0.3))
    axes.set_xticks(range(size), names, rotation=90)
    axes.set_yticks(range(size), names)
    axes.set(xlabel=f"predicted {data.label}", ylabel=f"true {data.label}")
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(True)
    figure.colorbar(image, ax=axes, label="% of the row", pad=0.015)


def _short(count: int) -> str:
    """Format a count in at most four characters."""
    for size, unit in ((10_000, ""), (1_000_000, "k"), (1_000_000_000, "M")):
        if count < size:
            return f"{count // max(1, size // 1000) if unit else count}{unit}"
    return f"{count // 1_000_000_000}G"
