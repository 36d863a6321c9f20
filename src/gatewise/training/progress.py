"""Progress display: a bar on a terminal, otherwise a plain line every tenth of an epoch, and every 30 seconds."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from gatewise.printable import one_line

SECONDS_BETWEEN = 2.0
"""Minimum interval between plain lines, so that a log of short epochs stays readable."""
SECONDS_WITHOUT = 30.0
"""Maximum interval between plain lines, so that nobody wonders whether anything still happens."""
SECONDS_OF_BAR = 0.5
"""Interval between readings of a device for the bar."""


class Unbreakable:
    """A text stream that drops text it cannot write, and escapes characters that it cannot encode.

    Args:
        stream: a stream that can fail: a closed terminal, a pipe without a reader, a log file on a full disk.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        with suppress(OSError, ValueError):  # a closed file is a ValueError
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the stream if possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console_of(progress: bool | Console | None) -> Console | None:
    """Return where to show progress; None for nowhere.

    Args:
        progress: a console; True for standard error, or in a notebook the cell's output; False for nowhere. None is
            True in a terminal or a notebook, else False: a script whose output goes to a file or a pipe is silent.
    """
    if isinstance(progress, Console):
        return progress
    in_notebook = Console().is_jupyter
    if progress is False or (progress is None and not in_notebook and not _is_terminal(sys.stderr)):
        return None
    if in_notebook:  # plain lines: Rich's own output for notebooks is a block of HTML per line
        return Console(file=sys.stdout, force_jupyter=False, force_terminal=False, width=100)
    return Console(stderr=True)


def _is_terminal(stream: IO[str] | None) -> bool:
    with suppress(ValueError):  # closed
        return stream is not None and stream.isatty()
    return False


@contextmanager
def unbreakable(console: Console | None) -> Iterator[None]:
    """Make a console drop output that cannot be written within the block, where Rich would exit the program."""
    if console is None:
        yield
        return
    stream = console.file
    console.file = cast("IO[str]", Unbreakable(stream))
    try:
        yield
    finally:
        console.file = stream


def note(console: Console | None, line: str) -> None:
    """Write one plain line; a console of None is silent."""
    if console is not None:
        console.print(one_line(line), soft_wrap=True, highlight=False, markup=False)


@contextmanager
def heartbeat(console: Console | None, what: str) -> Iterator[None]:
    """Say every ``SECONDS_WITHOUT`` that something without progress of its own, such as ``evaluating``, goes on."""
    if console is None:
        yield
        return
    ended, began = threading.Event(), time.monotonic()

    def beat() -> None:
        while not ended.wait(SECONDS_WITHOUT):
            note(console, f"{what}, {timedelta(seconds=round(time.monotonic() - began))} so far")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class EpochProgress:
    """Displays the steps of an epoch: loss so far, tokens per second, time left.

    Args:
        console: the output; None is silent (for every process but the first).
        title: the prefix, such as ``epoch 3/13``.
        total: number of steps in the epoch.
        done: number of steps completed before this process started.
    """

    def __init__(self, console: Console | None, title: str, total: int, done: int = 0) -> None:
        self._console, self._title, self._total = console, title, total
        self._first, self._began = done, time.monotonic()
        self._shown = self._began
        self._tenth = 10 * done // total
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            self._bar = Progress(
                TextColumn(title), BarColumn(), TextColumn("{task.fields[status]}"), console=console, transient=True
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total, completed=done, status="")

    def is_due(self, done: int) -> bool:
        """Return whether it is time to show something; without a console, to look at the steps at all."""
        silent = time.monotonic() - self._shown
        if self._bar is not None:
            return silent >= SECONDS_OF_BAR
        return silent >= (SECONDS_BETWEEN if 10 * done // self._total > self._tenth else SECONDS_WITHOUT)

    def update(self, done: int, status: str) -> None:
        """Show that ``done`` steps of the epoch are completed."""
        due, tenth = self.is_due(done), 10 * done // self._total
        if due:
            share = 10 * tenth if tenth > self._tenth else 100 * done // self._total
            self._tenth, self._shown = tenth, time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, status=f"{status}  {self._time_left(done)}")
        elif due:
            note(self._console, f"{self._title}  {share:3d}%  {status}  {self._time_left(done)}")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()

    def _time_left(self, done: int) -> str:
        elapsed = time.monotonic() - self._began
        left = elapsed / max(done - self._first, 1) * (self._total - done)
        return f"{timedelta(seconds=round(left))} left"
