"""Tables and texts of any size, in fragments: row groups of Parquet, and pieces of CSV, JSONL and text."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewise.data.table import Separated, json_objects
from gatewise.data.text import read_lines
from gatewise.errors import DataError
from gatewise.extras import import_extra
from gatewise.files import MIB, file_hash, open_regular, stamp_of
from gatewise.runtime.scored_rows import arrow

if TYPE_CHECKING:
    import pyarrow as pa

PIECE_ROWS, PIECE_SIZE = 16_384, 8 * MIB
"""The most rows and characters of a piece, which holds one row in any case; of Parquet, of what is read at a time."""
LINE, TEXT = "line", "text"
"""The columns of a text file."""

Batch = tuple["pa.RecordBatch", Sequence[int]]
"""Rows, and the place of each in the file: its line or, of Parquet, its number, counted from 1."""


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files to read: those given, and those of folders in the order of their names.

    Of a folder, hidden files and those whose name begins with an underscore are left out, as Spark and Arrow do.

    Raises:
        DataError: a path does not exist, is a folder without a table or text, or has an unknown extension.
    """
    found = list[Path]()
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(
                one for one in path.iterdir() if one.suffix.lower() in SOURCES and not one.name.startswith((".", "_"))
            )
            if not inside:
                raise DataError(f"{path}: no table or text in this folder; expected files in {_EXTENSIONS}")
            found += inside
        elif not os.path.exists(path):
            raise DataError(f"{path}: no such file or folder; expected a table or text in {_EXTENSIONS}")
        elif path.suffix.lower() in SOURCES:
            found.append(path)
        else:
            raise DataError(f"{path}: unknown extension {path.suffix!r}; expected {_EXTENSIONS}, rename it")
    return found


def open_source(path: Path) -> "Source":
    """Open a file, and read all of it once: what is damaged is found before work begins.

    Raises:
        DataError: the file cannot be read, or is empty.
    """
    stamp = stamp_of(path)
    source: Source = SOURCES[path.suffix.lower()](path)
    source.stamp = stamp
    if not source.schema.names:
        raise DataError(f"{path}: the file is empty; expected rows")
    return source


@dataclass
class Source:
    """A file in fragments.

    Attributes:
        path: the file.
        schema: its columns.
        fragments: how many fragments it has.
        rows: how many rows it has.
        sha256: of its content.
        stamp: what differed once it was changed, from before it was read.
    """

    path: Path
    schema: "pa.Schema"
    fragments: int
    rows: int
    sha256: str
    stamp: tuple[int, ...] | None = None

    def check_unchanged(self) -> None:
        """Check that the file is the one that was opened.

        Raises:
            DataError: it has been changed since.
        """
        if stamp_of(self.path) != self.stamp:
            raise DataError(f"{self.path}: changed while it was scored; run the command again, with another folder")

    def read(self, fragment: int) -> Iterator[Batch]:
        """Yield the rows of a fragment; to read several in falling order may read the file anew.

        Raises:
            DataError: they cannot be read.
        """
        raise NotImplementedError


class Parquet(Source):
    """Parquet, a row group each."""

    def __init__(self, path: Path) -> None:
        with self._opened(path) as file:
            about = file.metadata
            groups = [about.row_group(k) for k in range(about.num_row_groups)]
            self._starts, rows = list[int](), 0
            for group in groups:
                self._starts.append(rows)
                rows += group.num_rows
            self._sizes = [group.total_byte_size // max(group.num_rows, 1) for group in groups]
            super().__init__(path, file.schema_arrow, len(groups), rows, file_hash(path, "a Parquet file"))

    def read(self, fragment: int) -> Iterator[Batch]:
        """Yield the rows of a row group."""
        count = min(PIECE_ROWS, max(1, PIECE_SIZE // max(self._sizes[fragment], 1)))
        first = self._starts[fragment] + 1
        with self._opened(self.path) as file:
            for batch in file.iter_batches(count, row_groups=[fragment], use_threads=False):
                yield batch, range(first, first + len(batch))
                first += len(batch)

    @staticmethod
    @contextmanager
    def _opened(path: Path) -> Iterator[Any]:
        parquet = import_extra("pyarrow.parquet", "pyarrow", "reading a Parquet file", "scoring")
        with open_regular(path, "a Parquet file") as file:
            try:
                yield parquet.ParquetFile(file, buffer_size=MIB, pre_buffer=False)
            except (DataError, MemoryError):
                raise
            except Exception as problem:  # pyarrow raises all kinds of exceptions on damaged files
                reason = " ".join(str(problem).split())[:200] or type(problem).__name__
                raise DataError(f"{path}: not a readable Parquet file ({reason}); save it again") from None


class Rows(Source):
    """A file that is read row by row, in pieces."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ahead: tuple[int, Iterator[list[tuple[int, Any]]]] = 0, iter(())
        pieces, rows = 0, 0
        kinds = dict[str, Any]()
        for piece in self._pieces():
            self._learn(kinds, piece)
            pieces += 1
            rows += len(piece)
        schema = arrow().schema(list(kinds.items()))
        super().__init__(path, schema, pieces, rows, file_hash(path))

    def records(self) -> Iterator[tuple[int, Any, int]]:
        """Yield each row: its line, its fields, and its size in characters."""
        raise NotImplementedError

    def _learn(self, kinds: dict[str, Any], piece: list[tuple[int, Any]]) -> None:
        """Add the columns of a piece to the types of the columns by name."""
        raise NotImplementedError

    def _values(self, name: str, place: int, fields: list[Any]) -> list[Any]:
        """Return the values of a column, which is the one at ``place``."""
        return [row[place] for row in fields]

    def read(self, fragment: int) -> Iterator[Batch]:
        """Yield the rows of a piece, which are one batch."""
        pa = arrow()
        at, pieces = self._ahead
        if at == 0 or at > fragment:
            at, pieces = 0, self._pieces()
        piece = next(islice(pieces, fragment - at, None))
        self._ahead = fragment + 1, pieces
        fields = [row for _, row in piece]
        arrays = [
            pa.array(self._values(field.name, place, fields), field.type) for place, field in enumerate(self.schema)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=self.schema), [line for line, _ in piece]

    def _pieces(self) -> Iterator[list[tuple[int, Any]]]:
        piece, total = list[tuple[int, Any]](), 0
        for line, fields, size in self.records():
            if piece and (len(piece) == PIECE_ROWS or total + size > PIECE_SIZE):
                yield piece
                piece, total = [], 0
            piece.append((line, fields))
            total += size
        if piece:
            yield piece


class Csv(Rows):
    """A table of text; every field is a string."""

    def __init__(self, path: Path) -> None:
        self._table = Separated(path, kept=False)
        self.notes = self._table.notes
        super().__init__(path)

    def records(self) -> Iterator[tuple[int, Any, int]]:
        """Yield each row: its line, its fields, and its size in characters."""
        for line, fields in self._table.rows():
            yield line, fields, sum(map(len, fields))

    def _learn(self, kinds: dict[str, Any], piece: list[tuple[int, Any]]) -> None:
        string = arrow().string()
        kinds.update(dict.fromkeys(self._table.names, string))


class JsonLines(Rows):
    """A JSON object a line; the columns are the keys of all objects, in the order in which they come."""

    def records(self) -> Iterator[tuple[int, Any, int]]:
        """Yield each object: its line, and its size in characters."""
        return json_objects(self.path, kept=False)

    def _learn(self, kinds: dict[str, Any], piece: list[tuple[int, Any]]) -> None:
        for name in dict.fromkeys(name for _, record in piece for name in record):
            values = [record.get(name) for _, record in piece]
            before = kinds.get(name, arrow().null())
            try:
                kinds[name] = _joined(before, values)
            except _OTHER_TYPE as problem:
                reason = " ".join(str(problem).split())[:200]
                line = piece[_first_other(before, values)][0]
                raise DataError(
                    f"{self.path}:{line}: {name!r} has another type than before ({reason}); expected one type"
                ) from None

    def _values(self, name: str, place: int, fields: list[Any]) -> list[Any]:
        return [record.get(name) for record in fields]


_OTHER_TYPE = (TypeError, ValueError, OverflowError)
"""What pyarrow raises for values that have no type in common."""


def _joined(kind: "pa.DataType", values: Sequence[Any]) -> "pa.DataType":
    """Return the type that holds values of a type and others."""
    pa = arrow()
    schemas = [pa.schema([("", kind)]), pa.schema([("", pa.array(values).type)])]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _first_other(kind: "pa.DataType", values: Sequence[Any]) -> int:
    """Return the place of the first value that has no type in common with those before it."""
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            _joined(kind, values[: middle + 1])
            low = middle + 1
        except _OTHER_TYPE:
            high = middle
    return low


class Lines(Rows):
    """A text a line."""

    def records(self) -> Iterator[tuple[int, Any, int]]:
        """Yield each line: its number, its number and text, and its size in characters."""
        for number, text in enumerate(read_lines(self.path), 1):
            yield number, (number, text), len(text)

    def _learn(self, kinds: dict[str, Any], piece: list[tuple[int, Any]]) -> None:
        pa = arrow()
        kinds.update({LINE: pa.int64(), TEXT: pa.string()})


SOURCES: dict[str, Any] = {
    ".parquet": Parquet,
    ".csv": Csv,
    ".tsv": Csv,
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".txt": Lines,
}
"""How a file is read, by its extension."""
_EXTENSIONS = f"{', '.join(list(SOURCES)[:-1])} or {list(SOURCES)[-1]}"
