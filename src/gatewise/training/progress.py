"""What the user sees while training runs: a bar on a terminal, elsewhere a plain line every tenth of an epoch."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from gatewise.printable import one_line

SECONDS_BETWEEN = 2.0
"""Plain lines come no faster than this, so that a log of short epochs stays readable."""


class Unbreakable:
    """A text stream that drops what cannot be written, and escapes what its encoding lacks.

    Args:
        stream: a terminal that may be closed, a pipe whose reader may end, a log file on a disk that may be full.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        with suppress(OSError, ValueError):  # a closed file is a ValueError
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush, where that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unbreakable(console: Console | None) -> Iterator[None]:
    """Let a console drop, within the block, what cannot be written, rather than end the program as Rich does."""
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


class EpochProgress:
    """Shows one epoch's steps: loss so far, tokens a second, time left.

    Args:
        console: where to write; None is silent (every process but the first).
        title: what stands at the front, such as ``epoch 3/13``.
        total: steps in the epoch.
        done: steps that were done before this process began.
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

    def update(self, done: int, status: str) -> None:
        """Show that ``done`` steps of the epoch are behind us."""
        if self._console is None:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=done, status=f"{status}  {self._time_left(done)}")
        elif 10 * done // self._total > self._tenth and time.monotonic() - self._shown >= SECONDS_BETWEEN:
            self._tenth, self._shown = 10 * done // self._total, time.monotonic()
            note(self._console, f"{self._title}  {10 * self._tenth:3d}%  {status}  {self._time_left(done)}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def _time_left(self, done: int) -> str:
        elapsed = time.monotonic() - self._began
        left = elapsed / max(done - self._first, 1) * (self._total - done)
        return f"{timedelta(seconds=round(left))} left"
