"""A CSV file read row by row, its columns by name."""

import csv
from collections.abc import Iterator
from pathlib import Path

from gatewise.data.text import read_lines
from gatewise.errors import DataError


class Table:
    """The rows of a CSV file below a first row of names.

    UTF-8, comma-separated; a field in double quotes may hold commas, line ends and doubled quotes. A byte order mark
    and blank lines are endured.

    Args:
        path: the file; its first row is read at once.

    Raises:
        DataError: the file cannot be read, or is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = csv.reader((line + "\n" for line in read_lines(path, kept=True)), strict=True)
        names = next(self._fields(), None)
        if names is None:
            raise DataError(f"{path}: the file is empty; expected a first row that names the columns")
        self.names = names

    def place(self, column: str, setting: str) -> int:
        """Return where a column stands in each row; ``setting`` is what chooses it, such as ``data.column=NAME``.

        Raises:
            DataError: no column has this name, or more than one.
        """
        if self.names.count(column) > 1:
            raise DataError(
                f"{self.path}:1: {self.names.count(column)} columns {column!r}; expected one, rename the others"
            )
        if column not in self.names:
            raise DataError(
                f"{self.path}:1: no column {column!r}; found {', '.join(map(repr, self.names))}; name one with "
                f"--set {setting}"
            )
        return self.names.index(column)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row once: the line where it begins, and its fields.

        Raises:
            DataError: a row has more or fewer fields than the first, or is no valid CSV (with line).
        """
        last = self._reader.line_num
        for row in self._fields():
            if row and len(row) != len(self.names):
                raise DataError(
                    f"{self.path}:{last + 1}: {len(row)} fields in this row, expected {len(self.names)} as in the "
                    "first; put a field with commas into double quotes"
                )
            if row:
                yield last + 1, row
            last = self._reader.line_num

    def _fields(self) -> Iterator[list[str]]:
        try:
            yield from self._reader
        except csv.Error as problem:
            if "field limit" in str(problem):
                raise DataError(
                    f"{self.path}:{self._reader.line_num}: a field of more than {csv.field_size_limit():,} characters; "
                    "close the quotes that open it, or cut its text"
                ) from None
            raise DataError(f"{self.path}:{self._reader.line_num}: no valid CSV ({problem}); mend the quotes") from None
