"""``tags``: each word of a sentence with the probabilities of its tags."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gatewise.inspection.fonts import short
from gatewise.inspection.style import AMOUNT, VERMILLION, WIDTH, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gatewise.models.tagger import Tagger

RARE = 0.01
"""Tags whose probability never exceeds this are summed in one column."""


@dataclass(frozen=True)
class TagsReading:
    """A tagged sentence.

    Attributes:
        words: the T words.
        tags: the C tags.
        probabilities: (T, C).
        chosen: indices of the predicted tags, (T,). For a CRF they form the best sequence, which may differ from the
            most probable tag of each word.
        name: the source of the model.
    """

    words: Sequence[str]
    tags: Sequence[str]
    probabilities: npt.NDArray[np.floating]
    chosen: npt.NDArray[np.integer]
    name: str = ""

    def table(self) -> Iterator[Sequence[object]]:
        """Yield the table: one line per word and tag."""
        yield "position", "word", "tag", "probability", "chosen"
        for t, word in enumerate(self.words):
            for k, tag in enumerate(self.tags):
                yield t + 1, word, tag, float(self.probabilities[t, k]), int(self.chosen[t] == k)


def measure_tags(model: "Tagger", words: Sequence[str], name: str = "") -> TagsReading:
    """Compute a tagger's predicted tags and the probability of every tag for every word."""
    probabilities = np.asarray(model.tag_probabilities([list(words)])[0], dtype=np.float64)
    (answer,) = model.tag([list(words)])
    place = {tag: k for k, tag in enumerate(model.tags)}
    return TagsReading(list(words), list(model.tags), probabilities, np.array([place[tag] for tag in answer]), name)


def draw_tags(data: TagsReading, figure: "Figure") -> None:
    """Draw a heatmap of words by tags, with large probabilities as text and the predicted tags framed."""
    from matplotlib.patches import Rectangle

    shown, rest = _columns(data)
    values = np.column_stack([data.probabilities[:, shown], *([rest] if rest is not None else [])])
    names = [short(data.tags[k], 10) for k in shown]
    if rest is not None:
        names.append(f"{len(data.tags) - len(shown)} others")
    T, columns = values.shape
    figure.set_size_inches(max(WIDTH, 1.6 + 0.42 * columns), 1.5 + 0.24 * T)
    of = f", {short(data.name, 40)}" if data.name else ""
    title(
        figure, f"What each word may be{of}", "Framed: the model's answer. Probabilities of 0.005 and more are written."
    )
    axes = figure.subplots()
    shades = axes.imshow(values, cmap=AMOUNT, vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(T), [short(word) for word in data.words])
    axes.set_xticks(range(columns), names, rotation=90 if columns > 12 else 0)
    axes.set(xlabel="tag", ylabel="word")
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(True)
    for (t, k), value in np.ndenumerate(values):
        if value >= 0.005:
            text = f"{value:.2f}".removeprefix("0") if value < 0.995 else "1"
            axes.text(k, t, text, ha="center", va="center", fontsize=6.5, color="black" if value > 0.5 else "white")
    for t, tag in enumerate(data.chosen):
        place = shown.tolist().index(tag) if tag in shown else columns - 1
        axes.add_patch(Rectangle((place - 0.47, t - 0.45), 0.94, 0.9, fill=False, edgecolor=VERMILLION, linewidth=1.5))
    figure.colorbar(shades, ax=axes, label="probability", pad=0.015)


def _columns(data: TagsReading) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.floating] | None]:
    """Return the tags to show, and the summed probability of the others if there is more than one."""
    likely = data.probabilities.max(0) > RARE
    likely[data.chosen] = True
    if (~likely).sum() < 2:
        likely[:] = True
    rest = data.probabilities[:, ~likely].sum(1) if not likely.all() else None
    return np.flatnonzero(likely), rest
