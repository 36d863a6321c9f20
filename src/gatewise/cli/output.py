"""What commands print: as it is to a file or a pipe, on a terminal with nothing in it that commands the terminal."""

import codecs
import sys

from gatewise.printable import for_terminal, one_line


def write(text: str, end: str = "\n") -> None:
    """Print to standard output.

    A file or a pipe gets every character, and of a file's name that is no UTF-8 its bytes; where standard output is
    ASCII, it is written as UTF-8, which is the same where ASCII would do. What a terminal, or a rarer encoding, cannot
    show is written out, as an escape.
    """
    stream = sys.stdout
    if stream.isatty():
        text = for_terminal(text)
    binary, encoding = getattr(stream, "buffer", None), getattr(stream, "encoding", None) or "utf-8"
    if binary is None:  # a stream of text alone, which a program that calls us has put there
        stream.write(text + end)
    else:
        stream.flush()
        binary.write(_encoded(text + end, encoding, stream.isatty()))
    stream.flush()  # what cannot be written is told now, and to us


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
