r"""Text in any script: which installed font has each character, and what is written where none has it.

Figures are set in DejaVu Sans, which comes with Matplotlib. For a character that it lacks, the installed fonts are read
one after another until one has it; a character that no font has is written as an escape, such as ``\u767b``. Matplotlib
shapes Arabic, Hebrew and Indic text from version 3.11 on; earlier versions draw the characters from left to right,
unjoined.
"""

from collections.abc import Collection, Iterable
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

BASE = "DejaVu Sans"
_FIRST = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "Noto Sans KR",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
)
"""Asked first: their Chinese, Japanese and Korean characters match each other."""
_JOINERS = "\u200c\u200d"
"""Invisible, but needed to spell Persian and Hindi."""
_MATPLOTLIBS_TEXT = ("DejaVu Sans", "STIXGeneral")
"""Of the fonts that come with Matplotlib, the others hold pieces of formulas at the places of other characters."""


def short(text: str, most: int = 24) -> str:
    """Return a text from the data as one line of at most ``most`` columns that the installed fonts can draw.

    Line breaks, control characters, and characters that no font has are escaped as in Python's string literals. Text
    that is too long keeps its beginning and its end, which often differ, and never a part of an escape.
    """
    whole = [_piece(letter) for letter in text] if len(text) <= most else []
    if len(text) <= most and columns("".join(whole)) <= most:
        return "".join(whole)
    tail = _fitting(text[-1 : -most - 1 : -1], most // 3)
    head = _fitting(text[:most], most - 1 - columns("".join(tail)))
    return "".join(head) + "…" + "".join(reversed(tail))


def _fitting(text: str, room: int) -> list[str]:
    """Return the pieces of the beginning of a text that fit."""
    pieces = [_piece(letter) for letter in text]
    return [piece for piece, end in zip(pieces, accumulate(map(columns, pieces)), strict=True) if end <= room]


def columns(text: str) -> int:
    """Return the width of a text in columns: Chinese, Japanese and Korean characters take two, accents none."""
    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "WF") for letter in text)


def families_for(texts: Iterable[str]) -> list[str]:
    """Return the font families for some texts: the base font, then those with the characters that it lacks."""
    families = (family_of(letter) for letter in sorted(set().union(*texts)))
    return list(dict.fromkeys([BASE, *(family for family in families if family)]))


def family_of(letter: str) -> str | None:
    """Return the first font family that has a character in regular and bold, or None."""
    from matplotlib.font_manager import fontManager

    return _search(len(fontManager.ttflist)).family_of(ord(letter))


class _Search:
    """Reads the installed fonts, each once and only when the fonts before it lack a character."""

    def __init__(self) -> None:
        self.faces = _installed()
        self.unread = iter(_in_order(self.faces))
        self.found: dict[int, str] = {}

    def family_of(self, point: int) -> str | None:
        while point not in self.found and (family := next(self.unread, None)):
            for other in _characters(self.faces[family]) - self.found.keys():
                self.found[other] = family
        return self.found.get(point)


@cache
def _search(fonts: int) -> _Search:
    """Return the search of this process; it begins again when fonts are added to Matplotlib's list."""
    return _Search()


def _piece(letter: str) -> str:
    shown = (letter.isprintable() or letter in _JOINERS) and (letter.isspace() or family_of(letter))
    return letter if shown else letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def _installed() -> dict[str, list["FontEntry"]]:
    """Return the upright faces of the families that hold text."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    own, families = Path(matplotlib.get_data_path()), dict[str, list["FontEntry"]]()
    for face in fontManager.ttflist:
        is_text = own not in Path(face.fname).parents or face.name in _MATPLOTLIBS_TEXT
        # A font of last resort has a box for every character.
        if is_text and face.style == "normal" and "lastresort" not in face.name.lower().replace(" ", ""):
            families.setdefault(face.name, []).append(face)
    return families


def _in_order(families: Collection[str]) -> list[str]:
    """Return the families in the order in which they are asked."""
    first = [name for name in (BASE, *_FIRST) if name in families]
    return first + sorted(set(families).difference(first), key=lambda name: ("Sans" not in name, name))


def _characters(faces: Iterable["FontEntry"]) -> set[int]:
    """Return the characters that a family has in its regular and in its bold face."""
    from matplotlib.font_manager import get_font

    # Matplotlib's own choice (findfont) compares a name with every font installed; that takes seconds for all of them.
    used = {min(faces, key=lambda face: _distance(face, weight)).fname for weight in (400, 700)}
    try:
        return set.intersection(*(set(get_font(face).get_charmap()) for face in used))
    except (OSError, RuntimeError):  # deleted since Matplotlib listed it, or not a font that FreeType reads
        return set()


def _distance(face: "FontEntry", wanted: int) -> tuple[bool, int]:
    from matplotlib.font_manager import weight_dict

    weight = face.weight if isinstance(face.weight, int) else weight_dict.get(face.weight, 400)
    return face.stretch != "normal", abs(weight - wanted)
