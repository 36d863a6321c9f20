"""Splitting prose takes time that is linear in its length, and gives what its rules say."""

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.runtime import prose
from gatewise.runtime.characters import as_classed, lower
from gatewise.runtime.prose import split_as_written, split_sentences, split_words

LONG = 200_000
PIECES = (
    *"aaBI12²½_.!?…,:/'-+@@ \t)(]\"'”’[“‘<>ΣéİⒶ\u0301\x1c\x85\u2028\u203f",
    *("http://", "https://", "No. ", "Mr. ", "etc. ", "a@b.c", "U.S. ", "e.g. ", "\r\n", "inc. Foo", "p.m. ", ".+-"),
)
HARD = ("!", ".", "a. ", "mr. ", "1. ", "... a ", "a.b+c-", "a.+@", "a@", "!)", "http://", "+")
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@pytest.mark.parametrize("piece", HARD)
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (LONG // len(piece))
    for split in (split_sentences, split_words, split_as_written):
        began = time.perf_counter()
        assert split(text)
        assert time.perf_counter() - began < 5


@given(TEXTS)
def test_tokens_are_those_of_one_expression(text: str) -> None:
    one = re.compile(prose._token(prose._WORD, rf"(?<!{prose._WORD})"))
    straight = prose._straight(lower(text))
    assert split_words(text) == [straight[slice(*found.span())] for found in one.finditer(as_classed(straight))]


@given(TEXTS)
def test_sentences_are_those_of_one_expression(text: str) -> None:
    assert split_sentences(text) == [one for line in text.splitlines() for one in sentences(line)]


def sentences(line: str) -> Iterator[str]:
    start = 0
    for found in re.finditer(r"[.!?…]+[)\]\"'”’]*(?=\s)", line):
        words = line[start : found.start()].split()
        after = line[found.end() :].lstrip()[:1]
        if not prose._goes_on(words[-1] if words else "", len(words), found[0], after):
            yield line[start : found.end()].strip()
            start = found.end()
    if rest := line[start:].strip():
        yield rest
