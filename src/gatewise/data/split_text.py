"""One text as three: the lines of a file or of a table's column, cut into train, valid and test in their order."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from gatewise.data.columns import AUTO, text_of_table
from gatewise.data.splitting import sizes_as_text, sizes_of
from gatewise.data.table import SUFFIXES, open_table
from gatewise.data.text import TextCorpus, read_lines
from gatewise.data.token_cache import cache_folder
from gatewise.errors import DataError
from gatewise.files import file_hash
from gatewise.reading import parse_json


def split_text(
    path: Path, valid_size: int, test_size: int, column: str
) -> tuple[TextCorpus, dict[str, int], str, list[str]]:
    """Cut a text into three files in the cache folder: the last lines are the test text, those before them validation.

    Args:
        path: a text file, or a table with a column of texts.
        valid_size: number of lines for validation; 0 takes a tenth.
        test_size: number of lines for testing; 0 takes a tenth.
        column: the column of a table, or ``auto``.

    Returns:
        The corpus, the number of lines of each split, the column (empty for a text file), and notes.

    Raises:
        DataError: the file cannot be read, or has too few lines; the cache folder is not writable.
    """
    column, notes = _column(path, column)
    count = sum(1 for _ in _lines(path, column))
    valid, test = sizes_of(count, valid_size, test_size, str(path), unit="line")
    sizes = {"train": count - valid - test, "valid": valid, "test": test}
    key = hashlib.sha256(f"{file_hash(path)} {column} {sizes}".encode()).hexdigest()[:32]
    files = _cached(cache_folder() / "corpora" / f"text-{key}", path, column, sizes)
    return TextCorpus(**files), sizes, column, [*notes, f"one text, split in order, lines: {sizes_as_text(sizes)}"]


def whole_text(path: Path, column: str) -> Path:
    """Return a text file; for a table, a file in the cache folder with the lines of a column.

    Raises:
        DataError: the file cannot be read, or lacks the column; the cache folder is not writable.
    """
    if path.suffix not in SUFFIXES:
        return path
    column, _ = _column(path, column)
    key = hashlib.sha256(f"{file_hash(path)} {column} whole".encode()).hexdigest()[:32]
    return _cached(cache_folder() / "corpora" / f"text-{key}", path, column, {"whole": None})["whole"]


def _column(path: Path, column: str) -> tuple[str, list[str]]:
    """Return the column of a table that holds the text, and notes; an empty name for a text file."""
    if path.suffix not in SUFFIXES:
        return "", []
    table = open_table(path)
    if column != AUTO:
        table.place(column, "data.column")
        return column, table.notes
    column = text_of_table(table, [row for _, row in table.rows()])
    return column, [*table.notes, f"text from column {column!r}"]


def _lines(path: Path, column: str) -> Iterator[str]:
    if not column:
        yield from read_lines(path)
        return
    for _, text in open_table(path).texts(column):
        yield from text.splitlines()


def _cached(folder: Path, path: Path, column: str, sizes: Mapping[str, int | None]) -> dict[str, Path]:
    """Return the files of the parts of a text, written if they are missing or damaged.

    Args:
        folder: where they are kept.
        path: the text.
        column: the column of a table.
        sizes: the lines of each part, in order; None for all that are left.

    Raises:
        DataError: the folder is not writable.
    """
    try:
        if not _is_whole(folder, len(sizes)):
            _write(folder, path, column, sizes)
    except OSError as problem:
        raise DataError(
            f"{folder}: cannot write the parts of {path} there ({problem.strerror or problem}); set GATEWISE_CACHE to "
            "a writable folder"
        ) from None
    return {part: folder / f"{path.stem}.{part}.txt" for part in sizes}


def _write(folder: Path, path: Path, column: str, sizes: Mapping[str, int | None]) -> None:
    """Write the parts and their hashes to a new folder, which then takes its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix="part-"))
    try:
        lines, digests = _lines(path, column), {}
        for name, size in sizes.items():
            part = beside / f"{path.stem}.{name}.txt"
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in islice(lines, size))
            digests[part.name] = file_hash(part)
        (beside / "parts.json").write_text(json.dumps(digests))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _is_whole(folder: Path, count: int) -> bool:
    """Return whether all parts are as they were written."""
    try:
        digests = parse_json((folder / "parts.json").read_bytes())
        return len(digests) == count and all(file_hash(folder / name) == of for name, of in digests.items())
    except (OSError, ValueError, AttributeError, DataError):
        return False
