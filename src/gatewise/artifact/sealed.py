"""Writing safetensors files with their own hash inside; ``runtime/sealed.py`` checks it on reading."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from gatewise.artifact.atomic import write_atomically
from gatewise.runtime.sealed import BLANK, FORMAT, IN_FILE, KEY
from gatewise.runtime.weights_file import digests


def metadata_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file to seal: a single string, since the library does not keep the order of several."""
    return {KEY: json.dumps({"sha256": BLANK, "format": FORMAT, **facts})}


def seal(raw: bytes) -> bytes:
    """Return a file serialized with ``metadata_of``, with the zeros replaced by its hash."""
    before = IN_FILE + BLANK.encode()
    assert before in raw[: 8 + int.from_bytes(raw[:8], "little")]
    return raw.replace(before, IN_FILE + hashlib.sha256(raw).hexdigest().encode(), 1)


def write_arrays(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], parts: Iterable[Path]
) -> None:
    """Write a weight file atomically, sealed with the metadata ``facts`` and the hashes of the existing parts."""
    # The library ignores strides when it writes an array.
    in_order = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, seal(save(in_order, metadata_of({**facts, "files": digests(parts)}))))
