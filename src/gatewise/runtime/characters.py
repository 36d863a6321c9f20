"""Characters as the ``tokenizers`` library sees them: their lower case, and which are letters, digits and marks."""

import unicodedata
from itertools import count


def lower(text: str) -> str:
    """Lower-case a text character by character, so that Greek words end in σ, not ς."""
    return text.lower() if "Σ" not in text else "".join(map(str.lower, text))


LATIN_NUMBERS = "".join(chr(0xDC00 + ord(number)) for number in "²³¹¼½¾")
"""How ``as_classed`` writes the numbers to which a file's ``\\w`` applies, except within square brackets."""

_CIRCLED = (range(0x24B6, 0x24EA), range(0x1F130, 0x1F14A), range(0x1F150, 0x1F16A), range(0x1F170, 0x1F18A))
_A_LETTER = ord("ª")  # one that no rule names
_SEPARATORS = range(0x1C, 0x20)  # white space to Python alone


class _Classes(dict[int, int]):
    """Replacements for ``str.translate``, one character for one; each is found when a text first contains it."""

    def __init__(self) -> None:
        self.unused = count(0xD800)  # surrogates: no text contains them, and they are neither letters nor white space

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        replacement = code
        combining = category in ("Mn", "Mc", "Me")
        circled = category == "So" and any(code in letters for letters in _CIRCLED)
        if combining or circled or (category == "Pc" and chr(code) != "_"):
            replacement = _A_LETTER
        elif category == "No" and code < 0x100:
            replacement = 0xDC00 + code
        elif category == "No" or code in _SEPARATORS:
            replacement = next(self.unused)
        return self.setdefault(code, replacement)  # of two threads, the first one's


_CLASSES = _Classes()


def as_classed(text: str) -> str:
    r"""Replace characters so that Python's ``\w`` and ``\s`` match where they match in a ``tokenizers`` file.

    There, as in Unicode's recommendation, ``\w`` includes the marks that combine with a letter, every connector and
    circled letters, but not superscripts and fractions (with the exception of ``LATIN_NUMBERS``); and ``\s`` excludes
    U+001C to U+001F. Different characters that are not ``\w`` stay different.

    Returns:
        A text of the same length, to search only.
    """
    return text.translate(_CLASSES)
