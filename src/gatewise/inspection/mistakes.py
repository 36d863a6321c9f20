"""A grid of sequences, as images or as lines, with the label of each and what it was taken for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from gatewise.inspection.fonts import short
from gatewise.inspection.style import LOOKS, WIDTH, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6


class Picture(NamedTuple):
    """A sequence and its caption.

    Attributes:
        numbers: (T, I).
        is_image: whether its rows are rows of pixels.
        label: its own label.
        predicted: the label that the model gives it.
        probability: the probability of that label.
    """

    numbers: npt.NDArray[np.floating]
    is_image: bool
    label: str
    predicted: str
    probability: float


def draw_pictures(pictures: Sequence[Picture], about: str, figure: "Figure") -> None:
    """Draw each sequence: images in grey, other sequences with a line for each of their first numbers per step."""
    lines = -(-len(pictures) // COLUMNS)
    figure.set_size_inches(WIDTH, 0.9 + 1.35 * lines)
    title(
        figure,
        f"The worst mistakes: {about}",
        "Above each: its label → what the model takes it for, with the probability. Least probable labels first.",
    )
    grid = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes, one in zip(grid.flat, pictures, strict=False):
        if one.is_image:
            axes.imshow(one.numbers, cmap="gray", aspect="auto" if np.ptp(one.numbers.shape) > 20 else "equal")
        else:
            for column, look in zip(one.numbers.T, LOOKS, strict=False):
                axes.plot(column, color=look.color, linestyle=look.line, linewidth=0.8)
        axes.set_xticks([])
        axes.set_yticks([])
        caption = f"{short(one.label, 11)} → {short(one.predicted, 11)}\n{100 * one.probability:.1f}%"
        axes.set_title(caption, fontsize=6.5, loc="center")
    for axes in grid.flat[len(pictures) :]:
        axes.set_visible(False)
