"""Sessions on disk: a file each, complete or absent, that knows whether it is damaged."""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from gatewise.artifact.atomic import flush_folder, part_of, write_atomically
from gatewise.artifact.lock import locked
from gatewise.errors import UsageError
from gatewise.wording import option

SUFFIX = ".session"
_NAME = re.compile(r"[A-Za-z0-9_-]{22,42}" + re.escape(SUFFIX))


class DamagedSession(Exception):
    """A session's file is not what was written."""


class Store:
    """The sessions of one server in a folder, which it locks.

    A file has two lines, the SHA-256 of all that follows and what is known of the session as JSON, and the state as
    ``State.save`` gives it.

    Attributes:
        sessions: the ids of those that were on disk at the beginning, and when each was written, in seconds of the
            epoch.

    Raises:
        UsageError: the folder is in use by another server, or cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held = ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._held.enter_context(locked(folder, "serving"))
            self.sessions = self._found()
        except UsageError:
            raise UsageError(
                f"{folder} is in use by another server; expected a folder of its own for each {option('state_dir')}"
            ) from None
        except OSError as problem:
            raise UsageError(f"{folder}: {problem.strerror}; expected a folder that can be written to") from None
        self._pool = ThreadPoolExecutor(4, "store")

    def _found(self) -> dict[str, float]:
        found = dict[str, float]()
        for entry in os.scandir(self.folder):
            if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                found[entry.name.removesuffix(SUFFIX)] = entry.stat().st_mtime
            elif part_of(entry.name) is not None:  # left by a process that was killed
                os.unlink(entry.path)
        return found

    async def save(self, id_: str, about: dict[str, Any], state: bytes) -> None:
        """Write a session; it is on disk, flushed, when this returns.

        Raises:
            OSError: it could not be written; what was there before is unchanged.
        """
        content = json.dumps(about).encode() + b"\n" + state
        digest = hashlib.sha256(content).hexdigest().encode()
        await self._run(lambda: write_atomically(self._path(id_), [digest, b"\n", content]))

    async def load(self, id_: str) -> tuple[dict[str, Any], bytes]:
        """Read a session.

        Raises:
            OSError: there is none, or it cannot be read.
            DamagedSession: it is not what was written.
        """
        content = await self._run(self._path(id_).read_bytes)
        digest, _, rest = content.partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            raise DamagedSession(id_)
        about, _, state = rest.partition(b"\n")
        return json.loads(about), state

    async def remove(self, id_: str) -> None:
        """Delete a session, if it is there; it is gone from disk when this returns."""

        def remove() -> None:
            self._path(id_).unlink(missing_ok=True)
            flush_folder(self.folder)

        await self._run(remove)

    def close(self, used: Mapping[str, float]) -> None:
        """Wait for what is being written, note when sessions were used last, and give the folder free.

        Args:
            used: in seconds of the epoch, by id.
        """
        self._pool.shutdown()
        for id_, seconds in used.items():
            with suppress(OSError):  # then it counts as used when it was written
                os.utime(self._path(id_), (seconds, seconds))
        self._held.close()

    def _path(self, id_: str) -> Path:
        return self.folder / f"{id_}{SUFFIX}"

    async def _run(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
