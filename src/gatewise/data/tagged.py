"""Sentences with a tag for each word: CoNLL-U files, and files with one word and its tag per line."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from gatewise.data.text import find_part, read_lines
from gatewise.errors import DataError
from gatewise.files import LONGEST_SENTENCE

_COLUMNS = 10
_NO_TAG = "_"
_WORD = re.compile(r"[0-9]+")
_PASSED_OVER = re.compile(r"[0-9]+-[0-9]+|[0-9]+\.[0-9]+")  # a multiword token or an empty node
_DOCUMENT = re.compile(r"#\s*newdoc\b")
_SENTENCE_ID = re.compile(r"#\s*sent_id\s*=\s*(.*\S)")


@dataclass(frozen=True)
class TaggedSentence:
    """One sentence.

    Attributes:
        words: the word forms; a word may contain spaces.
        tags: one tag per word.
        sentence_id: ``sent_id`` of CoNLL-U.
        lines: the line number of each word in the file.
        document: the document of the sentence, if the file marks documents.
    """

    words: list[str]
    tags: list[str]
    sentence_id: str = ""
    lines: list[int] = field(default_factory=list)
    document: str = ""


TOY = [
    TaggedSentence(["The", "dog", "ate", "the", "apple"], ["DET", "NN", "V", "DET", "NN"], lines=[1, 2, 3, 4, 5]),
    TaggedSentence(["Everybody", "read", "that", "book"], ["NN", "V", "DET", "NN"], lines=[7, 8, 9, 10]),
]
"""Two example sentences, with line numbers as in a two-column file."""


def genre(sentence_id: str) -> str:
    """Return the part of a ``sent_id`` before its first hyphen, which is the genre in UD English-EWT."""
    return sentence_id.partition("-")[0]


def find_tagged(folder: str | Path, split: str) -> Path:
    """Find ``*-ud-train.conllu`` (``dev`` for valid), ``*.train.txt``, ``.tsv`` or ``.conll`` and so on, in a folder.

    Raises:
        DataError: the folder or the file is missing, or there are several files.
    """
    columns = [lambda name, end=end: (f"*.{name}{end}", f"{name}{end}") for end in (".txt", ".tsv", ".conll")]
    return find_part(Path(folder).expanduser(), split, [conllu_names, *columns])


def conllu_names(split: str) -> tuple[str, ...]:
    """Return the file name patterns of a split in Universal Dependencies."""
    return (f"*-ud-{'dev' if split == 'valid' else split}.conllu",)


def read_tagged(
    path: Path, tagged: bool = True, note: Callable[[str], object] = lambda line: None
) -> list[TaggedSentence]:
    """Return the sentences of a ``.conllu`` file, or of a file with one word and its tag per line.

    Raises:
        DataError: as for ``read_conllu`` and ``read_columns``.
    """
    return (
        read_conllu(path, tagged=tagged) if path.suffix == ".conllu" else read_columns(path, tagged=tagged, note=note)
    )


def read_conllu(path: Path, *, tagged: bool = True) -> list[TaggedSentence]:
    """Return the sentences of a CoNLL-U file: FORM and UPOS of its words.

    Multiword tokens (``1-2``) and empty nodes (``1.1``) are skipped, since they are not syntactic words.

    Args:
        path: ten tab-separated columns, a blank line after each sentence (https://universaldependencies.org/format.html).
        tagged: whether each word must have a tag; otherwise the tag may be ``_``.

    Raises:
        DataError: the file cannot be read (with line), or contains no sentences.
    """
    sentences: list[TaggedSentence] = []
    current, document = TaggedSentence([], []), ""
    for number, line in enumerate(chain(read_lines(path, kept=True), [""]), 1):
        if not line.strip():
            if current.words:
                sentences.append(replace(current, document=document))
            current = TaggedSentence([], [])
        elif line.startswith("#"):
            if match := _SENTENCE_ID.match(line):
                current = replace(current, sentence_id=match[1])
            elif _DOCUMENT.match(line):
                document = f"document {number}"
        elif word := _conllu_word(line, f"{path}:{number}", len(current.words) + 1, tagged):
            _check_length(current, f"{path}:{number}")
            current.words.append(word[0])
            current.tags.append(word[1])
            current.lines.append(number)
    return _not_empty(sentences, path, "lines of ten tab-separated columns")


def _conllu_word(line: str, place: str, expected_id: int, tagged: bool) -> tuple[str, str] | None:
    """Return FORM and UPOS of a line, or None for a multiword token or an empty node."""
    columns = line.split("\t")
    if len(columns) != _COLUMNS:
        raise DataError(
            f"{place}: {len(columns)} columns, expected {_COLUMNS} separated by single tabs; fix the line, or rename "
            "the file to .txt if it has one word and its tag per line"
        )
    index, form, _, tag = columns[:4]
    if _PASSED_OVER.fullmatch(index):
        return None
    if index != str(expected_id):
        raise DataError(
            f"{place}: word ID {index!r}, expected {expected_id}; number the words of a sentence from 1, and end "
            "it with a blank line"
        )
    if not form.strip():
        raise DataError(f"{place}: no word in column 2; expected the word form")
    if not tag.strip() or (tagged and tag == _NO_TAG):
        raise DataError(f"{place}: no tag for the word {form!r}; expected one in column 4 (UPOS)")
    return form, tag


def read_columns(
    path: Path, *, tagged: bool = True, note: Callable[[str], object] = lambda line: None
) -> list[TaggedSentence]:
    """Return the sentences of a file with one word and its tag per line, and a blank line between sentences.

    A header, such as ``word`` and ``tag``, is skipped: a first line of two usual names, the second of which is no tag
    of another line.

    Args:
        path: the file; word and tag are separated by a tab, or by the last whitespace of the line. If every line has
            the same number of columns, three or more, the first is the word and the last its tag, as in CoNLL-2003;
            its lines ``-DOCSTART-`` begin documents.
        tagged: whether each word must have a tag; otherwise a missing tag is read as ``_``.
        note: called with a line that says which line is a header, if one is.

    Raises:
        DataError: the file cannot be read (with line), or contains no sentences.
    """
    sentences: list[TaggedSentence] = []
    current, document, columns_of = TaggedSentence([], []), "", _columns_of(path)
    for number, line in enumerate(chain(read_lines(path, kept=True), [""]), 1):
        if line.startswith("-DOCSTART-"):
            document = f"document {number}"
        elif line.strip():
            columns = columns_of(line)
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
            sentences.append(replace(current, document=document))
            current = TaggedSentence([], [])
    return _not_empty(_without_header(sentences, note), path, "one word and its tag per line")


def _without_header(sentences: list[TaggedSentence], note: Callable[[str], object]) -> list[TaggedSentence]:
    if not sentences:
        return []
    first, *rest = sentences
    word, tag = first.words[0], first.tags[0]
    if not (_WORDS.fullmatch(word) and _TAGS.fullmatch(tag)) or sum(one.tags.count(tag) for one in sentences) > 1:
        return sentences
    note(f"line {first.lines[0]}, {word!r} and {tag!r}, is a header")
    left = replace(first, words=first.words[1:], tags=first.tags[1:], lines=first.lines[1:])
    return [left, *rest] if left.words else rest


_WORDS = re.compile("words?|tokens?|forms?|text|词|词语|单词|字", re.I)
_TAGS = re.compile("(ner|[ux]?pos|bio|entity)?[_ -]?(tag|label)s?|[ux]?pos|ner|bio|entity|标签|标注|词性", re.I)
"""Usual headers of the two columns."""


def _columns_of(path: Path) -> Callable[[str], list[str]]:
    """Return the function that splits a line of a file into a word and its tag."""
    sample = [line for line in islice(read_lines(path, kept=True), _SAMPLE) if line.strip()]
    for separator in ("\t", None):
        widths = {len(line.split(separator)) for line in sample if not line.startswith("-DOCSTART-")}
        if len(widths) == 1 and min(widths) > 2:
            return lambda line: [(columns := line.split(separator))[0], columns[-1]]
    return lambda line: line.split("\t") if "\t" in line else line.rsplit(maxsplit=1)


_SAMPLE = 1000
"""Lines from which the columns of a file are detected."""


def _check_length(sentence: TaggedSentence, place: str) -> None:
    if len(sentence.words) >= LONGEST_SENTENCE:
        raise DataError(
            f"{place}: sentence of more than {LONGEST_SENTENCE:,} words; expected a blank line after each sentence"
        )


def _not_empty(sentences: list[TaggedSentence], path: Path, expected: str) -> list[TaggedSentence]:
    if not sentences:
        raise DataError(f"{path}: no sentences in this file; expected {expected}")
    return sentences


def replace_tags(path: Path, tags: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a CoNLL-U file with UPOS (column 4) replaced and every other byte unchanged.

    Args:
        path: a file that ``read_conllu`` accepts.
        tags: the tags of each of its sentences, in order; consumed lazily.

    Yields:
        Each line, with its original line ending.

    Raises:
        ValueError: there are more or fewer tags than words.
    """
    words = chain.from_iterable(tags)
    # newline="\n" splits only at LF and translates nothing, like read_lines
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
