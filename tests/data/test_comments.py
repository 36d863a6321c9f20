"""Sentences from a CSV file, and what is wrong with it in one line."""

from pathlib import Path

import pytest

from gatewise.data.comments import Sentences, find_csv, read_sentences
from gatewise.errors import DataError
from gatewise.runtime.vocabulary import BOS, EOS, UNK, Vocabulary
from tests.conftest import real_data

ALL = [
    "The dog ate the apple.",
    "Everybody read that book!",
    'He said: "It ate, the dog, that apple..." and left',
    "Where is the book?",
    "The dog ate the book.",
    "The dog read it.",
]


def test_fields_with_quotes_commas_and_line_ends(comments: Path) -> None:
    assert read_sentences(comments, "body") == ALL
    assert find_csv(comments.parent) == comments


@pytest.mark.parametrize("change", [lambda raw: b"\xef\xbb\xbf" + raw, lambda raw: raw.replace(b"\r\n", b"\n\n")])
def test_what_is_endured(comments: Path, tmp_path: Path, change: object) -> None:
    """A byte order mark, blank lines, either end of line."""
    assert callable(change)
    (tmp_path / "a.csv").write_bytes(change(comments.read_bytes()))
    assert read_sentences(tmp_path / "a.csv", "body") == ALL


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            b"id,text\n1,a\n",
            r"a\.csv:1: no column 'body'; found 'id', 'text'; select one with .*'data\.column'",
        ),
        (b"", r"a\.csv: the file is empty"),
        (b"body\n\n", r"a\.csv: no sentences in column 'body'"),
        (b"body\n \n", r"a\.csv: no sentences in column 'body'"),
        (b"body\nok\nb, c\n", r"a\.csv:3: 2 fields in this row, expected 1"),
        (b'body\n"a\nb"\n"c" d\n', r"a\.csv:4: invalid CSV"),
        (b'body\nok\n"never closed\n', r"a\.csv:3: invalid CSV \(unexpected end of data\)"),
        (b"body\nok\ncaf\xe9\n", r"a\.csv:3: byte 0xe9 is not valid UTF-8"),
    ],
)
def test_bad_files(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_sentences(tmp_path / "a.csv", "body")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; expected a CSV file"):
        find_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"0 \*\.csv files in this folder"):
        find_csv(tmp_path)


def test_ids(comments: Path) -> None:
    vocabulary = Vocabulary.from_lines(ALL, "prose", 8, start=True)
    assert vocabulary.tokens == ["the", BOS, EOS, "dog", ".", "ate", "book", UNK]
    read = Sentences.encode(ALL[:1], vocabulary, comments)
    assert read.ids == [[1, 0, 3, 5, 0, 7, 4, 2]]
    assert (read.tokens, read.unknown, read.oov_rate) == (7, 1, 1 / 7)


def test_the_real_comments() -> None:
    texts = read_sentences(real_data("comments") / "comments.csv", "body")
    vocabulary = Vocabulary.from_lines(texts, "prose", 8000, start=True)
    assert len(vocabulary) == 8000
    assert vocabulary.tokens[:4] == [BOS, EOS, "the", "."]
    assert vocabulary.tokens[-1] == UNK
    read = Sentences.encode(texts, vocabulary, real_data("comments") / "comments.csv")
    assert (len(read.ids), read.tokens) == (len(texts), sum(len(vocabulary.encode_line(text)) for text in texts))
    assert 11_000 < len(texts) < 12_500  # by its paragraphs and full stops
    assert read.oov_rate < 0.06


def test_a_comment_that_is_no_text_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "One. Two."}\n{"body": 3}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: the text in 'body' is 3; expected a string"):
        read_sentences(tmp_path / "a.jsonl", "body")
