"""Tagging of text with a run's best model: one sentence per line, or CoNLL-U with its tags replaced."""

import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from gatewise.data.tagged import read_columns, read_conllu, replace_tags
from gatewise.data.text import read_lines
from gatewise.errors import DataError
from gatewise.files import copied, spooled
from gatewise.models.loading import load
from gatewise.models.tagger import Tagger
from gatewise.runtime.level import choose_level, split_lines

CHUNK = 4096
"""Sentences tagged per write."""


def tag_file(
    run: str | Path,
    file: Path | None,
    form: str,
    pretokenized: bool = False,
    note: Callable[[str], object] = lambda line: None,
) -> Iterator[str]:
    """Tag the contents of a file; the whole file is read before the first piece is yielded.

    A CoNLL-U file is recognised by its first line having ten columns. A file has one word and its tag per line, as for
    training, if a tab stands before the last word of every line, or if most lines end in a tag that the model knows and
    have as many fields as the others. It has one word per line if no line has several and empty lines separate
    sentences. Any other file holds one sentence per line. Sentences are split into words by the rules of prose, keeping
    case; Chinese and Japanese without spaces, into characters.

    Args:
        run: a tagger's run folder.
        file: a UTF-8 file, or a pipe such as ``<(command)``; defaults to standard input.
        form: the output format. ``text``: ``word/TAG`` separated by single spaces, one line per input line or sentence;
            ``conllu``: CoNLL-U input with UPOS replaced, or the words and tags of text input; ``json``: one object,
            ``sentences``, each with ``words``, ``tags``, and for each word the ``probabilities`` of all tags (with a
            CRF, its marginals).
        pretokenized: split sentences at white space only.
        note: called with a line that says how text was split or that it has a word per line, unless it is CoNLL-U or
            split at spaces and punctuation marks.

    Yields:
        Pieces of text, including line ends.

    Raises:
        UsageError: the run belongs to another task.
        DataError: the file is invalid (the message gives the line).
    """
    model = load(run, Tagger)
    if file is not None:
        with spooled(file) as path:
            yield from _tag(model, path, form, False, pretokenized, note)
        return
    with copied(sys.stdin.buffer, "standard input") as path:
        yield from _tag(model, path, form, True, pretokenized, note)


def _tag(
    model: Tagger, path: Path, form: str, may_be_empty: bool, pretokenized: bool, note: Callable[[str], object]
) -> Iterator[str]:
    conllu = _is_conllu(path)
    if conllu:
        sentences = [sentence.words for sentence in read_conllu(path, tagged=False)]
    elif how := _word_per_line(path, model.tags):
        note(how)
        sentences = [sentence.words for sentence in read_columns(path, tagged=False, note=note)]
    else:
        lines = list(read_lines(path, kept=True))
        sentences = [line.split() for line in lines] if pretokenized else split_lines(lines, note)
        if not sentences and not may_be_empty:
            raise DataError(f"{path}: the file is empty; expected one sentence per line")
    tags = _tags(model, sentences)
    if form == "text":
        for words, own in zip(sentences, tags, strict=True):
            yield " ".join(f"{word}/{tag}" for word, tag in zip(words, own, strict=True)) + "\n"
    elif form == "json":
        found = []
        for words, own, each in zip(sentences, tags, model.tag_probabilities(sentences), strict=True):
            probabilities = [dict(zip(model.tags, p, strict=True)) for p in each.tolist()]
            found.append({"words": words, "tags": own, "probabilities": probabilities})
        yield json.dumps({"sentences": found}, ensure_ascii=False) + "\n"
    elif conllu:
        yield from replace_tags(path, tags)
    else:
        for words, own in zip(sentences, tags, strict=True):
            if words:
                yield _conllu_lines(words, own)


def _is_conllu(path: Path) -> bool:
    """Return whether a file is CoNLL-U, judging by its name or its first line that is not a comment."""
    if path.suffix == ".conllu":
        return True
    first = next((line for line in read_lines(path) if line.strip() and not line.startswith("#")), "")
    return first.count("\t") == 9


def _word_per_line(path: Path, tags: Collection[str]) -> str | None:
    """Return a note on a file with one word per line, with or without its tag; None if it has a sentence per line."""
    lines = [line.strip() for line in islice(read_lines(path, kept=True), 1000) if not line.startswith("-DOCSTART-")]
    fields = [line.split() for line in lines if line]
    if len(fields) < 2:
        return None
    # A tag without letters, such as that of a full stop, may as well be the last word of a sentence.
    known = sum(row[-1] in tags and any(map(str.isalnum, row[-1])) for row in fields)
    alike = len({len(row) for row in fields}) == 1 or 2 * sum(len(row) == 2 for row in fields) > len(fields)
    apart = [line.rpartition("\t")[::2] for line in lines if line]
    if all(before and len(last.split()) == 1 for before, last in apart) or (
        alike and min(map(len, fields)) > 1 and 2 * known > len(fields)
    ):
        return "read as one word and its tag per line, with an empty line after each sentence; its tags are not used"
    sentences = sum(bool(line) and not before for before, line in zip(["", *lines], lines, strict=False))
    if max(map(len, fields)) == 1 and 1 < sentences < len(fields) and choose_level(lines)[0] != "character":
        return "read as one word per line, with an empty line after each sentence"
    return None


def _tags(model: Tagger, sentences: Sequence[list[str]]) -> Iterator[list[str]]:
    """Yield the tags of each sentence."""
    ahead = iter(sentences)
    while some := list(islice(ahead, CHUNK)):
        yield from model.tag(some)


def _conllu_lines(words: Sequence[str], tags: Sequence[str]) -> str:
    """Format a sentence as CoNLL-U with only the words and tags filled in."""
    rows = (
        f"{k}\t{word}\t_\t{tag}" + "\t_" * 6 + "\n" for k, (word, tag) in enumerate(zip(words, tags, strict=True), 1)
    )
    return "".join(rows) + "\n"
