"""Checks that any figure must pass: it has a title, all text is inside and does not overlap, and ticks differ."""

from collections.abc import Iterator
from math import isclose

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

PIXEL = 1.5


def check_readable(figure: Figure) -> list[str]:
    """Lay out a figure and check its texts; return them."""
    figure.draw_without_rendering()
    assert figure.get_suptitle().strip()
    for axes in figure.findobj(Axes):
        if axes.get_visible() and axes.axison and axes.has_data():
            assert axes.get_xlabel() or axes.get_ylabel() or axes.get_title(loc="left"), "axes with data and no name"
    drawn = [axes for axes in figure.findobj(Axes) if axes.get_visible() and axes.axison]
    for axis in (axis for axes in drawn for axis in _of_numbers(axes)):
        labels = [tick.get_text() for tick in _ticks(axis) if tick.get_text()]
        assert len(set(labels)) == len(labels), f"two ticks with the same label: {labels}"
    words = [(text.get_text(), _box(text)) for text in _texts(figure)]
    for k, (text, box) in enumerate(words):
        inside = box.x0 >= -PIXEL and box.y0 >= -PIXEL
        inside &= box.x1 <= figure.bbox.width + PIXEL and box.y1 <= figure.bbox.height + PIXEL
        assert inside, f"{text!r} leaves the picture {figure.bbox}: {box}"
        for other, its_box in words[:k]:
            assert not _overlap(box, its_box), f"{text!r} stands upon {other!r}"
    return [text for text, _ in words]


def _box(text: Text) -> Bbox:
    """Return the bounding box of a text, without empty lines below it, which only reserve room."""
    box, lines = text.get_window_extent(), text.get_text().split("\n")
    empty = len(lines) - len(text.get_text().rstrip("\n").split("\n"))
    return Bbox([[box.x0, box.y0 + box.height * empty / len(lines)], [box.x1, box.y1]])


def _overlap(a: Bbox, b: Bbox) -> bool:
    return min(a.x1, b.x1) - max(a.x0, b.x0) > PIXEL and min(a.y1, b.y1) - max(a.y0, b.y0) > PIXEL


def _texts(figure: Figure) -> Iterator[Text]:
    """Yield all texts; of the tick labels, only the visible ones."""
    seen = {axes: axes.get_visible() and axes.axison for axes in figure.findobj(Axes)}
    of_axes = {text: axes for axes in seen for text in axes.findobj(Text)}
    of_axis = {text for axis in figure.findobj(Axis) for text in axis.findobj(Text)}
    candidates = [text for text in figure.findobj(Text) if text not in of_axis]
    candidates += [axis.label for axes in seen for axis in (axes.xaxis, axes.yaxis)]
    candidates += [tick for axes in seen for axis in (axes.xaxis, axes.yaxis) for tick in _ticks(axis)]
    for text in candidates:
        if text.get_visible() and text.get_text().strip() and seen.get(of_axes.get(text), True):
            yield text


def _of_numbers(axes: Axes) -> list[Axis]:
    """Return the axes that show numbers, not names."""
    both = (axes.xaxis, axes.yaxis)
    return [axis for axis in both if not isinstance(axis.get_major_formatter(), FuncFormatter)]


def _ticks(axis: Axis) -> Iterator[Text]:
    low, high = sorted(axis.get_view_interval())
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        at = tick.get_loc()
        if low <= at <= high or isclose(at, low) or isclose(at, high):
            yield tick.label1
