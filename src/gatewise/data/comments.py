"""Sentences from one column of a CSV file of comments."""

import os
from dataclasses import dataclass
from pathlib import Path

from gatewise.data.table import open_table
from gatewise.errors import DataError
from gatewise.files import file_hash
from gatewise.runtime.prose import split_sentences, split_words
from gatewise.runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class Sentences:
    """Sentences as token ids, with the hash of their source.

    Attributes:
        ids: ids of each sentence: the start token, its words, the end token.
        unknown: number of out-of-vocabulary words, which are read as ``<unk>``.
        data_hash: SHA-256 of the file.
    """

    ids: list[list[int]]
    unknown: int
    data_hash: str

    @property
    def tokens(self) -> int:
        """Number of predicted tokens: the words and the end token of each sentence."""
        return sum(len(sentence) - 1 for sentence in self.ids)

    @property
    def oov_rate(self) -> float:
        """Fraction of predicted tokens that are out of vocabulary."""
        return self.unknown / self.tokens

    @classmethod
    def encode(cls, texts: list[str], vocabulary: Vocabulary, path: Path) -> "Sentences":
        """Look up the words of sentences read from a file."""
        assert vocabulary.bos_id is not None
        ids = [[vocabulary.bos_id, *vocabulary.encode_line(text)] for text in texts]
        unknown = sum(sentence.count(vocabulary.unk_id) for sentence in ids)
        return cls(ids, unknown, file_hash(path))


def find_csv(path: str | Path) -> Path:
    """Return the path itself if it is a file, or the only ``*.csv`` of a folder.

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
            f"{path}: {len(found)} *.csv files in this folder; expected one, or the path of the file itself"
        )
    return found[0]


def read_sentences(path: Path, column: str) -> list[str]:
    """Return the sentences of one column of a CSV file, in order.

    Args:
        path: a table (see ``open_table``).
        column: the name of the column.

    Raises:
        DataError: the file cannot be read (with line), has no such column, or contains no sentences.
    """
    texts = open_table(path).texts(column)
    sentences = [sentence for _, text in texts for sentence in split_sentences(text) if split_words(sentence)]
    if not sentences:
        raise DataError(f"{path}: no sentences in column {column!r}; expected text below the header row")
    return sentences
