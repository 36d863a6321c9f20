"""Safe reading of untrusted files: regular files only, and never beyond a fixed limit.

The limits are well above what the tasks need, and far below what a small malicious file could otherwise demand: a
compressed or sparse file can claim any size. Each limit states its rationale.
"""

import errno
import hashlib
import os
import stat
import sys
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
"""Bytes per line of a text that is streamed line by line; text8, which is supported, is a single line of 100 MB."""
LONGEST_RECORD = 16 * MIB
"""Bytes per line of a file whose parsed lines (a document or a row each) stay in memory; the Bible has 4 MiB."""
LONGEST_SENTENCE = 1_000_000
"""Words between two blank lines; a file without blank lines does not contain sentences."""
LARGEST_SETTINGS = MIB // 8
"""Bytes of a TOML file; a recipe has 2 KiB."""
LARGEST_PART = 64 * MIB
"""Bytes of a JSON file in a run folder; a vocabulary of a million words takes about 30 MiB."""
MOST_DOTS = 1000
"""Dots per line of a TOML file: Python's parser takes minutes for a key of 50,000 parts."""
LARGEST_PIPE = 1024 * MIB
"""Bytes copied from a pipe before they are parsed; no larger text would be held in memory as a whole."""
MOST_PIXELS = 50_000_000
"""Pixels of an image, enough for a camera's. Decoding takes about 20 bytes per pixel."""
LARGEST_PICTURE = 8 * MOST_PIXELS
"""Bytes of an image file: no format needs more than four 16-bit numbers per pixel."""
UNPACKED_FREELY = 256 * MIB
"""Bytes that any compressed file may decompress to, whatever its own size; MNIST has 47 MB."""
MOST_SWELLING = 100
"""Maximum compression ratio beyond that: real numbers compress 2- to 10-fold, zeros 1000-fold."""
PATIENCE_S = 5.0
"""Seconds to wait for a writer to open a pipe."""


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def open_regular(path: Path, expected: str, error: type[GatewiseError] = DataError) -> BinaryIO:
    """Open a regular file for reading; devices, sockets and pipes are rejected without blocking.

    Args:
        path: the file.
        expected: what it should be, such as ``a text file``, for the error message.
        error: the exception class to raise.

    Raises:
        GatewiseError: of class ``error``, if the file cannot be opened or is not a regular file.
    """
    try:
        return open(path, "rb", opener=partial(_open_regular, expected=expected, error=error))
    except OSError as problem:
        raise error(f"{path}: cannot read it ({problem.strerror}); expected {expected}") from None
    except ValueError as problem:  # a null byte, which TOML can express
        raise error(f"{path}: cannot read it ({problem}); expected {expected}") from None


def check_regular(path: Path, expected: str, error: type[GatewiseError] = DataError) -> int:
    """Check that a path is a regular file, without opening it; return its size in bytes.

    Args:
        path: the file.
        expected: what it should be, and what to do if it is not; this ends the error message.
        error: the exception class to raise.

    Raises:
        GatewiseError: of class ``error``, if the file is missing, inaccessible or not a regular file.
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
        raise error(f"{path}: {kind}, not a regular file; expected {expected}")
    return found.st_size


def read_bounded(path: Path, limit: int, expected: str, error: type[GatewiseError] = DataError) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        GatewiseError: of class ``error``, if the file cannot be read, is not a regular file, or exceeds the limit.
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
    """Return the SHA-256 of a regular file as a hexadecimal string.

    Raises:
        GatewiseError: of class ``error``, if the file cannot be read or is not a regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path, expected, error) as file:
        try:
            while chunk := file.read(MIB):
                digest.update(chunk)
        except OSError as problem:
            raise error(f"{path}: cannot read it ({problem.strerror}); expected {expected}") from None
    return digest.hexdigest()


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return what differs once a file has been changed; None if it is gone."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def check_unpacked(name: str, packed: int, unpacked: int, advice: str) -> None:
    """Check the decompressed size that a compressed file claims, before decompressing it.

    Args:
        name: the file's name, for the error message.
        packed: its compressed size in bytes.
        unpacked: its claimed decompressed size in bytes.
        advice: what to do if the claim is too large.

    Raises:
        DataError: the claimed size is too large for the compressed size.
    """
    if unpacked > max(UNPACKED_FREELY, MOST_SWELLING * packed):
        raise DataError(
            f"{name}: {size(packed)} that claim to decompress to {size(unpacked)}; expected at most {MOST_SWELLING} "
            f"times the compressed size, {advice}"
        )


def check_memory(name: str, needed: int) -> None:
    """Check that enough memory is available for a file's content, before allocating it.

    Args:
        name: the file's name, which starts the error message.
        needed: bytes to allocate.

    Raises:
        DataError: there is not enough memory.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise DataError(
            f"{name}: reading it takes {size(needed)} of memory, but only {size(available)} are free; expected a file "
            "that fits, split it into parts or use a machine with more memory"
        )


def available_memory() -> int | None:
    """Return how many bytes of memory this process can still allocate; None if the system does not report it.

    The value comes from Linux's ``/proc/meminfo`` and, in a container, from the limit of its control group.
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
def spooled(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a path that can be read more than once: the file itself, or a temporary copy of a pipe's content.

    Args:
        path: a file or folder, a pipe as created by ``<(command)``, or ``-`` for standard input.
        suffix: the extension of the copy, from which readers tell the format.

    Raises:
        DataError: nothing writes to the pipe, or it delivers more than ``LARGEST_PIPE``.
    """
    if str(path) == "-":
        with copied(sys.stdin.buffer, "standard input", suffix=suffix) as copy:
            yield copy
        return
    try:
        piped = stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        piped = False  # the reader will report what is wrong
    if not piped:
        yield path
        return
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
        first = _first_bytes(pipe, str(path))
        os.set_blocking(pipe.fileno(), True)
        with copied(pipe, str(path), first, suffix) as copy:
            yield copy


@contextmanager
def copied(stream: IO[bytes], name: str, first: bytes = b"", suffix: str = "") -> Iterator[Path]:
    """Yield a temporary file with a stream's content, preceded by ``first``; error messages name the stream.

    Raises:
        DataError: the stream delivers more than ``LARGEST_PIPE``.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"input{suffix}"
        with copy.open("wb") as file:
            file.write(first)
            while chunk := stream.read(MIB):
                file.write(chunk)
                if file.tell() > LARGEST_PIPE:
                    raise DataError(f"{name}: more than {size(LARGEST_PIPE)}; expected less, split it into parts")
        try:
            yield copy
        except DataError as problem:
            raise DataError(str(problem).replace(str(copy), name)) from None


def size(count: int) -> str:
    """Format a number of bytes for display."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count //= 1024
    return f"{count:,} {unit}"


def _open_regular(name: str, flags: int, expected: str, error: type[GatewiseError]) -> int:
    """Open a file, checking that it is regular before and after: opening a device can have side effects."""
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
        raise error(f"{name}: a pipe, which can be read only once; expected {expected}, write it to a file first")
    raise error(f"{name}: {_KINDS.get(stat.S_IFMT(mode), 'a device')}; expected {expected}")


def _first_bytes(pipe: IO[bytes], name: str) -> bytes:
    """Return the first available bytes of a non-blocking pipe, once a writer has opened it."""
    until = time.monotonic() + PATIENCE_S
    while (found := pipe.read(MIB)) == b"":  # None means that there is a writer with no data yet
        if time.monotonic() > until:
            raise DataError(f"{name}: a pipe that nothing writes to; expected a file, or a pipe with a writer")
        time.sleep(0.02)
    return found or b""
