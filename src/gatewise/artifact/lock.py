"""Folder lock: one process at a time writes to a folder; the kernel releases the lock when it dies."""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gatewise.artifact.atomic import write_atomically
from gatewise.errors import UsageError
from gatewise.wording import option

LOCK, HOLDER = ".lock", ".holder"
"""The locked file, and the file that names the process that holds the lock."""

_UNNAMED = "another process is writing"

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path, doing: str = "training") -> Iterator[bool]:
    """Hold the lock of an existing folder within the block; ``doing`` says what for, to other processes.

    The empty lock file is kept when the block ends: if it were deleted, a process that had opened it before could lock
    a file that no other process can see.

    Yields:
        Whether the file system supports locks; if not, no lock is held.

    Raises:
        UsageError: another process holds the lock.
        OSError: the folder is not writable.
    """
    try:
        lock = _acquire(folder)
    except OSError as problem:
        if problem.errno not in _NO_LOCKS:
            raise
        lock = None
    try:
        write_atomically(folder / HOLDER, f"process {os.getpid()} on {platform.node()} is {doing}\n")
        yield lock is not None
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        if lock:
            lock.release()


def check_unlocked(folder: Path) -> None:
    """Check, without writing anything, that no other process holds the lock of a folder.

    Raises:
        UsageError: another process holds the lock.
    """
    try:
        if (folder / LOCK).is_file():
            _acquire(folder).release()
    except OSError:
        return  # cannot be locked; reported when the folder is claimed


def _acquire(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError(
            f"{folder} is in use: {_holder(folder)} there; wait until it ends, or choose another {option('out')}"
        ) from None
    return lock


def _holder(folder: Path) -> str:
    """Return the name that the process holding the lock has recorded, and what it does."""
    try:
        return (folder / HOLDER).read_text(encoding="utf-8", errors="replace").strip()[:200] or _UNNAMED
    except OSError:
        return _UNNAMED
