"""Files that are either whole or not there: written beside, flushed to disk, then renamed."""

import os
import re
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash or a full disk at any moment leaves the old file or the new one, never a part.

    A process that is killed meanwhile leaves the hidden file it wrote to, which ``part_of`` knows again.

    Raises:
        OSError: the content could not be written; the old file is untouched.
    """
    # A file name in the content that is no UTF-8 is written as the bytes that it is.
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.unlink(missing_ok=True)  # a process of the same number may have been killed here, or left a link
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def part_of(name: str) -> str | None:
    """Return which file a name is a part of that ``write_atomically`` has written to; None of any other name."""
    found = re.fullmatch(r"\.(.+)\.\d+\.part", name)
    return found[1] if found else None


def _flush_folder(folder: Path) -> None:
    """Make the rename itself last; Windows cannot open a folder and needs no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
