"""Writing safetensors files with their own hash inside; ``runtime/sealed.py`` checks it on reading."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.artifact.atomic import write_atomically
from gatewise.runtime.sealed import BLANK, FORMAT, IN_FILE, KEY
from gatewise.runtime.weights_file import digests

Arrays = Mapping[str, npt.NDArray[Any]]

_DTYPES = {"b": "BOOL", "u": "U{}", "i": "I{}", "f": "F{}"}
"""The format's name of a dtype, with its bits, by NumPy's kind."""


def write_sealed(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically, with the metadata ``facts`` and its hash; contiguous arrays are not copied.

    The safetensors library can only write to a path, which is not atomic, or return copies of all arrays in memory.

    Raises:
        OSError: the file could not be written; the old file is unchanged.
    """
    about: dict[str, Any] = {
        "__metadata__": {KEY: json.dumps({"sha256": BLANK, "format": FORMAT, **facts})}  # one, to be in this order
    }
    parts, end = list[bytes | memoryview](), 0
    # The widest first, so that each is aligned.
    for name, array in sorted(arrays.items(), key=lambda named: (-named[1].itemsize, named[0])):
        dtype = _DTYPES[array.dtype.kind].format(8 * array.itemsize)
        about[name] = {"dtype": dtype, "shape": [*array.shape], "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        parts.append(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    text = json.dumps(about, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head, digest = len(text).to_bytes(8, "little") + text, hashlib.sha256()
    for part in (head, *parts):
        digest.update(part)
    at = head.index(IN_FILE + BLANK.encode()) + len(IN_FILE)
    write_atomically(path, [head[:at], digest.hexdigest().encode(), head[at + len(BLANK) :], *parts])


def write_arrays(path: Path, arrays: Arrays, facts: Mapping[str, Any], parts: Iterable[Path]) -> None:
    """Write a weight file atomically, sealed with the metadata ``facts`` and the hashes of the existing parts."""
    write_sealed(path, arrays, {**facts, "files": digests(parts)})
