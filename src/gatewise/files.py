"""Files that others made: read only where they are regular files, and no further than a stated limit.

The limits are generous beside what the tasks need, and small beside what a few bytes can otherwise ask for: a packed or
a sparse file may claim any size. Each says why it is where it is.
"""

import errno
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

from gatewise.errors import DataError, GatewiseError

MIB = 1 << 20
LONGEST_LINE = 128 * MIB
"""Of a text that is read line by line: text8, which is read, is one line of 100 MB."""
LONGEST_RECORD = 16 * MIB
"""Of a file whose lines are kept as they are parsed, a document or a row each; the Bible has 4 MiB."""
LONGEST_SENTENCE = 1_000_000
"""Words between two blank lines; a file without blank lines is no file of sentences."""
LARGEST_SETTINGS = MIB // 8
"""Of a TOML file; a recipe has 2 KiB."""
LARGEST_PART = 64 * MIB
"""Of a JSON file of a run folder: a vocabulary of a million words has some 30."""
MOST_DOTS = 1000
"""In a line of a TOML file: Python's reader takes minutes for a key of 50,000 parts."""
LARGEST_PIPE = 1024 * MIB
"""What is copied from a pipe before it is read; there is no larger text that would be kept in memory whole."""
MOST_PIXELS = 50_000_000
"""Of a picture: a camera's. Decoding takes some 20 bytes a pixel."""
LARGEST_PICTURE = 8 * MOST_PIXELS
"""Bytes of a picture's file: no format needs more than four numbers of 16 bits a pixel."""
UNPACKED_FREELY = 256 * MIB
"""What a packed file may unpack to whatever its own size; MNIST has 47 MB."""
MOST_SWELLING = 100
"""How many times its own size a larger packed file may unpack to: numbers pack 2 to 10-fold, zeros 1000-fold."""
PATIENCE_S = 5.0
"""Seconds in which somebody must open a pipe to write into it."""


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def open_regular(path: Path, expected: str, error: type[GatewiseError] = DataError) -> BinaryIO:
    """Open a regular file to read; a device, a socket or a pipe is refused and cannot make us wait.

    Args:
        path: the file.
        expected: what it should be, such as ``a text file``, for the error.
        error: what to raise.

    Raises:
        GatewiseError: of class ``error``: it cannot be opened, or is no regular file.
    """
    try:
        return open(path, "rb", opener=partial(_open_regular, expected=expected, error=error))
    except OSError as problem:
        raise error(f"{path}: cannot read it ({problem.strerror}); expected {expected}") from None
    except ValueError as problem:  # a zero byte, which TOML can write
        raise error(f"{path}: cannot read it ({problem}); expected {expected}") from None


def check_regular(path: Path, expected: str, error: type[GatewiseError] = DataError) -> int:
    """Check that a path is a regular file, opening nothing; return its size.

    Args:
        path: the file.
        expected: what it should be, and what to do where it is not: the end of the error's line.
        error: what to raise.

    Raises:
        GatewiseError: of class ``error``.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise error(f"{path}: no such file; expected {expected}") from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path}: cannot read it ({reason}); expected {expected}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "a device")
        raise error(f"{path}: {kind}, no regular file; expected {expected}")
    return found.st_size


def read_bounded(path: Path, limit: int, expected: str, error: type[GatewiseError] = DataError) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        GatewiseError: of class ``error``: it cannot be read, is no regular file, or is larger than the limit.
    """
    with open_regular(path, expected, error) as file:
        try:
            content = file.read(limit + 1)
        except OSError as problem:
            raise error(f"{path}: cannot read it ({problem.strerror}); expected {expected}") from None
    if len(content) > limit:
        raise error(f"{path}: larger than {size(limit)}; expected {expected}")
    return content


def file_hash(path: Path, expected: str = "a text file", error: type[GatewiseError] = DataError) -> str:
    """Return the SHA-256 of a regular file's bytes in hexadecimal.

    Raises:
        GatewiseError: of class ``error``: it cannot be read, or is no regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path, expected, error) as file:
        try:
            while chunk := file.read(MIB):
                digest.update(chunk)
        except OSError as problem:
            raise error(f"{path}: cannot read it ({problem.strerror}); expected {expected}") from None
    return digest.hexdigest()


def check_unpacked(name: str, packed: int, unpacked: int, advice: str) -> None:
    """Check what a packed file says that it unpacks to, before it is unpacked.

    Args:
        name: the file, for the error.
        packed: its bytes.
        unpacked: the bytes that it claims.
        advice: what to do where they are too many.

    Raises:
        DataError: they are too many beside its own size.
    """
    if unpacked > max(UNPACKED_FREELY, MOST_SWELLING * packed):
        raise DataError(
            f"{name}: {size(packed)} that claim to unpack to {size(unpacked)}; expected at most {MOST_SWELLING} times "
            f"their size, {advice}"
        )


def check_memory(name: str, needed: int) -> None:
    """Check that memory holds what a file asks for, before it is asked for.

    Raises:
        DataError: it does not; ``name`` begins the error.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise DataError(
            f"{name}: {size(needed)} to be read at once, and {size(available)} of memory are free; expected a file "
            "that fits, cut it into parts or take a machine with more"
        )


def available_memory() -> int | None:
    """Return the bytes of memory that this process may still take; None where the system does not say.

    Read from Linux's ``/proc/meminfo`` and, in a container, from the limit of its control group.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        return min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control group, or no limit: "max"
        return free


@contextmanager
def spooled(path: Path) -> Iterator[Path]:
    """Give a path that can be read more than once: the file itself, or within the block a copy of what a pipe brings.

    Args:
        path: a file, or a pipe such as ``<(command)`` makes.

    Raises:
        DataError: nobody writes into the pipe, or more than ``LARGEST_PIPE``.
    """
    try:
        piped = stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        piped = False  # who reads it will say what is wrong
    if not piped:
        yield path
        return
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
        first = _first_bytes(pipe, str(path))
        os.set_blocking(pipe.fileno(), True)
        with copied(pipe, str(path), first) as copy:
            yield copy


@contextmanager
def copied(stream: IO[bytes], name: str, first: bytes = b"") -> Iterator[Path]:
    """Give within the block a file with what a stream brings, after what it brought first; errors name the stream.

    Raises:
        DataError: it brings more than ``LARGEST_PIPE``.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "input"
        with copy.open("wb") as file:
            file.write(first)
            while chunk := stream.read(MIB):
                file.write(chunk)
                if file.tell() > LARGEST_PIPE:
                    raise DataError(f"{name}: more than {size(LARGEST_PIPE)}; expected less, cut it into parts")
        try:
            yield copy
        except DataError as problem:
            raise DataError(str(problem).replace(str(copy), name)) from None


def size(count: int) -> str:
    """Write a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count //= 1024
    return f"{count:,} {unit}"


def _open_regular(name: str, flags: int, expected: str, error: type[GatewiseError]) -> int:
    """Open what a look before and a look after opening find to be a regular file: opening a device can do something."""
    _check_regular(name, os.stat(name).st_mode, expected, error)
    descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    try:
        _check_regular(name, os.fstat(descriptor).st_mode, expected, error)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(name: str, mode: int, expected: str, error: type[GatewiseError]) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISFIFO(mode):
        raise error(f"{name}: a pipe, which can be read once alone; expected {expected}, write it to a file first")
    raise error(f"{name}: {_KINDS.get(stat.S_IFMT(mode), 'a device')}; expected {expected}")


def _first_bytes(pipe: IO[bytes], name: str) -> bytes:
    """Return what a pipe that does not block has to give, once somebody has opened it to write."""
    until = time.monotonic() + PATIENCE_S
    while (found := pipe.read(MIB)) == b"":  # None says that a writer is there, and silent so far
        if time.monotonic() > until:
            raise DataError(f"{name}: a pipe that nobody writes into; expected a file, or a pipe with a writer")
        time.sleep(0.02)
    return found or b""
