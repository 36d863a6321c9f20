"""Labeled texts from CSV, JSONL or CoNLL-U files."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatewise.data.table import Table
from gatewise.data.tagged import conllu_names, genre, read_conllu
from gatewise.data.text import find_part, read_lines
from gatewise.errors import DataError
from gatewise.files import spooled


@dataclass(frozen=True)
class LabelledText:
    """A text as a list of words, its label, and the line of the file where it starts."""

    words: list[str]
    label: str
    line: int


def find_labelled(folder: str | Path, split: str) -> Path:
    """Find the ``*.train.csv``, ``*.train.jsonl`` or ``*-ud-train.conllu`` of a folder, in this order of preference.

    Raises:
        DataError: the folder or the file is missing, or there are several files.
    """
    return find_part(
        Path(folder).expanduser(),
        split,
        [lambda name: (f"*.{name}.csv",), lambda name: (f"*.{name}.jsonl",), conllu_names],
    )


def read_labelled(
    path: Path, text_column: str, label_column: str, split: Callable[[str], Sequence[str]] = str.split
) -> list[LabelledText]:
    """Return the labeled texts of a file, in order.

    Args:
        path: ``.csv``; ``.jsonl``, one object per line; or ``.conllu``, whose sentences are labeled with their genre
            (``sent_id`` up to its first hyphen) and keep the file's word segmentation.
        text_column: the column or key of the text; ignored for CoNLL-U.
        label_column: the column or key of the label; ignored for CoNLL-U.
        split: splits a text into words.

    Raises:
        DataError: the file has another extension, cannot be read, lacks a column, or contains no texts; a text is
            empty, or a label is missing or neither a string nor a number (with line).
    """
    if path.suffix == ".conllu":
        return list(_genres(path))
    if path.suffix not in (".csv", ".jsonl"):
        raise DataError(f"{path}: unknown file extension {path.suffix!r}; expected .csv, .jsonl or .conllu")
    pairs = (_csv_pairs if path.suffix == ".csv" else _json_pairs)(path, text_column, label_column)
    texts = []
    for line, text, label in pairs:
        words = list(split(text))
        if not words:
            raise DataError(f"{path}:{line}: no words in {text_column!r}; expected a text, remove the row")
        if not label:
            raise DataError(f"{path}:{line}: missing label in {label_column!r}; expected the text's class")
        texts.append(LabelledText(words, label, line))
    if not texts:
        raise DataError(f"{path}: no texts in this file; expected a text and its label in each row")
    return texts


def read_texts(path: Path) -> list[str]:
    """Return the texts of a file or a pipe, one per line.

    Raises:
        DataError: the file cannot be read or is empty, or one of its lines is blank (with line).
    """
    with spooled(path) as file:
        texts = list(read_lines(file, kept=True))
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise DataError(f"{path}:{number}: empty line; expected one text per line, remove the line")
    if not texts:
        raise DataError(f"{path}: the file is empty; expected one text per line")
    return texts


def _genres(path: Path) -> Iterator[LabelledText]:
    for sentence in read_conllu(path, tagged=False):
        label = genre(sentence.sentence_id)
        if not label:
            raise DataError(
                f"{path}:{sentence.lines[0]}: sentence without a genre; expected a comment "
                "'# sent_id = GENRE-...' above it"
            )
        yield LabelledText(sentence.words, label, sentence.lines[0])


def _csv_pairs(path: Path, text_column: str, label_column: str) -> Iterator[tuple[int, str, str]]:
    table = Table(path)
    text, label = table.place(text_column, "data.column=NAME"), table.place(label_column, "data.label_column=NAME")
    for line, row in table.rows():
        yield line, row[text], row[label].strip()


def _json_pairs(path: Path, text_column: str, label_column: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(read_lines(path, kept=True), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        record = _json_object(line, place)
        for column, key in ((text_column, "column"), (label_column, "label_column")):
            if column not in record:
                found = ", ".join(map(repr, record)) or "none"
                raise DataError(f"{place}: no key {column!r}; found {found}; name one with --set data.{key}=NAME")
        text, label = record[text_column], record[label_column]
        if not isinstance(text, str):
            raise DataError(f"{place}: the text in {text_column!r} is {json.dumps(text)[:40]}; expected a string")
        if label is None:
            label = ""
        if isinstance(label, bool) or not isinstance(label, str | int | float):
            raise DataError(
                f"{place}: the label in {label_column!r} is {json.dumps(label)[:40]}; expected a string or a number"
            )
        yield number, text, str(label).strip()


def _json_object(line: str, place: str) -> dict[str, object]:
    try:
        record = json.loads(line, parse_constant=_refuse)
        json.dumps(record, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{place}: invalid JSON ({problem}); expected one object per line") from None
    if not isinstance(record, dict):
        raise DataError(f"{place}: {line.strip()[:40]} is not a JSON object; expected one per line")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
