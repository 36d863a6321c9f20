"""Printing: unchanged to files and pipes; on terminals, control characters are escaped."""

import codecs
import sys

from gatewise.printable import for_terminal, one_line


def write(text: str, end: str = "\n") -> None:
    """Print to standard output.

    A file or a pipe receives every character, and the raw bytes of a file name that is not valid UTF-8. If standard
    output is ASCII, UTF-8 is written, which is the same for ASCII text. Characters that a terminal or another encoding
    cannot represent are escaped.
    """
    stream = sys.stdout
    if stream.isatty():
        text = for_terminal(text)
    binary, encoding = getattr(stream, "buffer", None), getattr(stream, "encoding", None) or "utf-8"
    if binary is None:  # a text-only stream, installed by a calling program
        stream.write(text + end)
    else:
        stream.flush()
        binary.write(_encoded(text + end, encoding, stream.isatty()))
    stream.flush()  # so that a failed write raises here


def remark(line: str) -> None:
    """Print one line to standard error."""
    print(one_line(line), file=sys.stderr, flush=True)


def _encoded(text: str, encoding: str, terminal: bool) -> bytes:
    if codecs.lookup(encoding).name == "ascii" and not terminal:
        encoding = "utf-8"
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace")
