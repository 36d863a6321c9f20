"""Rule-based splitting of English prose into sentences and lower-cased words, numbers and punctuation marks."""

import re
from collections.abc import Iterator, Sequence

from gatewise.runtime.characters import LATIN_NUMBERS, as_classed, lower

CURLY = (("[‘’]", "'"), ("[“”]", '"'))
"""Curly quotes and their straight replacements, as (pattern, replacement)."""


def _token(word: str = r"\w", start: str = r"\b") -> str:
    return "|".join(
        (
            r"https?://[^\s<>\"]*[\w/]",  # a URL
            rf"[\w.+-]+@{word}[\w-]*(?:\.{word}+)+",  # an email address
            r"(?:[^\W\d_]\.){2,}",  # u.s., e.g., a.m.
            rf"{start}(?:mr|mrs|ms|dr|st|jr|sr|vs|etc|inc|ltd|co|corp)\.",
            r"\d+(?:[.,:/]\d+)+",  # 3.5, 1,000, 10:30, 5/8
            rf"{word}+(?:['-]{word}+)*",  # don't, rip-off
            r"([^\w\s])\1*",  # a punctuation mark, or a run of the same one: ..., !!
        )
    )


TOKEN = _token()
"""Token patterns, the first match wins; applied to lower-cased text with straight quotes, dropping whitespace.

They are written in ``tokenizer.json`` too; ``as_classed`` gives them the same meaning here as there.
"""

_TOKEN = re.compile(_token(rf"[\w{LATIN_NUMBERS}]", rf"(?<![\w{LATIN_NUMBERS}])"))

_END = re.compile(r"[.!?…]+[)\]\"'”’]*(?=\s)")
_NEVER_LAST = frozenset(
    re.findall(r"\S+", "mr mrs ms dr st ft mt gen rev lt gov sen rep prof capt sgt col hon vs e.g i.e attn fig approx")
)
_SELDOM_LAST = frozenset(re.findall(r"\S+", "etc inc ltd co corp jr sr dept est ph.d rgds"))


def split_words(text: str) -> list[str]:
    """Lower-case a sentence and split it into words, numbers and marks; ``don't`` and ``rip-off`` stay whole."""
    text = _straight(lower(text))
    return [text[slice(*match.span())] for match in _TOKEN.finditer(as_classed(text))]


def split_as_written(text: str) -> list[str]:
    """Split a sentence at the same boundaries as ``split_words``, but keep case and quotes as they are written."""
    small = lower(text)
    places: Sequence[int] = range(len(text) + 1)
    if len(small) > len(text):  # a letter whose lower case is two
        places = [*(place for place, letter in enumerate(text) for _ in lower(letter)), len(text)]
    spans = (match.span() for match in _TOKEN.finditer(as_classed(_straight(small))))
    return [text[places[start] : places[end]] for start, end in spans]


def _straight(text: str) -> str:
    """Replace curly quotes by straight ones, one character for one."""
    for pattern, straight in CURLY:
        text = re.sub(pattern, straight, text)
    return text


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, dropping blank ones.

    A sentence ends at the end of a line, and at ``.``, ``!``, ``?`` or a run of them (with any closing quotes and
    brackets) followed by whitespace. It continues after a title or an initial (``Dr.``, ``J.``), after ``etc.``,
    ``p.m.``, an ellipsis and the like before a lower-case letter, after ``No.`` before a number, and after a leading
    number (``1. First``). A dot inside a number or an address is not followed by whitespace.
    """
    return [piece for line in text.splitlines() for piece in _sentences_of_line(line)]


def _sentences_of_line(line: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(line):
        if not _goes_on(line[start : match.start()], match[0], line[match.end() :].lstrip()):
            yield line[start : match.end()].strip()
            start = match.end()
    if rest := line[start:].strip():
        yield rest


def _goes_on(before: str, mark: str, after: str) -> bool:
    """Return whether a sentence continues after a mark that could end it."""
    if "!" in mark or "?" in mark:
        return False
    before_small_letter = after[:1].islower()
    if len(mark.rstrip(")]\"'”’")) > 1 or mark[0] == "…":
        return before_small_letter
    words = before.split()
    word = words[-1].lstrip("([\"'“‘").lower() if words else ""
    if word in _NEVER_LAST or (len(word) == 1 and word.isalpha() and word != "i"):
        return True
    if word in _SELDOM_LAST or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
        return before_small_letter
    if word == "no":
        return after[:1].isdigit()
    return word.isdigit() and len(words) == 1
