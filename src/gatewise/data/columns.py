"""Which columns of a table hold the texts and their labels."""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from gatewise.data.table import LABELS, TEXTS, Table, text_of
from gatewise.errors import DataError
from gatewise.wording import setting

AUTO = "auto"
"""The value of a setting that leaves the choice of a column to this module."""


def choose(
    table: Table, rows: Sequence[Sequence[Any]], text_column: str, label_column: str
) -> tuple[str, str, list[str]]:
    """Return the columns of text and label, and notes on columns that were chosen.

    A column is chosen by its name or, if no name or several are known, by its content: labels are few values that
    repeat; the text is the longest of what is left, by a clear margin.

    Args:
        table: the table.
        rows: its rows.
        text_column: the name of a column, or ``auto``.
        label_column: the name of a column, or ``auto``.

    Raises:
        DataError: there is no such column, no column fits, or several do.
    """
    for name, key in ((text_column, "data.column"), (label_column, "data.label_column")):
        if name != AUTO:
            table.place(name, key)
    label = _label(table, rows, text_column) if label_column == AUTO else label_column
    text = text_of_table(table, rows, label) if text_column == AUTO else text_column
    if text == label:
        raise DataError(f"{table.path}: {text!r} is both text and label; expected two columns")
    notes = []
    if AUTO in (text_column, label_column):
        rest = [name for name in table.names if name not in (text, label)]
        notes.append(
            f"text from column {text!r}, label from column {label!r}"
            + (f"; not used: {', '.join(map(repr, rest))}" if rest else "")
        )
    return text, label, notes


def _label(table: Table, rows: Sequence[Sequence[Any]], text_column: str) -> str:
    free = [name for name in table.names if name != text_column]
    if (named := _named(free, LABELS)) is not None:
        return named
    fitting = []
    for name in free:
        place = table.names.index(name)
        values = [field for row in rows if (field := text_of(row[place]))]
        if 2 <= len(set(values)) <= min(100, len(values) // 2):
            fitting.append(name)
    if len(fitting) != 1:
        raise _unclear(table, "the label", fitting or free, "data.label_column")
    return fitting[0]


def text_of_table(table: Table, rows: Sequence[Sequence[Any]], label: str = "") -> str:
    """Return the column that holds the texts: by its name, or the longest by a clear margin.

    Args:
        table: the table.
        rows: its rows.
        label: the column that holds their labels, if any.

    Raises:
        DataError: no column fits, or several do.
    """
    free = [name for name in table.names if name != label]
    if (named := _named(free, TEXTS)) is not None:
        return named
    lengths = dict[str, float]()
    for name in free:
        place = table.names.index(name)
        fields = [row[place] for row in rows]
        if all(isinstance(field, str) or field is None for field in fields):
            lengths[name] = fmean(len(field or "") for field in fields)
    longest = sorted(lengths, key=lambda name: -lengths[name])
    if not longest or (len(longest) > 1 and lengths[longest[0]] < 3 * lengths[longest[1]]):
        raise _unclear(table, "the text", longest or free, "data.column")
    return longest[0]


def _named(names: Sequence[str], known: re.Pattern[str]) -> str | None:
    """Return the only column with one of the known names; None if there are none or several."""
    found = [name for name in names if known.fullmatch(name.strip())]
    return found[0] if len(found) == 1 else None


def _unclear(table: Table, what: str, names: Sequence[str], key: str) -> DataError:
    return DataError(
        f"{table.path}:1: {what} may be in any of the columns {', '.join(map(repr, names)) or '(none)'}; name it with "
        f"{setting(key, 'NAME')}"
    )
