"""``rows``: an image, and the class probabilities after each of its rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float

from gatewise.inspection.fonts import short
from gatewise.inspection.style import AMOUNT, BLUE, GREEN, INK, PALE, VERMILLION, WIDTH, title
from gatewise.inspection.ticks import name_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.patches import Patch

    from gatewise.models.sequence_classifier import SequenceClassifier

GRID = 28
"""Maximum number of bar charts; for longer sequences, evenly spaced steps including the last are shown."""


@dataclass(frozen=True)
class RowsReading:
    """An image and the predictions made while reading it.

    Attributes:
        image: (T, I), in the units of the training data.
        probabilities: (T, C); row t is the prediction after the first t + 1 rows.
        labels: the C classes.
        name: the run, and the source of the image.
        true: the true label, if the data has it.
    """

    image: npt.NDArray[np.floating]
    probabilities: npt.NDArray[np.floating]
    labels: Sequence[str]
    name: str = ""
    true: str | None = None

    @property
    def answer(self) -> int:
        """The index of the most probable class after the last row."""
        return int(self.probabilities[-1].argmax())

    @property
    def decided(self) -> int:
        """The first row, counted from 1, from which on the most probable class equals the final one."""
        others = np.flatnonzero(self.probabilities.argmax(1) != self.answer)
        return int(others[-1]) + 2 if len(others) else 1

    @property
    def verdict(self) -> str:
        """A one-sentence summary."""
        return (
            f"read as {self.labels[self.answer]} with probability {self.probabilities[-1, self.answer]:.3f}; in the "
            f"lead for good from row {self.decided} of {len(self.image)} on"
            + ("" if self.true is None else f"; the true label is {self.true}")
        )

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per image row and class."""
        known = self.true is not None
        yield ("row", "class", "probability", *(("true",) if known else ()))
        for row, line in enumerate(self.probabilities, 1):
            for label, probability in zip(self.labels, line, strict=True):
                yield (row, label, float(probability), *((int(label == self.true),) if known else ()))


def measure_rows(
    model: "SequenceClassifier", image: Float[torch.Tensor, "T I"], name: str = "", true: str | None = None
) -> RowsReading:
    """Compute a classifier's prediction after each row of one image."""
    probabilities = model.predict_proba_over_time(image[None])[0]
    labels = [str(label) for label in model.labels]
    return RowsReading(image.cpu().numpy(), probabilities.cpu().numpy(), labels, name, true)


def draw_rows(data: RowsReading, figure: "Figure") -> None:
    """Draw the image, the prediction after each row as a heatmap, and the predictions as small bar charts."""
    T = len(data.image)
    shown = np.unique(np.linspace(0, T - 1, min(T, GRID)).round().astype(int))
    columns = min(len(shown), 7 if len(shown) > 8 else 4)
    lines = -(-len(shown) // columns)
    figure.set_size_inches(WIDTH, 3.5 + 0.78 * lines)
    title(
        figure,
        f"{short(data.name, 55) or 'An image'}, read row by row",
        f"{data.verdict[0].upper()}{data.verdict[1:]}.",
    )
    above, below = figure.subfigures(2, 1, height_ratios=(3.1, 0.78 * lines), hspace=0.02, squeeze=False)[:, 0]
    _draw_image_and_verdicts(data, above)
    _draw_bars(data, below, shown, columns)


def _draw_image_and_verdicts(data: RowsReading, figure: "SubFigure") -> None:
    T, C = data.probabilities.shape
    image, verdict = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.25))
    image.imshow(data.image, cmap="gray_r", aspect="auto")
    image.set_box_aspect(1)
    true = "" if data.true is None else f"; true label: {short(data.true, 10)}"
    image.set(title=f"what is read{true}", xlabel="column", ylabel="row")
    name_steps(image, [str(k + 1) for k in range(T)], 15, vertical=True)
    name_steps(image, [str(k + 1) for k in range(data.image.shape[1])], 8)
    shades = verdict.imshow(data.probabilities, cmap=AMOUNT, vmin=0, vmax=1, aspect="auto")
    verdict.set(title="what the model believes after that row", xlabel="class")
    names = [short(label, 12) for label in data.labels]
    name_steps(verdict, names, 30)
    if max(map(len, names)) * C > 40:
        verdict.tick_params("x", rotation=90)
    figure.colorbar(shades, ax=verdict, label="probability", pad=0.02)
    left = data.answer >= C / 2  # the other half of the classes is dark where the lead was taken
    below = data.decided <= max(1, 0.9 * T)
    verdict.annotate(
        f"in the lead for good: {names[data.answer]}",
        (-0.4 if left else C - 0.6, data.decided - 1.5),
        xytext=(0, -3 if below else 3),
        textcoords="offset points",
        color="white",
        fontsize=7,
        ha="left" if left else "right",
        va="top" if below else "bottom",
    )
    for axes, color in ((image, VERMILLION), (verdict, "white")):
        axes.axhline(data.decided - 1.5, color=color, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.spines[["top", "right"]].set_visible(True)


def _draw_bars(data: RowsReading, figure: "SubFigure", shown: npt.NDArray[np.int_], columns: int) -> None:
    C = data.probabilities.shape[1]
    grid = figure.subplots(-(-len(shown) // columns), columns, sharex=True, sharey=True, squeeze=False)
    figure.supylabel("probability", fontsize=8)
    names = [short(label, 10) for label in data.labels]
    labelled = max(map(len, names)) <= 2 and C <= 12
    for axes, row in zip(grid.flat, shown, strict=False):
        leader = int(data.probabilities[row].argmax())
        colors = [GREEN if label == data.true else PALE for label in data.labels]
        colors[data.answer] = BLUE
        if leader != data.answer:
            colors[leader] = VERMILLION
        axes.bar(range(C), data.probabilities[row], color=colors, edgecolor=INK, linewidth=0.3, width=0.85)
        axes.set(ylim=(0, 1), yticks=(0, 1), xlim=(-0.6, C - 0.4))
        axes.set_title(f"row {row + 1}: {names[leader]}", fontsize=6.5, pad=2)
        axes.set_xticks(range(C) if labelled else [], names if labelled else [])
        axes.tick_params(labelsize=6, length=2, pad=1.5)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    figure.legend(handles=_colors(data), loc="outside upper right", ncols=4, handlelength=1.2)


def _colors(data: RowsReading) -> list["Patch"]:
    from matplotlib.patches import Patch

    names = {BLUE: "the final answer", VERMILLION: "in the lead before it", PALE: "the other classes"}
    if data.true in data.labels and data.true != data.labels[data.answer]:
        names = {GREEN: "the true label", **names}
    elif data.true is not None:
        names[BLUE] += ", right" if data.true in data.labels else ", wrong"
    return [Patch(facecolor=color, edgecolor=INK, linewidth=0.3, label=name) for color, name in names.items()]
