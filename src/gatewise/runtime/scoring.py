"""Scoring tables: a model as a function from rows to the same rows with what the model says about each.

A ``Scorer`` can be sent to other processes, so Ray Data, Spark and Hugging Face datasets take it as it is. The workers
need NumPy and pyarrow (the extra ``scoring``), not PyTorch.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewise.errors import InputError
from gatewise.files import stamp_of
from gatewise.runtime.scored_columns import Outputs, outputs_of
from gatewise.runtime.scored_rows import BadRow, arrow, choose_column, rows_of
from gatewise.wording import option

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1024
"""Rows that are read at a time; more are cut into pieces, so that memory does not grow with them."""


class Scorer:
    """Add what a model says about each row to a table.

    The model is opened when it is first needed, once in each process, and computes with one thread. A row's result
    depends on nothing but the row. The order of the rows and all other columns are kept. These columns come after them:

    | task | column read | columns added |
    |---|---|---|
    | language model | strings | ``nll`` in nats, ``tokens`` scored, ``perplexity`` |
    | tagger | strings, which are split into words and punctuation marks, or lists of words | ``words``, ``tags`` |
    | text classifier | strings, or lists of words | ``label``, its ``probability``, all ``probabilities`` |
    | classifier | lists of numbers, or of lists of I numbers | the same |
    | regressor | the same | ``prediction``; a list, if the model predicts several values |

    A missing value, and for a classifier or regressor a text without words or a sequence without steps, gives nulls.

    Args:
        path: a run folder or a ``model.gatewise``, at the same place for each worker.
        column: the column that the model reads; by default ``text`` or ``x`` if it fits, or the only one that does.
        weights: of a run folder, what the weights are stored as: ``fp32``, ``bf16`` or ``int8``.
        prefix: the beginning of the names of all columns added, for tables that have such columns already.

    >>> scorer = Scorer("runs/reviews")
    >>> scorer(pyarrow.table({"id": [7], "text": ["the soup was lovely"]})).column_names
    ['id', 'text', 'label', 'probability', 'probabilities']
    """

    def __init__(
        self, path: str | Path, column: str | None = None, *, weights: str | None = None, prefix: str = ""
    ) -> None:
        self.path = str(Path(path).expanduser().absolute())
        self.column, self.weights, self.prefix = column, weights, prefix
        self._opened: tuple[int, Outputs] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}

    @property
    def outputs(self) -> Outputs:
        """What the model reads and adds; opens the model.

        Raises:
            RunError: the run or the model file is missing or invalid.
        """
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (
                os.getpid(),
                _open(self.path, self.weights, stamp_of(_weights_of(Path(self.path))), os.getpid()),
            )
        return self._opened[1]

    def __call__(self, data: Any) -> Any:
        """Return rows with the columns added, as what they came: the order and the other columns are kept.

        Args:
            data: a Table or RecordBatch of Arrow; a pandas DataFrame; a dict of NumPy arrays or lists, a column each,
                as Ray Data and Hugging Face datasets give it; or an iterator of any of them, as Spark gives it, from
                which an iterator is returned.

        Raises:
            InputError: a column is missing or of another type, has the name of one to be added, or a row cannot be
                read (with its place, counted from 0).
            RunError: the run or the model file is missing or invalid.
            NotFinite: an output is not finite.
        """
        if isinstance(data, Iterator):
            return map(self, data)
        try:
            return self._scored(data)
        except BadRow as problem:
            raise InputError(f"row {problem.row}: {problem.reason}") from None

    @property
    def names(self) -> list[str]:
        """The names of the columns added."""
        return [self.prefix + name for name in self.outputs.types]

    def check(self, schema: "pa.Schema") -> str:
        """Check the columns of a table; return the name of the one that the model reads.

        Raises:
            InputError: it is missing or of another type, or the table has a column of the name of one to be added.
        """
        column = choose_column(schema, self.column, self.outputs.reads, f"name one with {option('column', 'NAME')}")
        self._check_free(list(schema.names))
        return column

    def schema(self, schema: "pa.Schema") -> "pa.Schema":
        """Return the columns of a table with those added."""
        for name, kind in zip(self.names, self.outputs.types.values(), strict=True):
            schema = schema.append(arrow().field(name, kind))
        return schema

    def batch(self, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        """Return a batch with the columns added.

        Raises:
            BadRow: a row cannot be read.
        """
        pa = arrow()
        added = [pa.concat_arrays(each.chunks) for each in self._added(batch[self.check(batch.schema)], len(batch))]
        return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=self.schema(batch.schema))

    def _scored(self, data: Any) -> Any:
        pa = arrow()
        if isinstance(data, pa.RecordBatch):
            return self.batch(data)
        if isinstance(data, pa.Table):
            added = self._added(data[self.check(data.schema)], len(data))
            return pa.table([*data.columns, *added], schema=self.schema(data.schema))
        if isinstance(data, Mapping):
            return {**data, **self._added_objects(data, list(data))}
        if hasattr(data, "assign") and hasattr(data, "columns"):
            return data.assign(**self._added_objects(data, list(data.columns)))
        raise InputError(
            f"data is a {type(data).__name__}; expected a Table or RecordBatch of Arrow, a DataFrame, a dict of "
            "columns, or an iterator of these"
        )

    def _check_free(self, names: Sequence[str]) -> None:
        if taken := [name for name in self.names if name in names]:
            raise InputError(
                f"there is a column {taken[0]!r} already; expected other names, set {option('prefix', 'NAME_')} for "
                "those to be added"
            )

    def _added(self, values: Any, count: int) -> list["pa.ChunkedArray"]:
        """Return the columns added, for a column of Arrow or a sequence of values."""
        pa = arrow()
        parts = [[pa.array([], kind)] for kind in self.outputs.types.values()]
        for start in range(0, count, ROWS):
            piece = values[start : start + ROWS]
            if isinstance(piece, pa.ChunkedArray):
                piece = pa.concat_arrays(piece.chunks)
            try:
                found = self.outputs.columns(rows_of(piece, self.outputs.reads))
            except BadRow as problem:
                raise BadRow(start + problem.row, problem.reason) from None
            for part, one in zip(parts, found, strict=True):
                part.append(one)
        return [pa.chunked_array(part, kind) for part, kind in zip(parts, self.outputs.types.values(), strict=True)]

    def _added_objects(self, data: Any, names: list[str]) -> dict[str, Any]:
        """Return the columns added to a dict or a data frame: NumPy arrays, or lists beside lists."""
        pa, reads = arrow(), self.outputs.reads
        column = self.column
        if column is None:
            # Of values without a declared type, the first that is not missing tells what a column holds.
            kinds = {name: _kind(data[name], reads) for name in names}
            column = choose_column(pa.schema(kinds.items()), None, reads, f"name one with {option('column', 'NAME')}")
        elif column not in names:
            choose_column(pa.schema([(name, pa.null()) for name in names]), column, reads, "rename one, or name it")
        self._check_free(names)
        values = data[column]
        values = values if isinstance(values, list | np.ndarray) else np.asarray(values)
        added = self._added(values, len(values))
        as_lists = isinstance(data, Mapping) and isinstance(values, list)
        return {
            name: each.to_pylist() if as_lists else _as_numpy(each)
            for name, each in zip(self.names, added, strict=True)
        }


def _weights_of(path: Path) -> Path:
    """Return the file that changes when a run is trained anew, or a model file exported anew."""
    return path / "model.safetensors" if os.path.isdir(path) else path


@lru_cache(maxsize=2)
def _open(path: str, weights: str | None, stamp: tuple[int, ...] | None, process: int) -> Outputs:
    """Open a model, once for all scorers of a process: Ray and Spark unpickle one for each task."""
    from gatewise import runtime

    return outputs_of(runtime.load(path, weights=weights, threads=1))


def _kind(values: Any, reads: str) -> "pa.DataType":
    """Return a type that fits what a model reads if the first value of a column does; else a truth value."""
    pa = arrow()
    first = next((value for value in values if value is not None), None)
    try:
        rows_of([first], reads)
    except BadRow:
        return pa.bool_()
    return pa.null()


def _as_numpy(column: "pa.ChunkedArray") -> Any:
    """Return a column as an array, (N, C) of lists of one length."""
    kind = column.type
    if arrow().types.is_list(kind) and not arrow().types.is_string(kind.value_type) and len(column):
        rows = column.to_pylist()
        if all(row is not None and len(row) == len(rows[0] or ()) for row in rows):
            return np.array(rows, kind.value_type.to_pandas_dtype())
    return column.to_numpy()
