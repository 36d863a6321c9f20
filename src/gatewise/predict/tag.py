"""Tagging text by a run's best model: one sentence a line, or CoNLL-U with its tags replaced."""

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from gatewise.data.tagged import read_conllu, replace_tags
from gatewise.data.text import read_lines
from gatewise.errors import DataError
from gatewise.files import copied, spooled
from gatewise.models.loading import load_as
from gatewise.models.tagger import Tagger

CHUNK = 4096
"""Sentences that are tagged between two writes."""


def tag_file(run: str | Path, file: Path | None, form: str) -> Iterator[str]:
    """Tag what a file holds; all of it is read before the first piece is yielded.

    A CoNLL-U file is known by its first line of ten columns; any other holds one sentence a line, its words separated
    by white space.

    Args:
        run: a tagger's run folder.
        file: UTF-8, a pipe such as ``<(command)`` too; standard input where not given.
        form: what comes out. ``text``: ``word/TAG`` joined by single spaces, one line for each line or sentence in;
            ``conllu``: of CoNLL-U the same with UPOS replaced, of text its words and tags alone; ``json``: one object,
            ``sentences``, each with ``words`` and ``tags``.

    Yields:
        Pieces of text, with their line ends.

    Raises:
        UsageError: the run is of another task.
        DataError: the file is not as it should be (with line).
    """
    model = load_as(Tagger, run)
    if file is not None:
        with spooled(file) as path:
            yield from _tag(model, path, form, may_be_empty=False)
        return
    with copied(sys.stdin.buffer, "standard input") as path:
        yield from _tag(model, path, form, may_be_empty=True)


def _tag(model: Tagger, path: Path, form: str, may_be_empty: bool) -> Iterator[str]:
    conllu = _is_conllu(path)
    if conllu:
        sentences = [sentence.words for sentence in read_conllu(path, tagged=False)]
    else:
        sentences = [line.split() for line in read_lines(path, kept=True)]
        if not sentences and not may_be_empty:
            raise DataError(f"{path}: the file is empty; expected one sentence a line")
    tags = _tags(model, sentences)
    if form == "text":
        for words, own in zip(sentences, tags, strict=True):
            yield " ".join(f"{word}/{tag}" for word, tag in zip(words, own, strict=True)) + "\n"
    elif form == "json":
        found = [{"words": words, "tags": own} for words, own in zip(sentences, tags, strict=True)]
        yield json.dumps({"sentences": found}, ensure_ascii=False) + "\n"
    elif conllu:
        yield from replace_tags(path, tags)
    else:
        for words, own in zip(sentences, tags, strict=True):
            if words:
                yield _conllu_lines(words, own)


def _is_conllu(path: Path) -> bool:
    """Say whether the name or the first line that is no comment is CoNLL-U's."""
    if path.suffix == ".conllu":
        return True
    first = next((line for line in read_lines(path) if line.strip() and not line.startswith("#")), "")
    return first.count("\t") == 9


def _tags(model: Tagger, sentences: Sequence[list[str]]) -> Iterator[list[str]]:
    """Yield the tags of each sentence."""
    ahead = iter(sentences)
    while some := list(islice(ahead, CHUNK)):
        yield from model.tag(some)


def _conllu_lines(words: Sequence[str], tags: Sequence[str]) -> str:
    """Write a sentence as CoNLL-U, with nothing known but words and tags."""
    rows = (
        f"{k}\t{word}\t_\t{tag}" + "\t_" * 6 + "\n" for k, (word, tag) in enumerate(zip(words, tags, strict=True), 1)
    )
    return "".join(rows) + "\n"
