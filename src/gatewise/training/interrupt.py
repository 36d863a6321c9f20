"""Handling of SIGINT (Ctrl-C), SIGTERM and SIGHUP; signals ignored at start (nohup) stay ignored."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_HANGUP = getattr(signal, "SIGHUP", None)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install a handler for the signals; return the previous handlers (empty outside the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    # None means that the handler was not installed from Python and could not be restored.
    before = {number: signal.getsignal(number) for number in _STOPPING}
    before = {number: found for number, found in before.items() if found not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    return before


def _restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Make each of the signals raise ``KeyboardInterrupt`` within the block."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _HANGUP in before:
            signal.signal(_HANGUP, signal.SIG_IGN)  # may be sent twice, by kernel and shell, when a terminal closes
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    before = _handle(interrupt)
    try:
        yield
    finally:
        _restore(before)


class InterruptGuard:
    """Defer the first signal within the block: it only sets ``requested``. A second signal takes effect immediately.

    A second SIGHUP is ignored, because the kernel and the shell may both send one when a terminal closes.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "InterruptGuard":
        self._before = _handle(self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _restore(self._before)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Make a signal raise ``KeyboardInterrupt`` within the block, including one that arrived earlier."""
        self._at_once = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number != _HANGUP:
            _restore(self._before)
            signal.raise_signal(number)
        self.requested = True
        if self._at_once:
            self._at_once = False  # a duplicate of the signal must not interrupt the cleanup
            raise KeyboardInterrupt
