"""Writing safetensors files with their own hash inside; ``runtime/sealed.py`` composes and reads them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gatewise.artifact.atomic import write_atomically
from gatewise.runtime.sealed import compose
from gatewise.runtime.weights_file import digests

Arrays = Mapping[str, npt.NDArray[Any]]


def write_sealed(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically, with the metadata ``facts`` and its hash.

    Raises:
        OSError: the file could not be written; the old file is unchanged.
    """
    write_atomically(path, compose(arrays, facts))


def write_arrays(path: Path, arrays: Arrays, facts: Mapping[str, Any], parts: Iterable[Path]) -> None:
    """Write a weight file atomically, sealed with the metadata ``facts`` and the hashes of the existing parts."""
    write_sealed(path, arrays, {**facts, "files": digests(parts)})
