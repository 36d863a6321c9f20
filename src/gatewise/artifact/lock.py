"""The lock of a folder: one process at a time trains there, and the kernel lets go when that process dies."""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gatewise.artifact.atomic import write_atomically
from gatewise.errors import UsageError

LOCK, HOLDER = ".lock", ".holder"
"""The file that is locked, and the one beside it that names who holds it."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder that is there within the block.

    The empty lock file stays when the block ends: were it removed, a process that had opened it before could lock a
    file that nobody else sees any more.

    Yields:
        Whether the file system has locks; where it has none, nothing is held.

    Raises:
        UsageError: another process holds it.
        OSError: the folder cannot be written.
    """
    try:
        lock = _acquire(folder)
    except OSError as problem:
        if problem.errno not in _NO_LOCKS:
            raise
        lock = None
    try:
        write_atomically(folder / HOLDER, f"process {os.getpid()} on {platform.node()}\n")
        yield lock is not None
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        if lock:
            lock.release()


def check_unlocked(folder: Path) -> None:
    """Check, writing nothing, that no other process holds the lock of a folder.

    Raises:
        UsageError: one does.
    """
    try:
        if (folder / LOCK).is_file():
            _acquire(folder).release()
    except OSError:
        return  # it cannot be locked, which is told when the folder is taken


def _acquire(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError(
            f"{folder} is in use, {_holder(folder)} trains there; wait until it ends, or choose another --out"
        ) from None
    return lock


def _holder(folder: Path) -> str:
    """Name the process that holds the lock, as it wrote itself."""
    try:
        return (folder / HOLDER).read_text(encoding="utf-8", errors="replace").strip()[:200] or "another process"
    except OSError:
        return "another process"
