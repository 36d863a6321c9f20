"""The common style of all figures (colours, fonts, axes), and the writing of figures and tables.

Colours are those of Okabe and Ito (2008, "Color universal design"), which are safe for colour blindness; each is paired
with its own line style and marker, so that black-and-white prints remain readable. Magnitudes are shown in cividis
(Nuñez, Anderton and Renslow 2018), whose lightness increases uniformly; signed values in PuOr, white at zero.
"""

import csv
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypeVar

from gatewise.artifact.atomic import write_atomically
from gatewise.errors import UsageError
from gatewise.extras import import_extra
from gatewise.inspection.fonts import BASE, families_for, short
from gatewise.inspection.ticks import label_numbers
from gatewise.wording import option

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

M = TypeVar("M")
Table = Iterable[Sequence[object]]
"""Rows of a CSV file; the first holds the column names."""

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#222222", "#767676", "#C4C4C4"
AMOUNT, SIGNED = "cividis", "PuOr_r"
WIDTH = 7.2
"""Width in inches, that of two columns of a paper."""

ENDINGS = (".png", ".svg")


@dataclass(frozen=True)
class Look:
    """The style of one line: colour, line style and marker."""

    color: str
    line: Any
    marker: str

    def every(self, points: int, **changes: Any) -> dict[str, Any]:
        """Return ``plot`` arguments for a line of ``points`` points, with about eight markers."""
        return {
            "color": self.color,
            "linestyle": self.line,
            "marker": self.marker,
            "markevery": max(1, points // 8),
            **changes,
        }


LOOKS = (
    Look(BLUE, "-", "o"),
    Look(ORANGE, (0, (5, 1.5)), "s"),
    Look(GREEN, (0, (3, 1, 1, 1)), "D"),
    Look(VERMILLION, (0, (1.2, 1)), "^"),
    Look(PURPLE, (0, (7, 1.5, 1, 1.5)), "v"),
    Look(SKY, (0, (8, 2)), "X"),
)
"""Styles for lines without their own, used in this order."""


def look(k: int) -> Look:
    """Return the style of line k of a figure; after the last of ``LOOKS``, colours are combined with other markers."""
    shifted = LOOKS[(k + k // len(LOOKS)) % len(LOOKS)]
    return Look(LOOKS[k % len(LOOKS)].color, shifted.line, shifted.marker)


CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "tanh RNN", "rnn_relu": "ReLU RNN"}
"""The display names of the cells."""

CELL_LOOKS = {"lstm": LOOKS[0], "gru": LOOKS[2], "rnn_tanh": LOOKS[3], "rnn_relu": LOOKS[4]}
"""The style of each cell, the same in every figure."""


def check_out(out: Path, data_out: Path | None = None) -> None:
    """Check that figures can be drawn and that the output paths are valid, without writing anything.

    Raises:
        UsageError: Matplotlib is not installed, an extension is not supported, or a folder does not exist.
    """
    import_extra("matplotlib.figure", "Matplotlib", "drawing a figure")
    for name, path, endings in (("out", out, ENDINGS), ("data_out", data_out, (".csv",))):
        if path is None:
            continue
        if path.suffix.lower() not in endings:
            raise UsageError(f"{option(name, path)}: expected a name that ends in {' or '.join(endings)}")
        if not path.parent.is_dir():
            raise UsageError(f"{option(name, path)}: no folder {path.parent}; create it, or choose another location")
        if path.is_dir():
            raise UsageError(f"{option(name, path)}: a folder; expected the name of a file")


def make_figure(draw: Callable[[M, "Figure"], None], measured: M) -> "Figure":
    """Draw on a new figure in the common style, without a window or global state."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    with house_style():
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        draw(measured, figure)
        label_numbers(figure)
        texts = figure.findobj(Text)
        families = families_for(text.get_text() for text in texts)
        for text in texts if len(families) > 1 else ():
            text.set_fontfamily(families)
    return figure


_drawing = ContextVar("_drawing", default=True)


@contextmanager
def without_pictures() -> Iterator[None]:
    """Let what draws on the way draw nothing within the block: for a run folder that is removed at once."""
    token = _drawing.set(False)
    try:
        yield
    finally:
        _drawing.reset(token)


def draws() -> bool:
    """Return whether figures are drawn: Matplotlib is installed, and this is not in ``without_pictures``."""
    return _drawing.get() and find_spec("matplotlib") is not None


def save_picture(draw: Callable[[M, "Figure"], None], measured: M, out: Path) -> None:
    """Draw, and save as PNG or SVG by the extension of ``out``; equal numbers give equal bytes."""
    figure, content, kind = make_figure(draw, measured), io.BytesIO(), out.suffix.lower()[1:]
    with house_style():
        figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    write_atomically(out, content.getvalue())


def save_table(table: Table, out: Path) -> None:
    """Save a figure's numbers as CSV."""
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(table)
    write_atomically(out, content.getvalue())


@contextmanager
def house_style() -> Iterator[None]:
    """Set Matplotlib's defaults within the block."""
    import matplotlib

    style: dict[Any, Any] = {
        "font.family": [BASE],
        "font.size": 8,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GREY,
        "axes.linewidth": 0.6,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.titlesize": 11,
        "figure.titleweight": "bold",
        "figure.dpi": 200,
        "savefig.dpi": 200,
        "grid.color": "#E3E3E3",
        "grid.linewidth": 0.5,
        "legend.fontsize": 7.5,
        "legend.frameon": False,
        "legend.handlelength": 3.2,
        "lines.linewidth": 1.5,
        "lines.markersize": 4,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "image.interpolation": "nearest",
        "text.parse_math": False,  # a dollar sign in a name is a dollar sign
        "svg.hashsalt": "gatewise",
        "svg.fonttype": "path",
    }
    fonts = logging.getLogger("matplotlib.font_manager")
    fonts.addFilter(_is_no_missing_weight)
    try:
        with matplotlib.rc_context(style):
            yield
    finally:
        fonts.removeFilter(_is_no_missing_weight)


def _is_no_missing_weight(record: logging.LogRecord) -> bool:
    """Leave out the remark that a font has no bold face: its regular one is good enough in a title."""
    return not record.getMessage().startswith("findfont: Failed to find font weight")


def title(figure: "Figure", text: str, below: str = "", lines: Sequence["Artist"] = ()) -> None:
    """Add a title at the upper left, the legend below it, and a note on what was measured below the axes.

    Call this after the figure's size is set; each line of the legend after the first makes the figure higher.
    """
    width, height = figure.get_size_inches()
    longest = max((len(str(line.get_label())) for line in lines), default=0)
    columns = max(1, min(len(lines), int(width / (0.65 + 0.06 * longest))))
    rows = -(-len(lines) // columns)
    height += 0.16 * max(0, rows - 1)
    figure.set_size_inches(width, height)
    # Constrained layout reserves room for the title only, so the legend is placed over its extra lines.
    figure.suptitle(short(text, int(width / 0.104)) + "\n" * rows, x=0.01, ha="left")
    if lines:
        place = (0.01, 1 - 0.27 / height)
        figure.legend(
            handles=lines, loc="upper left", bbox_to_anchor=place, ncols=columns, borderpad=0, borderaxespad=0
        )
    if below:
        figure.supxlabel(fill(short(below, 1000), int(width / 0.055)), x=0.01, ha="left", fontsize=7, color=GREY)


def line_named(look: Look, name: str, remark: str = "") -> "Artist":
    """Return the legend entry of a line, with a remark in parentheses."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=short(name, 60) + (f" ({remark})" if remark else ""), **look.every(1))
