"""Files that are either whole or not there: written beside, flushed to disk, then renamed."""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash or a full disk at any moment leaves the old file or the new one, never a part.

    Raises:
        OSError: the content could not be written; the old file is untouched.
    """
    # A file name in the content that is no UTF-8 is written as the bytes that it is.
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make the rename itself last; Windows cannot open a folder and needs no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
