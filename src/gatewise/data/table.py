"""Tables with named columns: CSV and its relatives, JSONL, Parquet."""

import csv
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from gatewise.data.numbers import is_number
from gatewise.data.text import read_lines
from gatewise.errors import DataError
from gatewise.extras import import_extra
from gatewise.files import LONGEST_RECORD, check_memory, open_regular
from gatewise.reading import parse_json
from gatewise.wording import selecting

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""The extensions of tables; ``open_table`` also reads text files with columns."""

TEXTS = re.compile(
    "(text|body|content|review|comment|message|sentence|document|description)s?|文本|正文|内容|评论", re.I
)
LABELS = re.compile(
    "(label|class|category|target|sentiment|star|rating|score|genre|topic|intent)s?|标签|类别|分类|情感|评分", re.I
)
"""Usual names of the columns of texts and of their labels."""

_SAMPLE = 200
"""Lines from which the format of a file is detected."""
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "white space"}
_DATE = re.compile(r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\s*\d{4}-\d{2}\s*|\s*\d{1,2}:\d{2}(:\d{2})?\s*")


class Table:
    """The rows of a table.

    Attributes:
        path: the file.
        names: the names of its columns.
        notes: what was detected and is worth telling the user, such as an unusual separator.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = path, list(names)
        self.notes: list[str] = []
        if repeated := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise DataError(
                f"{path}:1: {self.names.count(repeated[0])} columns named {repeated[0]!r}; expected different names, "
                "rename them"
            )

    def place(self, column: str, key: str, value: Any = "NAME") -> int:
        """Return the index of a column in each row.

        Args:
            column: the column's name.
            key: the setting that selects it, such as ``data.column``, for the error message.
            value: an example of its value.

        Raises:
            DataError: no column has this name.
        """
        if column not in self.names:
            near = difflib.get_close_matches(column, self.names, n=1)
            raise DataError(
                f"{self.path}:1: no column {column!r}; found {', '.join(map(repr, self.names))}; "
                f"{selecting(key, value)}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
        return self.names.index(column)

    def texts(self, column: str) -> Iterator[tuple[int, str]]:
        """Yield the line of each row and its text in a column, "" where it is missing.

        Raises:
            DataError: no column has this name, or a value is not a string (with line).
        """
        place = self.place(column, "data.column")
        for line, row in self.rows():
            yield line, self.text(line, column, row[place])

    def text(self, line: int, column: str, value: Any) -> str:
        """Return the value of a column as text, "" for a missing one.

        Raises:
            DataError: the value is not a string.
        """
        if not isinstance(value, str | None):
            raise DataError(f"{self.path}:{line}: the text in {column!r} is {value!r:.40}; expected a string")
        return value or ""

    def rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield each row once: its line (of Parquet, its number), and its fields: strings, or the values of JSON.

        Raises:
            DataError: a row cannot be read (with line).
        """
        raise NotImplementedError


def open_table(path: Path) -> Table:
    """Open a table; the format follows from the extension, and separator and header of text from its first lines.

    Args:
        path: ``.jsonl`` or ``.ndjson``, one object per line; ``.parquet``; any other file is UTF-8 text with columns
            separated by commas, semicolons, tabs, vertical bars or white space. A field in double quotes may contain
            separators, line breaks and doubled quotes. A byte order mark and blank lines are ignored.

    Raises:
        DataError: the file cannot be read, is empty, or has two columns of one name.
        MissingPackage: the file is Parquet and pyarrow is not installed.
    """
    if path.suffix in (".jsonl", ".ndjson"):
        return JsonLines(path)
    return Parquet(path) if path.suffix == ".parquet" else Separated(path)


class Separated(Table):
    """Columns of text, separated by a character or by white space.

    A file has a header unless its first row has a number wherever the rows below have numbers, and a date wherever they
    have dates; or, in a table of text alone, unless a column has values that repeat, the first row has one of them
    there, and none of its fields is a usual name (``TEXTS``, ``LABELS``). Without a header, the columns are called
    ``column1``, ``column2`` and so on, and a note says so.

    Args:
        path: the file.
        kept: whether the caller keeps the rows in memory, see ``read_lines``.
    """

    def __init__(self, path: Path, kept: bool = True) -> None:
        self._kept = kept
        sample = list(islice((line for line in read_lines(path, kept=kept) if line.strip()), _SAMPLE))
        if not sample:
            raise DataError(f"{path}: the file is empty; expected a header row with the column names")
        self._separator = "\t" if path.suffix == ".tsv" else _separator(sample)
        first, *rest = _split(sample, self._separator)
        self.has_header = not _is_data(first, rest)
        names = [name.strip() for name in first] if self.has_header else [""] * len(first)
        super().__init__(path, [name or f"column{place}" for place, name in enumerate(names, 1)])
        if self._separator not in (",", "\t"):
            self.notes.append(f"{path}: columns separated by {_SEPARATORS[self._separator]}")
        if not self.has_header:
            self.notes.append(f"{path}: no header row; the columns are named {', '.join(self.names)}")

    def rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield each row once: the line where it starts, and its fields.

        Raises:
            DataError: a row does not have as many fields as the header, or is not valid CSV (with line).
        """
        skipped = not self.has_header
        for line, row in self._numbered():
            if not skipped:
                skipped = True
                continue
            if len(row) != len(self.names):
                raise DataError(
                    f"{self.path}:{line}: {len(row)} fields in this row, expected {len(self.names)} as in the "
                    f"{'header' if self.has_header else 'first row'}; put fields that contain the separator "
                    f"{self._separator!r} in double quotes"
                )
            yield line, row

    def _numbered(self) -> Iterator[tuple[int, list[str]]]:
        lines = read_lines(self.path, kept=self._kept)
        if self._separator == " ":
            yield from ((number, line.split()) for number, line in enumerate(lines, 1) if line.strip())
            return
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_RECORD))
        reader, last = csv.reader((line + "\n" for line in lines), delimiter=self._separator, strict=True), 0
        try:
            for row in reader:
                if row and (len(row) > 1 or row[0].strip()):
                    yield last + 1, row
                last = reader.line_num
        except csv.Error as problem:
            raise DataError(f"{self.path}:{reader.line_num}: invalid CSV ({problem}); fix the quotes") from None


def _separator(sample: Sequence[str]) -> str:
    """Return the separator that gives the most rows of a sample as many fields as the first, two or more."""
    found = {}
    for separator in ",;\t|":
        widths = [len(row) for row in _split(sample, separator)]
        share = widths.count(widths[0]) / len(widths)
        if widths[0] > 1 and share > 0.5:
            found[separator] = share, widths[0]
    if found:
        return max(found, key=lambda separator: found[separator])
    words = [line.split() for line in sample]
    # Sentences have different numbers of words, and no number at the same place of each.
    regular = len(words) > 1 and len(words[0]) > 1 and len({len(row) for row in words}) == 1
    if regular and any(all(is_number(row[place]) for row in words[1:]) for place in range(len(words[0]))):
        return " "
    return ","


def _split(sample: Sequence[str], separator: str) -> list[list[str]]:
    """Split the lines of a sample into rows; the last row may be incomplete, and is dropped from a full sample."""
    if separator == " ":
        return [line.split() for line in sample]
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_RECORD))
    rows = [row for row in csv.reader((line + "\n" for line in sample), delimiter=separator) if row]
    return rows[:-1] if len(sample) == _SAMPLE and len(rows) > 1 else rows


def _is_data(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row of a file is data like the rows below, rather than a header."""
    columns = list(zip(*(row for row in rest if len(row) == len(first)), strict=True))
    if not columns:
        return all(map(is_number, first))
    alike = []
    for name, column in zip(first, columns, strict=True):
        known = [field for field in column if field.strip()]
        if known and all(map(is_number, known)):
            alike.append(is_number(name))
        elif known and all(map(_DATE.fullmatch, known)):
            alike.append(_DATE.fullmatch(name) is not None)
    return all(alike) if alike else len(first) > 1 and _has_label(first, columns)


def _has_label(first: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row of a table of text has one of the labels of the rows below."""
    if any(TEXTS.fullmatch(name.strip()) or LABELS.fullmatch(name.strip()) for name in first):
        return False
    return any(
        name.strip() and name in column and 1 < len(set(column)) <= (len(column) + 1) // 2
        for name, column in zip(first, columns, strict=True)
    )


class JsonLines(Table):
    """One JSON object per line; the columns are the keys of the first object."""

    def __init__(self, path: Path) -> None:
        first = next(json_objects(path), None)
        if first is None:
            raise DataError(f"{path}: the file is empty; expected one JSON object per line")
        super().__init__(path, list(first[1]))

    def rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield each object: its line and the values of all columns, None for a missing key."""
        for number, record, _ in json_objects(self.path):
            yield number, [record.get(name) for name in self.names]


def json_objects(path: Path, kept: bool = True) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Yield the line, the object and the characters of each line of JSONL that is not blank; see ``read_lines``.

    Raises:
        DataError: a line is no JSON object (with line).
    """
    for number, line in enumerate(read_lines(path, kept=kept), 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError as problem:
            raise DataError(f"{path}:{number}: {problem}; expected one JSON object per line") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: {line.strip()[:40]} is not a JSON object; expected one per line")
        yield number, record, len(line)


class Parquet(Table):
    """A Parquet file, read with pyarrow."""

    def __init__(self, path: Path) -> None:
        arrow = import_extra("pyarrow.parquet", "pyarrow", "reading a Parquet file")
        with open_regular(path, "a Parquet file") as file:
            try:
                opened = arrow.ParquetFile(file)
                groups = (opened.metadata.row_group(k) for k in range(opened.metadata.num_row_groups))
                check_memory(str(path), 4 * sum(group.total_byte_size for group in groups))
                self._table = opened.read()
            except DataError:
                raise
            except Exception as problem:  # pyarrow raises all kinds of exceptions on damaged files
                reason = " ".join(str(problem).split())[:200] or type(problem).__name__
                raise DataError(f"{path}: not a readable Parquet file ({reason}); save it again") from None
        super().__init__(path, self._table.column_names)

    def rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield each row: its number and its values; dates as text."""
        columns = [column.to_pylist() for column in self._table.columns]
        for number, row in enumerate(zip(*columns, strict=True), 1):
            yield number, [str(value) if hasattr(value, "isoformat") else value for value in row]


def text_of(value: Any) -> str | None:
    """Return a field as text; "" for a missing value; None for what is no string, number or truth value.

    Truth values are ``True`` and ``False``, as in data frames, and numbers as JSON writes them. A number that is whole
    is written without a fraction, so that ``1`` and ``1.0`` are one label.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    if not isinstance(value, int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else json.dumps(value)
