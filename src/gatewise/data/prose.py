"""Plain English prose cut by rules: sentences at their ends, then lower-cased words, numbers and marks."""

import re
from collections.abc import Iterator

CURLY = (("[‘’]", "'"), ("[“”]", '"'))
"""Curly quotes are read as straight ones: a pattern and what stands for it."""

TOKEN = "|".join(
    (
        r"https?://[^\s<>\"]*[\w/]",  # an address on the web
        r"[\w.+-]+@\w[\w-]*(?:\.\w+)+",  # an address of mail
        r"(?:[^\W\d_]\.){2,}",  # u.s., e.g., a.m.
        r"\b(?:mr|mrs|ms|dr|st|jr|sr|vs|etc|inc|ltd|co|corp)\.",
        r"\d+(?:[.,:/]\d+)+",  # 3.5, 1,000, 10:30, 5/8
        r"\w+(?:['-]\w+)*",  # don't, rip-off
        r"([^\w\s])\1*",  # a mark, or a run of the same one: ..., !!
    )
)
"""What a token is, the first that fits: tried on lower-cased text with straight quotes, white space falls out."""

_TOKEN = re.compile(TOKEN)

_END = re.compile(r"[.!?…]+[)\]\"'”’]*(?=\s)")
_NEVER_LAST = frozenset(
    re.findall(r"\S+", "mr mrs ms dr st ft mt gen rev lt gov sen rep prof capt sgt col hon vs e.g i.e attn fig approx")
)
_SELDOM_LAST = frozenset(re.findall(r"\S+", "etc inc ltd co corp jr sr dept est ph.d rgds"))


def split_words(text: str) -> list[str]:
    """Lower-case a sentence and cut it into words, numbers and marks; ``don't`` and ``rip-off`` stay whole."""
    text = text.lower()
    for pattern, straight in CURLY:
        text = re.sub(pattern, straight, text)
    return [match[0] for match in _TOKEN.finditer(text)]


def split_sentences(text: str) -> list[str]:
    """Cut a text into sentences, without those that hold nothing but white space.

    A sentence ends at a line's end, and at ``.``, ``!``, ``?`` or a run of them (closing quotes and brackets go with
    it) before white space. It goes on after a title or an initial (``Dr.``, ``J.``), after ``etc.``, ``p.m.``,
    dots in a row and the like before a small letter, after ``No.`` before a number, and after a number that opens it
    (``1. First``). A dot inside a number or an address has no white space behind it.
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
    """Whether a sentence goes on after a mark that might end it."""
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
