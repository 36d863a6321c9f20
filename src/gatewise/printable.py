"""Sanitizing untrusted text for display: no terminal control sequences, and one line stays one line.

File names, labels, words and server responses can contain anything. Everything that is displayed passes through this
module; data that is written to a file or a pipe does not, and keeps every byte.
"""

import re

LONGEST_WORD = 300
"""Maximum number of characters shown of a run without spaces, such as a path or a label."""
LONGEST_LINE = 1000
"""Maximum number of characters shown of a line; the end is kept too, since that is where an error says what to do."""
LONGEST_CELL = 60
"""Maximum number of characters of a table cell."""

# Control characters (C0, DEL, C1), bidirectional controls, line separators, zero-width characters, lone surrogates
# (non-UTF-8 bytes of a file name), tags. Joiners (U+200C, U+200D) are needed to spell Persian and Hindi words, so they
# are allowed on a terminal.
_COMMANDS = "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_COMMANDS += "\ud800-\udfff\U000e0000-\U000e007f"
_COMMAND = re.compile(f"[{_COMMANDS}]")
_NOT_OF_ONE_LINE = re.compile(f"[{_COMMANDS}\t\n\u200c\u200d]")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def for_terminal(text: str) -> str:
    """Return text with every control character escaped except line breaks and tabs."""
    return _COMMAND.sub(_written_out, text)


def one_line(text: str) -> str:
    """Return text as one line of bounded length: control characters are escaped, long text is truncated."""
    text = _NOT_OF_ONE_LINE.sub(_written_out, text)
    return _cut(_LONG_WORD.sub(lambda word: _cut(word[0], LONGEST_WORD), text), LONGEST_LINE)


def cell(text: object) -> str:
    """Return a value as text for a table cell."""
    return _cut(_NOT_OF_ONE_LINE.sub(_written_out, str(text)), LONGEST_CELL)


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _cut(text: str, longest: int) -> str:
    """Replace the middle of text that is too long with an ellipsis."""
    end = longest // 3
    return text if len(text) <= longest else f"{text[: longest - end - 1]}…{text[-end:]}"
