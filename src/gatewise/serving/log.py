"""The server's log, on standard error: what happened and where, and nothing that a user typed."""

import sys
import traceback

from gatewise.printable import one_line


def log(line: str) -> None:
    """Write a line."""
    print(one_line(f"gatewise serve: {line}"), file=sys.stderr, flush=True)


def log_unforeseen(what: str, error: BaseException) -> None:
    """Write where an error was raised, and its kind; its message might quote a request."""
    log(f"unforeseen {type(error).__name__} in {what}:")
    for frame in traceback.extract_tb(error.__traceback__):
        log(f"  {frame.filename}:{frame.lineno} in {frame.name}")
