"""``model.safetensors``: sealed when it is written, and checked, name by name and shape by shape, when it is read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.sealed import DamagedError, Header, check_version, metadata_of, read_header, read_sealed, seal
from gatewise.errors import RunError
from gatewise.files import check_regular, file_hash

Arrays = dict[str, npt.NDArray[np.generic]]

_A_PART = "what training wrote there: restore it, or train again"


def write_arrays(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], parts: Iterable[Path]
) -> None:
    """Write a weight file in one piece, sealed with the facts, and with the hashes of the parts that are there."""
    # The library writes an array's memory as it lies.
    in_order = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, seal(save(in_order, metadata_of({**facts, "files": digests(parts)}))))


def digests(parts: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each of the parts that is there, by its name."""
    return {part.name: file_hash(part, _A_PART, RunError) for part in parts if part.is_file()}


def read_weights_header(path: Path) -> Header:
    """Read what a weight file says before its numbers.

    Raises:
        RunError: it is missing, damaged, or of a newer format.
    """
    if not path.exists():
        raise RunError(f"{path}: no such file; the run has no trained weights yet, train it (further) first")
    check_regular(path, "the run's weights: restore them, or train again", RunError)
    try:
        header = read_header(path)
    except DamagedError as problem:
        raise _damaged(path, problem) from None
    check_version(path, header)
    return header


def check_parts(path: Path, header: Header, parts: Iterable[Path]) -> None:
    """Check that the files beside the weights are those that the weights were sealed with.

    Raises:
        RunError: one is missing, or another.
    """
    files = header.facts.get("files", {})
    if not isinstance(files, dict):
        raise _damaged(path, "its metadata names no files")
    for part in parts:
        if (wanted := files.get(part.name)) is None:
            continue
        check_regular(part, _A_PART, RunError)
        found = file_hash(part, _A_PART, RunError)
        if found != wanted:
            raise RunError(
                f"{part}: not the file that the weights were trained with (SHA-256 {found[:12]}, expected "
                f"{str(wanted)[:12]}): damaged, edited, or of another run; restore it, or train again"
            )


def read_arrays(path: Path, header: Header, expected: Mapping[str, Sequence[int]]) -> Arrays:
    """Read the arrays of a weight file, whose header has been read; all but the numbers is checked before them.

    Raises:
        RunError: it is damaged, or holds other names, shapes or types, or no finite numbers.
    """
    for name, shape in expected.items():
        if name not in header.shapes:
            raise RunError(f"{path}: no {name} inside; expected shape {_shape(shape)}; train again")
        if (found := header.shapes[name]) != tuple(shape):
            raise RunError(
                f"{path}: {name} has shape {_shape(found)}; expected {_shape(shape)} by config.toml and the files "
                "beside it; they are of different runs"
            )
        if (kind := header.dtypes[name]) != "F32":
            raise RunError(f"{path}: {name} is of type {kind}; expected F32; convert it or train again")
    if extra := sorted(set(header.shapes) - set(expected)):
        raise RunError(f"{path}: unexpected {extra[0]!r:.100} inside; config.toml describes no such weight")
    try:
        arrays: Arrays = load(read_sealed(path, header))
    except (DamagedError, SafetensorError, MemoryError) as problem:
        raise _damaged(path, problem) from None
    if {name: array.shape for name, array in arrays.items()} != header.shapes:
        raise _damaged(path, "it was replaced while it was read")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise RunError(f"{path}: {name} holds numbers that are not finite; train again")
    return arrays


def _damaged(path: Path, problem: object) -> RunError:
    return RunError(f"{path}: damaged or cut short ({problem}); train again or --resume the run")


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
