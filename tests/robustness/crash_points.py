"""The moments at which a run touches the disk, and a kill or a power cut at one of them.

A moment is any opening for writing, rename, removal, new folder or fsync below a folder. A kill leaves what was
written. A power cut may also lose what was not flushed: the content of files without fsync, and renames and removals
in a folder without fsync, the last ones first.
"""

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class CrashPoints:
    """To be started in a child, before the command.

    Attributes:
        root: the folder that is watched.
        at: the moment of the end, counted from 1; 0 lets the child live.
        power_cut: what decides which of the unflushed things are lost; None is a kill.
        log: where a line for each moment is written.
    """

    root: Path
    at: int = 0
    power_cut: Random | None = None
    log: Path | None = None
    _count: int = 0
    _busy: bool = False
    _log: int = -1
    _unflushed: dict[str, None] = field(default_factory=dict)
    _undo: list[tuple[str, str, bytes | None, str]] = field(default_factory=list)

    def start(self) -> None:
        """Watch from here on; there is no way back."""
        if self.log:
            self._log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.root = self.root.resolve()
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._flushing(getattr(os, name)))
        sys.addaudithook(self._on_event)

    def _flushing(self, flush: Any) -> Any:
        def flushed(file: Any) -> None:
            descriptor = file if isinstance(file, int) else file.fileno()
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if self._watched(path):
                self._moment("fsync", path)
                flush(descriptor)
                self._unflushed.pop(path, None)
                self._undo = [entry for entry in self._undo if os.path.dirname(entry[1]) != path]
            else:
                flush(descriptor)

        return flushed

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
            return
        if not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        self._busy = True
        try:
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if self._watched(path):
                self._touch(event, path, arguments)
        finally:
            self._busy = False

    def _touch(self, event: str, path: str, arguments: tuple[Any, ...]) -> None:
        self._moment(event, path)
        if event == "open":
            if not os.path.exists(path) and arguments[2] & os.O_CREAT:
                self._moment("created", path)
            self._unflushed[path] = None
        elif event == "os.rename":
            target = os.path.abspath(os.fsdecode(arguments[1]))
            self._undo.append((event, target, _content(target), path))
            if path in self._unflushed:
                del self._unflushed[path]
                self._unflushed[target] = None
        elif event == "os.remove":
            self._undo.append((event, path, _content(path), ""))
            self._unflushed.pop(path, None)

    def _watched(self, path: str) -> bool:
        return path == str(self.root) or path.startswith(f"{self.root}{os.sep}")

    def _moment(self, what: str, path: str) -> None:
        self._count += 1
        if self._log >= 0:
            os.write(self._log, f"{what} {os.path.relpath(path, self.root)}\n".encode())
        if self._count == self.at:
            self._busy = True
            if what == "created":
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
                self._unflushed[path] = None
            if self.power_cut:
                self._lose(self.power_cut)
            os.kill(os.getpid(), signal.SIGKILL)

    def _lose(self, rng: Random) -> None:
        for path in self._unflushed:
            if os.path.isfile(path):
                content = _content(path) or b""
                kept = content[: rng.choice([0, rng.randrange(len(content) + 1), len(content)])]
                Path(path).write_bytes(kept + rng.choice([b"", bytes(len(content) - len(kept))]))
        for _ in range(rng.randrange(len(self._undo) + 1)):
            event, path, before, source = self._undo.pop()
            if event == "os.rename" and os.path.exists(path):
                os.rename(path, source)
            if before is not None:
                Path(path).write_bytes(before)


def _content(path: str) -> bytes | None:
    return Path(path).read_bytes() if os.path.isfile(path) else None
