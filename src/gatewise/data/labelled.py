"""Labeled texts from tables or CoNLL-U files, already split or in one file."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gatewise.config import DataConfig
from gatewise.data.columns import AUTO, choose
from gatewise.data.numbers import is_number
from gatewise.data.table import SUFFIXES, JsonLines, Table, open_table, text_of
from gatewise.data.tagged import conllu_names, genre, read_conllu
from gatewise.data.text import find_part, read_lines
from gatewise.errors import DataError
from gatewise.files import file_hash, spooled
from gatewise.runtime.level import choose_level
from gatewise.runtime.vocabulary import split_tokens


@dataclass(frozen=True)
class LabelledText:
    """A text as a list of words, its label, the line of the file where it starts, and its group, if any."""

    words: list[str]
    label: str
    line: int
    group: str = ""


@dataclass(frozen=True)
class LabelledFile:
    """The labeled texts of a file, or of one split of it.

    Attributes:
        path: the file.
        texts: the texts, in order.
        data_hash: SHA-256 of the file or, for a split of it, of the file and the numbers of its texts.
        chosen: the settings that the file determined where they were ``auto``.
        notes: what was chosen or skipped, a line each.
    """

    path: Path
    texts: list[LabelledText]
    data_hash: str
    chosen: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def part(self, rows: Sequence[int]) -> "LabelledFile":
        """Return a split, without the notes."""
        digest = hashlib.sha256(f"{self.data_hash} {list(rows)}".encode()).hexdigest()
        return replace(self, texts=[self.texts[row] for row in rows], data_hash=digest, notes=[])


def find_labelled(folder: str | Path, split: str) -> Path:
    """Find the table or ``*-ud-train.conllu`` of a split in a folder, such as ``*.train.csv`` or ``train.csv``.

    Raises:
        DataError: the folder or the file is missing, or there are several files.
    """
    tables = [partial(_table_names, suffix=suffix) for suffix in SUFFIXES]
    return find_part(Path(folder).expanduser(), split, [*tables, conllu_names])


def _table_names(split: str, suffix: str) -> tuple[str, ...]:
    return f"*.{split}{suffix}", f"{split}{suffix}"


def read_labelled(
    path: Path, settings: DataConfig, split: Callable[[str], Sequence[str]] | None = None
) -> LabelledFile:
    """Return the labeled texts of a file, in order; rows without a text or a label are skipped, and a note says so.

    Args:
        path: a table (see ``open_table``); or ``.conllu``, whose sentences are labeled with their genre (``sent_id`` up
            to its first hyphen) and keep the file's word segmentation.
        settings: ``column``, ``label_column`` and ``group_column`` name columns of the table; ``auto`` lets the content
            decide. ``level`` splits texts into words.
        split: splits a text into words, instead of ``level``.

    Raises:
        DataError: the file has another extension, cannot be read, lacks a column, or contains no texts; a text is not
            a string, or a label neither a string nor a number (with line).
    """
    if path.suffix == ".conllu":
        return LabelledFile(path, list(_genres(path)), file_hash(path), {"level": "word"})
    if path.suffix not in (*SUFFIXES, ".txt"):
        raise DataError(f"{path}: unknown file extension {path.suffix!r}; expected {', '.join(SUFFIXES)} or .conllu")
    table = open_table(path)
    rows = list(table.rows())
    if not rows:
        raise DataError(f"{path}: no texts in this file; expected a text and its label in each row")
    text_column, label_column, notes = choose(table, [row for _, row in rows], settings.column, settings.label_column)
    places = [table.names.index(name) for name in (text_column, label_column)]
    group = table.place(settings.group_column, "data.group_column") if settings.group_column else None
    level: str = settings.level
    if level == AUTO:
        level, note = choose_level(str(row[places[0]] or "") for _, row in rows)
        notes.append(note)
    split = split or partial(split_tokens, level=level)
    texts, skipped = list[LabelledText](), list[int]()
    for line, row in rows:
        text, label = (row[place] for place in places)
        text = table.text(line, text_column, text)
        known = text_of(label)
        if known is None:
            raise DataError(
                f"{path}:{line}: the label in {label_column!r} is {label!r:.40}; expected a string, a number, true or "
                "false"
            )
        words = list(split(text))
        if words and known.strip():
            of = "" if group is None else text_of(row[group]) or ""
            texts.append(LabelledText(words, known.strip(), line, of))
        else:
            skipped.append(line)
    if not texts:
        raise DataError(f"{path}:{skipped[0]}: no row has both a text and a label; expected a text and its label")
    if skipped:
        notes.append(
            f"{path}: skipped {len(skipped)} of {len(rows)} rows without text or label, the first in line {skipped[0]}"
        )
    chosen = {"column": text_column, "label_column": label_column, "level": level}
    return LabelledFile(path, _one_label_per_number(texts), file_hash(path), chosen, [*table.notes, *notes])


def _one_label_per_number(texts: list[LabelledText]) -> list[LabelledText]:
    """Return the texts with labels written alike: where all are numbers, ``1``, ``1.0`` and ``01`` are one."""
    labels = {text.label for text in texts}
    if not all(map(is_number, labels)):
        return texts
    try:
        known = {label: text_of(float(label)) or label for label in labels}
    except ValueError:  # such as 1,000
        return texts
    return [replace(text, label=known[text.label]) for text in texts]


def read_texts(path: Path, column: str = "") -> list[tuple[int, str]]:
    """Return the texts of a file or a pipe with the line of each, empty ones included.

    Args:
        path: one text per line; or a table, whose texts are in ``column``. A file or pipe without the extension of a
            table is one if its first line names ``column`` among others.
        column: the column of the texts in the data that a model was trained on.

    Raises:
        DataError: the file cannot be read, contains no text, or lacks the column.
    """
    with spooled(path) as file:
        table = _table_with(file, column)
        found = list(table.texts(column)) if table else list(enumerate(read_lines(file, kept=True), 1))
    if not any(text.strip() for _, text in found):
        raise DataError(f"{path}: the file contains no text; expected one text per line, or a table")
    return found


def _table_with(path: Path, column: str) -> Table | None:
    """Return a file as a table if its extension or its first line says so, else None."""
    if path.suffix in SUFFIXES:
        return open_table(path)
    first = next(iter(read_lines(path, kept=True)), "")
    if not column or column not in first:
        return None
    table = JsonLines(path) if first.startswith("{") else open_table(path)
    return table if column in table.names and len(table.names) > 1 else None


def _genres(path: Path) -> Iterator[LabelledText]:
    for sentence in read_conllu(path, tagged=False):
        label = genre(sentence.sentence_id)
        if not label:
            raise DataError(
                f"{path}:{sentence.lines[0]}: sentence without a genre; expected a comment "
                "'# sent_id = GENRE-...' above it"
            )
        yield LabelledText(sentence.words, label, sentence.lines[0])
