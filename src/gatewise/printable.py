"""Text from elsewhere made fit to be shown: nothing in it commands a terminal, and one line stays one line.

File names, labels, words and what servers say may hold anything. What is shown goes through here; what is written to a
file or a pipe as data does not, and keeps every byte.
"""

import re

LONGEST_WORD = 300
"""Characters of a run without spaces, such as a path or a label, that one line shows."""
LONGEST_LINE = 1000
"""Characters that one line shows; of a longer one its beginning and its end, where an error says what to do."""
LONGEST_CELL = 60
"""Characters that a table shows of a label."""

# Controls (C0, DEL, C1), marks that turn the direction of writing, separators of lines, what has no width, halves of
# surrogate pairs (bytes of a file name that are no UTF-8), tags. Joiners (U+200C, U+200D) spell words of Persian and
# Hindi: a terminal may have them.
_COMMANDS = "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_COMMANDS += "\ud800-\udfff\U000e0000-\U000e007f"
_COMMAND = re.compile(f"[{_COMMANDS}]")
_NOT_OF_ONE_LINE = re.compile(f"[{_COMMANDS}\t\n\u200c\u200d]")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def for_terminal(text: str) -> str:
    """Return text with its lines and tabs, everything else that a terminal would obey written out as an escape."""
    return _COMMAND.sub(_written_out, text)


def one_line(text: str) -> str:
    """Return text as one line of bounded length: what would break it is written out, what is too long is cut."""
    text = _NOT_OF_ONE_LINE.sub(_written_out, text)
    return _cut(_LONG_WORD.sub(lambda word: _cut(word[0], LONGEST_WORD), text), LONGEST_LINE)


def cell(text: object) -> str:
    """Return a value as a table shows it."""
    return _cut(_NOT_OF_ONE_LINE.sub(_written_out, str(text)), LONGEST_CELL)


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _cut(text: str, longest: int) -> str:
    """Leave out the middle of what is too long."""
    end = longest // 3
    return text if len(text) <= longest else f"{text[: longest - end - 1]}…{text[-end:]}"
