"""Atomic file writes: write to a temporary file, flush it to disk, then rename it."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: bytes | str | Sequence[bytes | memoryview]) -> None:
    """Write a file so that a crash or a full disk at any moment leaves the old file or the new one, never a part.

    Content in parts is written one part after the other, without a copy of the whole.

    If the process is killed, its hidden temporary file remains, which ``part_of`` recognizes.

    Raises:
        OSError: the content could not be written; the old file is unchanged.
    """
    # File names in the content that are not valid UTF-8 are written as their original bytes.
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    with written_atomically(path) as file:
        file.writelines([data] if isinstance(data, bytes) else data)


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write that becomes ``path`` when the block ends, as ``write_atomically`` says.

    If the block raises, nothing is left of it.

    Raises:
        OSError: the content could not be written; the old file is unchanged.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.unlink(missing_ok=True)  # left by a killed process with the same PID, or a link
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as problem:
        beside.unlink(missing_ok=True)
        if isinstance(problem, OSError) and problem.filename is None:
            problem.filename = str(path)
        raise
    flush_folder(path.parent)


def part_of(name: str) -> str | None:
    """Return the target of a temporary file of ``write_atomically``, or None if the name is not of one."""
    found = re.fullmatch(r"\.(.+)\.\d+\.part", name)
    return found[1] if found else None


def flush_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable; Windows cannot open a folder and does not need this."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
