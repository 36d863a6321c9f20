"""The server's log, on standard error: what happened and where, and nothing that a user typed."""

import asyncio
import sys
import threading
import traceback
from typing import Any

from gatewise.printable import one_line


def log(line: str) -> None:
    """Write a line."""
    print(one_line(f"gatewise serve: {line}"), file=sys.stderr, flush=True)


def log_unforeseen(what: str, error: BaseException) -> None:
    """Write where an error was raised, and its kind; its message might quote a request."""
    log(f"unforeseen {type(error).__name__} in {what}:")
    for frame in traceback.extract_tb(error.__traceback__):
        log(f"  {frame.filename}:{frame.lineno} in {frame.name}")


def log_all_unforeseen(loop: asyncio.AbstractEventLoop) -> None:
    """Write what nothing else catches in the same way; Python would write the messages, too."""

    def in_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if error := context.get("exception"):
            log_unforeseen("the event loop", error)

    loop.set_exception_handler(in_loop)
    threading.excepthook = lambda about: _log_value("a thread", about.exc_value)
    sys.unraisablehook = lambda about: _log_value("what is not waited for", about.exc_value)


def _log_value(what: str, error: BaseException | None) -> None:
    if error is not None:
        log_unforeseen(what, error)
