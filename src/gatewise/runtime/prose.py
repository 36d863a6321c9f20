"""Rule-based splitting of English prose into sentences and lower-cased words, numbers and punctuation marks."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

from gatewise.runtime.characters import LATIN_NUMBERS, as_classed, lower

CURLY = (("[‘’]", "'"), ("[“”]", '"'))
"""Curly quotes and their straight replacements, as (pattern, replacement)."""


_URL = r"https?://[^\s<>\"]*[\w/]"
_LOCAL = r"[\w.+-]+"
"""Of an email address, what is before its @."""


def _domain(word: str = r"\w") -> str:
    return rf"@{word}[\w-]*(?:\.{word}+)+"


def _token(word: str = r"\w", start: str = r"\b", email: bool = True) -> str:
    return "|".join(
        (
            _URL,
            *([_LOCAL + _domain(word)] if email else []),
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

_WORD = rf"[\w{LATIN_NUMBERS}]"
_NO_EMAIL = re.compile(_token(_WORD, rf"(?<!{_WORD})", email=False))
_BEFORE_AT = re.compile(rf"{_LOCAL}(?=({_domain(_WORD)})?)")
_AT_URL = re.compile(_URL)

_NOT_SPACE = re.compile(r"\S+")
_MARKS, _CLOSING = ".!?…", ")]\"'”’"
_NEVER_LAST = frozenset(
    re.findall(r"\S+", "mr mrs ms dr st ft mt gen rev lt gov sen rep prof capt sgt col hon vs e.g i.e attn fig approx")
)
_SELDOM_LAST = frozenset(re.findall(r"\S+", "etc inc ltd co corp jr sr dept est ph.d rgds"))


def split_words(text: str) -> list[str]:
    """Lower-case a sentence and split it into words, numbers and marks; ``don't`` and ``rip-off`` stay whole."""
    text = _straight(lower(text))
    return [text[start:end] for start, end in _spans(as_classed(text))]


def split_as_written(text: str) -> list[str]:
    """Split a sentence at the same boundaries as ``split_words``, but keep case and quotes as they are written."""
    small = lower(text)
    places: Sequence[int] = range(len(text) + 1)
    if len(small) > len(text):  # a letter whose lower case is two
        places = [*(place for place, letter in enumerate(text) for _ in lower(letter)), len(text)]
    spans = _spans(as_classed(_straight(small)))
    return [text[places[start] : places[end]] for start, end in spans]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the tokens of a text are, which is as ``as_classed`` returns it, in time linear in its length.

    ``TOKEN`` as one expression would look for an email address from each character of one, to its @ or where that is
    missing. Whether there is one depends on its end alone, so that here each is looked for once.
    """
    emails = (found for found in _BEFORE_AT.finditer(text) if found[1])
    place, email = 0, next(emails, None)
    while True:
        while email and email.end() <= place:
            email = next(emails, None)
        other = _NO_EMAIL.search(text, place)
        start = max(place, email.start()) if email else len(text)
        if email and (other is None or start <= other.start()) and not _AT_URL.match(text, start):
            place = email.end(1)
            yield start, place
        elif other:
            place = other.end()
            yield other.span()
        else:
            return


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
    start, count, last = 0, 0, ""
    for here, following in pairwise(chain(_NOT_SPACE.finditer(line), [None])):
        assert here
        found, end = here[0], here.end()
        word = found.rstrip(_CLOSING).rstrip(_MARKS)
        mark = found[len(word) :]
        if mark and mark[0] in _MARKS and end < len(line):
            before, place = (word, count + 1) if word else (last, count)
            if not _goes_on(before, place, mark, following[0][0] if following else ""):
                yield line[start:end].strip()
                start, count, last = end, 0, ""
                continue
        count, last = count + 1, found
    if rest := line[start:].strip():
        yield rest


def _goes_on(before: str, count: int, mark: str, after: str) -> bool:
    """Return whether a sentence continues after a mark that could end it.

    Args:
        before: the last word before the mark, or "".
        count: the words of the sentence before the mark.
        mark: with the brackets and quotes that it closes.
        after: the first letter of the next word, or "".
    """
    if "!" in mark or "?" in mark:
        return False
    before_small_letter = after.islower()
    if len(mark.rstrip(_CLOSING)) > 1 or mark[0] == "…":
        return before_small_letter
    word = before.lstrip("([\"'“‘").lower()
    if word in _NEVER_LAST or (len(word) == 1 and word.isalpha() and word != "i"):
        return True
    if word in _SELDOM_LAST or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
        return before_small_letter
    if word == "no":
        return after.isdigit()
    return word.isdigit() and count == 1
