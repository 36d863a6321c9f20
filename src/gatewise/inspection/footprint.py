"""``footprint``: peak memory and time of two image classifiers, as measured by ``gatewise bench footprint``."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from gatewise.errors import DataError
from gatewise.files import LONGEST_RECORD, read_bounded
from gatewise.inspection.fonts import short
from gatewise.inspection.style import BLUE, INK, ORANGE, WIDTH, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ModelFootprint:
    """Memory and time that one model needed.

    Attributes:
        name: the model.
        parameters: the number of its parameters.
        start_mib: peak resident memory of the process before the batch: Python, PyTorch, weights and images.
        peak_mib: peak resident memory after the batch.
        seconds: the time of each turn.
    """

    name: str
    parameters: int
    start_mib: float
    peak_mib: float
    seconds: Sequence[float]


@dataclass(frozen=True)
class Footprint:
    """A result of the benchmark."""

    models: Sequence[ModelFootprint]
    images: int
    threads: int
    machine: str
    date: str

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per model and turn."""
        yield "model", "parameters", "images", "start_mib", "peak_mib", "turn", "seconds"
        for c in self.models:
            for turn, seconds in enumerate(c.seconds, 1):
                yield c.name, c.parameters, self.images, c.start_mib, c.peak_mib, turn, seconds


def read_footprint(path: str | Path) -> Footprint:
    """Read a file written by ``gatewise bench footprint``.

    Raises:
        DataError: the file is missing or has other contents.
    """
    path = Path(path).expanduser()
    raw = read_bounded(path, LONGEST_RECORD, "the file that gatewise bench footprint writes")
    try:
        found: Any = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("bench") != "footprint":
        what = f"the result of bench {found['bench']}" if isinstance(found, dict) and "bench" in found else "no result"
        raise DataError(f"{path}: {what}; expected the JSON that gatewise bench footprint writes")
    try:
        models = [ModelFootprint(**model) for model in found["contestants"]]
        return Footprint(models, *(found[key] for key in ("images", "threads", "machine", "date")))
    except (KeyError, TypeError) as problem:
        raise DataError(
            f"{path}: a figure is missing or wrong ({problem}); run gatewise bench footprint again"
        ) from None


def draw_footprint(data: Footprint, figure: "Figure") -> None:
    """Draw bars of peak memory and time."""
    from matplotlib.patches import Patch

    figure.set_size_inches(WIDTH, 1.6 + 0.42 * len(data.models))
    kinds = {"before the batch": ("#DDDDDD", ""), "the batch itself": (BLUE, "///")}
    names = [
        Patch(facecolor=color, hatch=hatch, edgecolor=INK, linewidth=0.5, label=text)
        for text, (color, hatch) in kinds.items()
    ]
    title(
        figure,
        f"Predicting {data.images:,} images in one batch",
        f"{data.machine}, {data.threads} thread(s), {data.date}; each model in a process of its own; time is the "
        f"median of {len(data.models[0].seconds)} turns, the whisker their range.",
        names,
    )
    memory, time = figure.subplots(1, 2, sharey=True)
    labels = [f"{short(c.name, 50)}\n{c.parameters:,} weights" for c in data.models]
    places = range(len(labels))
    start = [c.start_mib for c in data.models]
    growth = [c.peak_mib - c.start_mib for c in data.models]
    for (color, hatch), widths, left in zip(kinds.values(), (start, growth), (0, start), strict=True):
        memory.barh(places, widths, left=left, color=color, hatch=hatch, edgecolor=INK, linewidth=0.5)
    middle = [median(c.seconds) for c in data.models]
    low = [m - min(c.seconds) for m, c in zip(middle, data.models, strict=True)]
    high = [max(c.seconds) - m for m, c in zip(middle, data.models, strict=True)]
    time.barh(places, middle, xerr=[low, high], color=ORANGE, edgecolor=INK, linewidth=0.5, capsize=2)
    memory.set_yticks(places, labels)
    memory.invert_yaxis()
    memory.set(title="peak of resident memory", xlabel="MiB")
    time.set(title="time", xlabel="seconds")
    _write(memory, [c.peak_mib for c in data.models], [f"{c.peak_mib:,.0f} MiB" for c in data.models])
    _write(time, [max(c.seconds) for c in data.models], [f"{m:.2f} s" for m in middle])


def _write(axes: "Axes", ends: Sequence[float], texts: Sequence[str]) -> None:
    """Write the value at the end of each bar."""
    axes.set_xlim(0, 1.22 * max(ends))
    for place, (end, text) in enumerate(zip(ends, texts, strict=True)):
        axes.annotate(text, (end, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.locator_params("x", nbins=5)
    axes.tick_params("y", length=0)
    axes.grid(axis="x")
