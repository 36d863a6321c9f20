"""Row-by-row reading of a CSV file with named columns."""

import csv
from collections.abc import Iterator
from pathlib import Path

from gatewise.data.text import read_lines
from gatewise.errors import DataError


class Table:
    """The rows of a CSV file with a header row.

    The format is UTF-8, comma-separated; a field in double quotes may contain commas, line breaks and doubled quotes. A
    byte order mark and blank lines are ignored.

    Args:
        path: the file; its header row is read immediately.

    Raises:
        DataError: the file cannot be read, or is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = csv.reader((line + "\n" for line in read_lines(path, kept=True)), strict=True)
        names = next(self._fields(), None)
        if names is None:
            raise DataError(f"{path}: the file is empty; expected a header row with the column names")
        self.names = names

    def place(self, column: str, setting: str) -> int:
        """Return the index of a column in each row.

        Args:
            column: the column's name.
            setting: the setting that selects it, such as ``data.column=NAME``, for the error message.

        Raises:
            DataError: no column has this name, or more than one.
        """
        if self.names.count(column) > 1:
            raise DataError(
                f"{self.path}:1: {self.names.count(column)} columns named {column!r}; expected one, rename the others"
            )
        if column not in self.names:
            raise DataError(
                f"{self.path}:1: no column {column!r}; found {', '.join(map(repr, self.names))}; select one with "
                f"--set {setting}"
            )
        return self.names.index(column)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row once: the line where it starts, and its fields.

        Raises:
            DataError: a row does not have as many fields as the header, or is not valid CSV (with line).
        """
        last = self._reader.line_num
        for row in self._fields():
            if row and len(row) != len(self.names):
                raise DataError(
                    f"{self.path}:{last + 1}: {len(row)} fields in this row, expected {len(self.names)} as in the "
                    "header; put fields that contain commas in double quotes"
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
                    f"{self.path}:{self._reader.line_num}: field of more than {csv.field_size_limit():,} characters; "
                    "close its quotes, or shorten its text"
                ) from None
            raise DataError(f"{self.path}:{self._reader.line_num}: invalid CSV ({problem}); fix the quotes") from None
