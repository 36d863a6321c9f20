"""Atomic file writes: write to a temporary file, flush it to disk, then rename it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path


def write_atomically(path: Path, content: bytes | str | Sequence[bytes | memoryview]) -> None:
    """Write a file so that a crash or a full disk at any moment leaves the old file or the new one, never a part.

    Content in parts is written one part after the other, without a copy of the whole.

    If the process is killed, its hidden temporary file remains, which ``part_of`` recognizes.

    Raises:
        OSError: the content could not be written; the old file is unchanged.
    """
    # File names in the content that are not valid UTF-8 are written as their original bytes.
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    parts = [data] if isinstance(data, bytes) else data
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.unlink(missing_ok=True)  # left by a killed process with the same PID, or a link
        with beside.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def part_of(name: str) -> str | None:
    """Return the target of a temporary file of ``write_atomically``, or None if the name is not of one."""
    found = re.fullmatch(r"\.(.+)\.\d+\.part", name)
    return found[1] if found else None


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable; Windows cannot open a folder and does not need this."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
