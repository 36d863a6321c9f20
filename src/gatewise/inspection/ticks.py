"""Ticks and their labels: no axis has two ticks with the same label."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MOST_DIGITS = 17
"""Decimal digits that tell any two float64 numbers apart."""


def tick_labels(values: Sequence[float]) -> list[str]:
    """Write evenly spaced numbers with as few decimals as tell them apart, all with the same number."""
    if not len(values):
        return []
    largest = max(abs(float(value)) for value in values)
    power = 0 if largest == 0 or 1e-3 <= largest < 1e6 else int(np.floor(np.log10(largest)))
    numbers = [Decimal(float(value)).scaleb(-power) for value in values]
    apart = sorted(set(numbers))
    error = min((b - a for a, b in pairwise(apart)), default=abs(apart[0])) / 50
    for digits in range(_MOST_DIGITS + 1):
        labels = [f"{number:,.{digits}f}" for number in numbers]
        rounded = [round(number, digits) for number in numbers]
        if len(set(labels)) == len(apart) and all(abs(a - b) <= error for a, b in zip(rounded, numbers, strict=True)):
            break
    labels = [label.replace("-", "−") for label in labels]
    unit = f"×10{str(power).translate(_RAISED)}"
    return [label + unit if number else "0" for label, number in zip(labels, numbers, strict=True)] if power else labels


def decade_labels(values: Sequence[float]) -> list[str]:
    """Write the ticks of a logarithmic axis: as decimals within six decades around 1, else as powers of ten."""
    if all(1e-3 <= value <= 1e6 for value in values):
        return [f"{value:,.10g}" for value in values]
    labels = []
    for value in values:
        power = np.floor(np.log10(value) + 1e-9)
        factor = f"{value / 10.0**power:.3g}"
        labels.append(f"{'' if factor == '1' else factor + '×'}10{str(int(power)).translate(_RAISED)}")
    return labels


def formatter(labels: Callable[[Sequence[float]], list[str]]) -> "Formatter":
    """Return Matplotlib's interface to a function that labels all ticks of an axis."""
    from matplotlib.ticker import Formatter

    class Labels(Formatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return self.format_ticks([x])[0]

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            return labels(values)

    return Labels()


def label_numbers(figure: "Figure") -> None:
    """Label the ticks of every axis that has no labels of its own with ``tick_labels``."""
    from matplotlib.ticker import ScalarFormatter

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_formatter(formatter(tick_labels))


def name_steps(axes: "Axes", names: Sequence[str], room: int, *, vertical: bool = False) -> None:
    """Label the steps on the x (or y) axis: all of them, or at regular intervals if there is not enough room."""
    every = max(1, -(-len(names) // room))
    places = range(0, len(names), every)
    if vertical:
        axes.set_yticks(places, [names[k] for k in places])
    else:
        axes.set_xticks(places, [names[k] for k in places])


def count_from_left(axes: "Axes", most: int = 5) -> None:
    """Label integers on the x axis, at most ``most`` of them."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(formatter(tick_labels))


def within(axes: "Axes", low: float, high: float) -> None:
    """Keep the y axis within the bounds of a metric."""
    below, above = axes.get_ylim()
    axes.set_ylim(max(below, low), min(above, high))


def spread(heights: npt.NDArray[np.floating], gap: float) -> npt.NDArray[np.floating]:
    """Move ascending heights in [0, 1] as little as possible to stand a gap apart, and half a gap from both ends."""
    groups = list[list[float]]()
    for height in heights - gap * np.arange(len(heights)):
        groups.append([float(height)])
        while len(groups) > 1 and np.mean(groups[-2]) >= np.mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    lowest = np.concatenate([np.full(len(group), np.mean(group)) for group in groups])
    moved: npt.NDArray[np.floating] = lowest.clip(gap / 2, 1 - gap * (len(heights) - 0.5)) + gap * np.arange(
        len(heights)
    )
    return moved


def whole_decades(axes: "Axes", letter: str, values: npt.NDArray[np.floating], most: float = 12) -> None:
    """Make the x or y axis logarithmic, with limits at powers of ten; shows at most the ``most`` largest decades."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    positive = values[np.isfinite(values) & (values > 0)]
    high = np.ceil(np.log10(positive.max(initial=1e-300)) - 1e-9)
    low = max(np.floor(np.log10(positive.min(initial=10.0**high)) + 1e-9), high - most)
    axes.set(**{f"{letter}scale": "log", f"{letter}lim": (10.0 ** min(low, high - 1), 10.0**high)})
    axis = axes.xaxis if letter == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_major_formatter(formatter(decade_labels))
    axis.set_minor_formatter(NullFormatter())
    if high - low > 3:
        axis.set_minor_locator(NullLocator())
