"""Sentences from one column of a CSV file of comments."""

import os
from dataclasses import dataclass
from pathlib import Path

from gatewise.data.prose import split_sentences, split_words
from gatewise.data.table import Table
from gatewise.data.vocabulary import Vocabulary
from gatewise.errors import DataError
from gatewise.files import file_hash


@dataclass(frozen=True)
class Sentences:
    """Sentences as token ids, and where they are from.

    Attributes:
        ids: of each sentence: the start token, its words, the end token.
        unknown: how many words stand outside the vocabulary and read as ``<unk>``.
        data_hash: SHA-256 of the file's bytes.
    """

    ids: list[list[int]]
    unknown: int
    data_hash: str

    @property
    def tokens(self) -> int:
        """The tokens that are predicted: the words, and the end token of each sentence."""
        return sum(len(sentence) - 1 for sentence in self.ids)

    @property
    def oov_rate(self) -> float:
        """The share of predicted tokens that stand outside the vocabulary."""
        return self.unknown / self.tokens

    @classmethod
    def encode(cls, texts: list[str], vocabulary: Vocabulary, path: Path) -> "Sentences":
        """Look up the words of sentences that were read from a file."""
        assert vocabulary.bos_id is not None
        ids = [[vocabulary.bos_id, *vocabulary.encode_line(text)] for text in texts]
        unknown = sum(sentence.count(vocabulary.unk_id) for sentence in ids)
        return cls(ids, unknown, file_hash(path))


def find_csv(path: str | Path) -> Path:
    """Return a CSV file, or the one ``*.csv`` of a folder.

    Raises:
        DataError: there is none, or more than one.
    """
    path = Path(path).expanduser()
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file; expected a CSV file of comments")
    if not os.path.isdir(path):
        return path
    found = sorted(path.glob("*.csv"))
    if len(found) != 1:
        raise DataError(
            f"{path}: {len(found)} files *.csv in this folder; expected one, or the path of the file itself"
        )
    return found[0]


def read_sentences(path: Path, column: str) -> list[str]:
    """Return the sentences of a CSV file's column, in their order.

    Args:
        path: a CSV file as ``data/table.py`` reads it.
        column: the name of the column.

    Raises:
        DataError: the file cannot be read (with line), has no such column, or holds no sentence.
    """
    table = Table(path)
    place = table.place(column, "data.column=NAME")
    sentences = [text for _, row in table.rows() for text in split_sentences(row[place]) if split_words(text)]
    if not sentences:
        raise DataError(f"{path}: no sentence in the column {column!r}; expected text below the first row")
    return sentences
