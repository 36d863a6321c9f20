"""Columns of Arrow, NumPy or Python as the rows that a model reads: texts, lists of words, arrays (T, I)."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import InputError
from gatewise.extras import import_extra
from gatewise.runtime.arguments import is_missing

if TYPE_CHECKING:
    import pyarrow as pa

TEXT, WORDS, NUMBERS = "text", "words", "numbers"
"""What a task reads of each row."""

EXPECTED = {
    TEXT: "strings",
    WORDS: "strings or lists of strings",
    NUMBERS: "lists of numbers, or lists of lists of numbers",
}
USUAL = {TEXT: "text", WORDS: "text", NUMBERS: "x"}
"""The column that is read if it fits and none was named."""


class BadRow(Exception):
    """A row that cannot be read; whoever knows where it comes from says so.

    Attributes:
        row: its place, counted from 0.
        reason: what was found, and what was expected.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason


def arrow() -> Any:
    """Return the module ``pyarrow``.

    Raises:
        MissingPackage: it is not installed.
    """
    return import_extra("pyarrow", "pyarrow", "scoring", "scoring")


def fits(kind: "pa.DataType", reads: str) -> bool:
    """Return whether a column of a type of Arrow holds what a task reads; a column of nulls alone does."""
    types = arrow().types
    if types.is_null(kind):
        return True
    if types.is_dictionary(kind):
        kind = kind.value_type
    if reads == NUMBERS:
        inner = _inner(_stored(kind))
        return inner is not None and (_is_number(inner) or _is_number(_inner(inner)))
    inner = _inner(kind)
    return _is_string(kind) or (reads == WORDS and inner is not None and (_is_string(inner) or types.is_null(inner)))


def choose_column(schema: "pa.Schema", column: str | None, reads: str, advice: str) -> str:
    """Return the column to read: the one named, else ``text`` or ``x`` or the only one that fits.

    Args:
        schema: the columns that there are.
        column: the name of one, or None.
        reads: what the task reads.
        advice: how to name a column, for the error message.

    Raises:
        InputError: there is no such column, its type does not fit, or none or several fit.
    """
    names, expected = list(schema.names), EXPECTED[reads]
    listed = ", ".join(map(repr, names)) or "no columns"
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{names.count(repeated[0])} columns named {repeated[0]!r}; expected different names")
    if column is not None:
        if column not in names:
            raise InputError(f"no column {column!r}; found {listed}; {advice}")
        if not fits(schema.field(column).type, reads):
            raise InputError(f"the column {column!r} holds {schema.field(column).type}; the model reads {expected}")
        return column
    fitting: list[str] = [field.name for field in schema if fits(field.type, reads)]
    if (usual := USUAL[reads]) in fitting:
        return usual
    if len(fitting) != 1:
        which = f"several columns hold {expected}" if fitting else f"no column holds {expected}, which the model reads"
        raise InputError(f"{which}; found {listed}; {advice}")
    return fitting[0]


def rows_of(column: Any, reads: str) -> list[Any]:
    """Return what the model reads of each row of a column, None for a missing value.

    Args:
        column: an array of Arrow; or, of NumPy, a data frame or Python, any sequence of values.
        reads: strings for ``TEXT``; strings or lists of strings for ``WORDS``; arrays (T, I) for ``NUMBERS``, with
            the numbers' own type and, of flat lists, I = 1.

    Raises:
        BadRow: a value has another type, or a list holds a null.
    """
    pa = arrow()
    if not isinstance(column, pa.Array):
        return _rows_of_objects(column, reads)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if reads == NUMBERS and not pa.types.is_null(column.type):
        return _arrays(column)
    rows: list[Any] = column.to_pylist()
    if _inner(column.type) is not None:
        for place, words in enumerate(rows):
            if words is not None and None in words:
                raise BadRow(place, f"word {words.index(None)} of the list is null; expected a string")
    return rows


def _rows_of_objects(values: Any, reads: str) -> list[Any]:
    """Return the rows of values that are no array of Arrow."""
    rows: list[Any] = [None if is_missing(value) else value for value in values]
    if reads == NUMBERS:
        arrays = [None if row is None else _as_steps(row, place) for place, row in enumerate(rows)]
        pixels = [None if array is None else array.dtype == np.uint8 for array in arrays]
        if True in pixels and False in pixels:
            raise BadRow(pixels.index(False), "no pixels (uint8), which other rows hold; expected numbers of one type")
        return arrays
    for place, row in enumerate(rows):
        if row is None or isinstance(row, str):
            continue
        words = row.tolist() if isinstance(row, np.ndarray) else row
        if reads == TEXT or not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise BadRow(place, f"{row!r:.40} ({type(row).__name__}); expected {EXPECTED[reads]}")
        rows[place] = list(words)
    return rows


def _as_steps(value: Any, place: int) -> npt.NDArray[Any]:
    """Return an array (T, I) of arrays or lists of any nesting."""
    try:
        steps = np.asarray(value)
        if steps.dtype == object:  # steps that are arrays of their own
            steps = np.asarray([np.asarray(step) for step in value])
    except (TypeError, ValueError):
        raise BadRow(place, f"{value!r:.40}; expected {EXPECTED[NUMBERS]}, the same count in each step") from None
    if (steps.size and steps.dtype.kind not in "iuf") or steps.ndim not in (1, 2):
        raise BadRow(place, f"{steps.dtype} values of shape {steps.shape}; expected {EXPECTED[NUMBERS]}")
    return steps[:, None] if steps.ndim == 1 else steps


def _arrays(column: "pa.Array") -> list[npt.NDArray[Any] | None]:
    """Return the arrays (T, I) of a column of lists; they are views of one array."""
    pa = arrow()
    compute = import_extra("pyarrow.compute", "pyarrow", "scoring", "scoring")
    width = 1
    if isinstance(column.type, pa.BaseExtensionType):
        width = (*getattr(column.type, "shape", ()), 1, 1)[1]  # of a tensor (T, I)
        column = column.storage
    places = np.flatnonzero(np.asarray(column.is_valid()))
    lists = column.drop_null()
    inner = compute.list_flatten(lists)
    ends, nested = np.cumsum(_lengths(lists)), _inner(inner.type) is not None
    numbers, counts = (compute.list_flatten(inner), _lengths(inner)) if nested else (inner, np.ones(len(inner), int))
    ends_of_steps = np.concatenate([[0], np.cumsum(counts)])
    values, start = numbers.to_numpy(zero_copy_only=False), 0
    null_steps, null_numbers = (np.asarray(part.is_null()) if part.null_count else None for part in (inner, numbers))
    found: list[npt.NDArray[Any] | None] = [None] * len(column)
    for place, end in zip(places.tolist(), ends.tolist(), strict=True):
        bounds = ends_of_steps[start : end + 1]
        inside = slice(int(bounds[0]), int(bounds[-1]))
        if (null_steps is not None and null_steps[start:end].any()) or (
            null_numbers is not None and null_numbers[inside].any()
        ):
            raise BadRow(place, "a null in the list; expected numbers only")
        widths = np.diff(bounds)
        if len(widths) and (widths != widths[0]).any():
            raise BadRow(place, f"steps of {widths.min()} to {widths.max()} numbers; expected the same count in each")
        found[place] = values[inside].reshape(-1, width if not nested or not len(widths) else max(int(widths[0]), 1))
        start = end
    return found


def _lengths(lists: "pa.Array") -> npt.NDArray[np.int64]:
    """Return the lengths of the lists of an array, 0 for null."""
    compute = import_extra("pyarrow.compute", "pyarrow", "scoring", "scoring")
    return np.asarray(compute.fill_null(compute.list_value_length(lists), 0), dtype=np.int64)


def _stored(kind: "pa.DataType") -> "pa.DataType":
    """Return the type in which an extension type, such as a tensor, is stored."""
    return kind.storage_type if isinstance(kind, arrow().BaseExtensionType) else kind


def _inner(kind: "pa.DataType | None") -> "pa.DataType | None":
    """Return the type of the elements of a list type; None for another type."""
    types = arrow().types
    is_list = kind is not None and (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
    return kind.value_type if is_list and kind is not None else None


def _is_number(kind: "pa.DataType | None") -> bool:
    types = arrow().types
    return kind is not None and (types.is_integer(kind) or types.is_floating(kind))


def _is_string(kind: "pa.DataType") -> bool:
    types = arrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind) or getattr(types, "is_string_view", bool)(kind))
