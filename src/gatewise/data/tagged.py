"""Sentences with a tag for each word: CoNLL-U files, and files with a word and its tag a line."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from gatewise.data.text import find_part, read_lines
from gatewise.errors import DataError
from gatewise.files import LONGEST_SENTENCE

_COLUMNS = 10
_NO_TAG = "_"
_WORD = re.compile(r"[0-9]+")
_PASSED_OVER = re.compile(r"[0-9]+-[0-9]+|[0-9]+\.[0-9]+")  # a multiword token, an empty node
_SENTENCE_ID = re.compile(r"#\s*sent_id\s*=\s*(.*\S)")


@dataclass(frozen=True)
class TaggedSentence:
    """One sentence.

    Attributes:
        words: as written; a word may hold spaces.
        tags: one for each word.
        sentence_id: ``sent_id`` of CoNLL-U.
        lines: the file's line of each word.
    """

    words: list[str]
    tags: list[str]
    sentence_id: str = ""
    lines: list[int] = field(default_factory=list)


TOY = [
    TaggedSentence(["The", "dog", "ate", "the", "apple"], ["DET", "NN", "V", "DET", "NN"], lines=[1, 2, 3, 4, 5]),
    TaggedSentence(["Everybody", "read", "that", "book"], ["NN", "V", "DET", "NN"], lines=[7, 8, 9, 10]),
]
"""Two sentences, with their lines in a file of two columns."""


def genre(sentence_id: str) -> str:
    """Return the part of a ``sent_id`` before its first hyphen, in UD English-EWT the genre."""
    return sentence_id.partition("-")[0]


def find_tagged(folder: str | Path, split: str) -> Path:
    """Find a folder's ``*-ud-train.conllu`` (``dev`` for valid, ``test``), else its ``*.train.txt`` and so on.

    Raises:
        DataError: the folder or the file is missing, or there are several.
    """
    return find_part(Path(folder).expanduser(), split, [conllu_names, lambda name: (f"*.{name}.txt", f"{name}.txt")])


def conllu_names(split: str) -> tuple[str, ...]:
    """Return the file names that Universal Dependencies gives a split."""
    return (f"*-ud-{'dev' if split == 'valid' else split}.conllu",)


def read_tagged(path: Path, tagged: bool = True) -> list[TaggedSentence]:
    """Return the sentences of a ``.conllu`` file, or of one with a word and its tag a line.

    Raises:
        DataError: as ``read_conllu`` and ``read_columns`` do.
    """
    read = read_conllu if path.suffix == ".conllu" else read_columns
    return read(path, tagged=tagged)


def read_conllu(path: Path, *, tagged: bool = True) -> list[TaggedSentence]:
    """Return the sentences of a CoNLL-U file: FORM and UPOS of its words.

    Multiword tokens (``1-2``) and empty nodes (``1.1``) are passed over: they are no words of the syntax.

    Args:
        path: ten columns between tabs, a blank line after each sentence (https://universaldependencies.org/format.html).
        tagged: whether each word must have a tag; otherwise ``_`` may stand for it.

    Raises:
        DataError: the file cannot be read (with line), or holds no sentence.
    """
    sentences: list[TaggedSentence] = []
    current = TaggedSentence([], [])
    for number, line in enumerate(chain(read_lines(path, kept=True), [""]), 1):
        if not line:
            if current.words:
                sentences.append(current)
            current = TaggedSentence([], [])
        elif line.startswith("#"):
            if match := _SENTENCE_ID.match(line):
                current = TaggedSentence(current.words, current.tags, match[1], current.lines)
        elif word := _conllu_word(line, f"{path}:{number}", len(current.words) + 1, tagged):
            _check_length(current, f"{path}:{number}")
            current.words.append(word[0])
            current.tags.append(word[1])
            current.lines.append(number)
    return _not_empty(sentences, path, "lines of ten columns between tabs")


def _conllu_word(line: str, place: str, expected_id: int, tagged: bool) -> tuple[str, str] | None:
    """Return FORM and UPOS of a line, or nothing where it is no word."""
    columns = line.split("\t")
    if len(columns) != _COLUMNS:
        raise DataError(
            f"{place}: {len(columns)} columns, expected {_COLUMNS} between single tabs; mend the line, or end the "
            "file's name in .txt where it holds a word and its tag a line"
        )
    index, form, _, tag = columns[:4]
    if _PASSED_OVER.fullmatch(index):
        return None
    if index != str(expected_id):
        raise DataError(
            f"{place}: word number {index!r}, expected {expected_id}; number the words of a sentence from 1, and end "
            "it with a blank line"
        )
    if not form.strip():
        raise DataError(f"{place}: no word in column 2; expected its form")
    if not tag.strip() or (tagged and tag == _NO_TAG):
        raise DataError(f"{place}: no tag for the word {form!r}; expected one in column 4 (UPOS)")
    return form, tag


def read_columns(path: Path, *, tagged: bool = True) -> list[TaggedSentence]:
    """Return the sentences of a file with a word and its tag a line, and a blank line between sentences.

    Args:
        path: word and tag are separated by a tab, or by the line's last white space.
        tagged: whether each word must have a tag; otherwise it may be left out, and reads as ``_``.

    Raises:
        DataError: the file cannot be read (with line), or holds no sentence.
    """
    sentences: list[TaggedSentence] = []
    current = TaggedSentence([], [])
    for number, line in enumerate(chain(read_lines(path, kept=True), [""]), 1):
        if line.strip():
            columns = line.split("\t") if "\t" in line else line.rsplit(maxsplit=1)
            if len(columns) > 2:
                raise DataError(f"{path}:{number}: {len(columns)} columns, expected 2: a word, a tab and its tag")
            word, tag = columns[0].strip(), columns[1].strip() if len(columns) == 2 else ""
            if not word:
                raise DataError(f"{path}:{number}: no word before the tag {tag!r}; expected a word, a tab and its tag")
            if tagged and not tag:
                raise DataError(f"{path}:{number}: no tag for the word {word!r}; expected a word, a tab and its tag")
            _check_length(current, f"{path}:{number}")
            current.words.append(word)
            current.tags.append(tag or _NO_TAG)
            current.lines.append(number)
        elif current.words:
            sentences.append(current)
            current = TaggedSentence([], [])
    return _not_empty(sentences, path, "a word and its tag a line")


def _check_length(sentence: TaggedSentence, place: str) -> None:
    if len(sentence.words) >= LONGEST_SENTENCE:
        raise DataError(
            f"{place}: a sentence of more than {LONGEST_SENTENCE:,} words; expected a blank line after each sentence"
        )


def _not_empty(sentences: list[TaggedSentence], path: Path, expected: str) -> list[TaggedSentence]:
    if not sentences:
        raise DataError(f"{path}: no sentence in this file; expected {expected}")
    return sentences


def replace_tags(path: Path, tags: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a CoNLL-U file with UPOS, column 4, replaced; every other byte stays.

    Args:
        path: a file that ``read_conllu`` has read.
        tags: of each of its sentences, in their order; asked for as the lines are.

    Yields:
        Each line with its own end.

    Raises:
        ValueError: there are more or fewer tags than words.
    """
    words = chain.from_iterable(tags)
    # newline="\n" translates nothing and cuts at nothing else, as read_lines does
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            columns = line.split("\t")
            if len(columns) == _COLUMNS and _WORD.fullmatch(columns[0].removeprefix("\ufeff")):
                tag = next(words, None)
                if tag is None:
                    raise ValueError(f"{path}: fewer tags than words")
                columns[3] = tag
            yield "\t".join(columns)
    if next(words, None) is not None:
        raise ValueError(f"{path}: more tags than words")
