"""Reading ``model.safetensors``: names, shapes, types, hash, and the files that belong to it are checked."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gatewise.errors import RunError
from gatewise.files import check_regular, file_hash
from gatewise.runtime.sealed import DamagedError, Header, arrays_of, check_version, read_header, read_sealed
from gatewise.wording import train_again

Arrays = dict[str, npt.NDArray[np.float32]]

_A_PART = "the file as written by training: restore it, or train again"


def digests(parts: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each existing part by file name."""
    return {part.name: file_hash(part, _A_PART, RunError) for part in parts if part.is_file()}


def read_weights_header(path: Path) -> Header:
    """Read the header of a weight file.

    Raises:
        RunError: the file is missing, damaged, or of a newer format.
    """
    if not path.exists():
        raise RunError(
            f"{path}: no such file; the run has no trained weights yet, train it first, or to the end with "
            f"{train_again(str(path.parent))}"
        )
    check_regular(path, "the run's weights: restore the file, or train again", RunError)
    try:
        header = read_header(path)
    except DamagedError as problem:
        raise _damaged(path, problem) from None
    check_version(path, header)
    return header


def check_parts(path: Path, header: Header, parts: Iterable[Path]) -> None:
    """Check that the other files are those that the weights were sealed with.

    Raises:
        RunError: a file is missing or has changed.
    """
    files = header.facts.get("files", {})
    if not isinstance(files, dict):
        raise _damaged(path, "its metadata does not list the files")
    for part in parts:
        if (wanted := files.get(part.name)) is None:
            continue
        check_regular(part, _A_PART, RunError)
        found = file_hash(part, _A_PART, RunError)
        if found != wanted:
            raise RunError(
                f"{part}: not the file that the weights were trained with (SHA-256 {found[:12]}, expected "
                f"{str(wanted)[:12]}): damaged, edited, or from another run; restore it, or train again"
            )


def read_arrays(path: Path, header: Header, expected: Mapping[str, Sequence[int]]) -> Arrays:
    """Read the arrays of a weight file, given its header; names, shapes and types are checked before reading.

    Raises:
        RunError: the file is damaged, has other names, shapes or types, or holds non-finite numbers.
    """
    for name, shape in expected.items():
        if name not in header.shapes:
            raise RunError(f"{path}: missing {name}; expected shape {_shape(shape)}; train again")
        if (found := header.shapes[name]) != tuple(shape):
            raise RunError(
                f"{path}: {name} has shape {_shape(found)}; expected {_shape(shape)} according to config.toml and the "
                "other files; they come from different runs"
            )
        if (kind := header.dtypes[name]) != "F32":
            raise RunError(f"{path}: {name} has type {kind}; expected F32; convert it or train again")
    if extra := sorted(set(header.shapes) - set(expected)):
        raise RunError(f"{path}: unexpected {extra[0]!r:.100}; config.toml describes no such weight")
    try:
        arrays = arrays_of(read_sealed(path, header), header)
    except DamagedError as problem:
        raise _damaged(path, problem) from None
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise RunError(f"{path}: {name} contains numbers that are not finite; train again")
    return arrays


def _damaged(path: Path, problem: object) -> RunError:
    return RunError(
        f"{path}: damaged or truncated ({problem}); train again, or resume it with {train_again(str(path.parent))}"
    )


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
