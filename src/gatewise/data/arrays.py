"""Numeric sequences, each with a label or a target number: IDX files, ``.npz`` arrays, scikit-learn's digits."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.data.array_files import check_numbers, in_float32, load_arrays
from gatewise.data.idx import read_idx as read_idx
from gatewise.data.splitting import sizes_of, split_rows
from gatewise.data.text import find_part
from gatewise.errors import DataError
from gatewise.extras import import_extra
from gatewise.files import open_regular

PIXEL = 1 / 255
"""Scale of uint8 pixels: 0..255 is read as 0..1."""

_IDX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class Sequences:
    """N sequences of T steps of I numbers, with a target for each.

    Attributes:
        x: (N, T, I) float32 or float64, or uint8 as stored in the file.
        y: (N,) targets: labels, int64 or strings; or float32 or float64 numbers.
        scale: factor applied to ``x`` when a batch is read.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: npt.NDArray[np.int64] | slice) -> tuple[npt.NDArray[np.floating], npt.NDArray[Any]]:
        """Return sequences (B, T, I), scaled for training, and their targets (B,); both are copies."""
        return scaled(self.x[indices], self.scale), self.y[indices].copy()

    def part(self, rows: npt.NDArray[np.int64]) -> "Sequences":
        """Return a subset of the sequences."""
        return Sequences(self.x[rows], self.y[rows], self.scale)

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of shapes, types, values and scale; it does not depend on how the files were compressed."""
        digest = hashlib.sha256(repr((self.x.shape, str(self.x.dtype), str(self.y.dtype), self.scale)).encode())
        digest.update(np.ascontiguousarray(self.x).data)
        digest.update(np.ascontiguousarray(self.y).data)
        return digest.hexdigest()


def scaled(x: npt.NDArray[Any], scale: float) -> npt.NDArray[np.floating]:
    """Return a copy multiplied by the scale, float64 for float64 input, else float32."""
    out: npt.NDArray[np.floating] = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
    out *= out.dtype.type(scale)
    return out


def as_numbers(array: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
    """Return numbers as float32 if that represents every value of their type exactly, else as float64."""
    numbers: npt.NDArray[np.floating] = array.astype(
        np.float32 if np.can_cast(array.dtype, np.float32) else np.float64, copy=False
    )
    return numbers


def natural_scale(x: npt.NDArray[Any]) -> float:
    """Return 1/255 for uint8, which is always treated as pixels, and 1 for other types."""
    return PIXEL if x.dtype == np.uint8 else 1.0


def check_classes(labels: Iterable[Any], name: str | Path) -> list[Any]:
    """Return the sorted distinct labels.

    Args:
        labels: an array or a list of integers or strings.
        name: where they were read from, for the error message.

    Raises:
        DataError: the labels are floating-point numbers, or there are fewer than two classes.
    """
    found = np.unique(labels if isinstance(labels, np.ndarray) else list(labels))
    if found.dtype.kind == "f" and len(found):
        raise DataError(f"{name}: the labels are {found.dtype}; expected integers, save them as int64")
    classes: list[Any] = found.tolist()
    if len(classes) < 2:
        only = f"only one class, {classes[0]!r}" if classes else "no labels"
        raise DataError(f"{name}: {only}; expected at least two classes")
    return classes


def read_npz(path: Path) -> Sequences:
    """Return the arrays x (N, T, I) and y (N,) of an ``.npz`` file.

    A uint8 x holds pixels, which are scaled by 1/255; other types are read unscaled, as float32 or float64. An integer
    or text y holds labels, a floating-point y the numbers to predict.

    Raises:
        DataError: the file cannot be read, or x or y is missing, of the wrong shape or type, empty, or not finite.
    """
    arrays = load_arrays(path, ("x", "y"))
    x = check_numbers(arrays["x"], f"{path}: x", ndim=3)
    y = arrays["y"] if arrays["y"].dtype.kind == "U" else check_numbers(arrays["y"], f"{path}: y", ndim=1)
    if y.ndim != 1:
        raise DataError(f"{path}: y has shape {y.shape}; expected (N,), a label for each sequence")
    _check_count(x, y, path, path)
    answers = y if y.dtype.kind == "U" else y.astype(np.int64) if y.dtype.kind in "bui" else as_numbers(y)
    return Sequences(x if x.dtype == np.uint8 else as_numbers(x), answers, natural_scale(x))


def read_array_file(
    path: Path, expected_steps: int | None, expected_width: int, wide: bool = False
) -> npt.NDArray[np.floating]:
    """Return sequences for prediction: x of an ``.npz`` file, a ``.npy`` file, or an IDX file of images.

    Args:
        path: the file; its format is detected from its first bytes.
        expected_steps: T of the sequences that the model was trained on; None accepts any.
        expected_width: I of the model.
        wide: keep float64 where float32 is too narrow, for a model with standardization; otherwise all values must fit
            float32.

    Returns:
        (N, T, I), scaled as in training (uint8 pixels by 1/255).

    Raises:
        DataError: the file cannot be read, or does not hold sequences of this size.
    """
    x = check_numbers(_any_array(path), f"{path}: x", ndim=3)
    if x.shape[2] != expected_width or expected_steps not in (None, x.shape[1]):
        steps = "any number of" if expected_steps is None else expected_steps
        raise DataError(
            f"{path}: sequences of {x.shape[1]} steps of {x.shape[2]} numbers; the model reads {steps} steps of "
            f"{expected_width} numbers, provide arrays of that size"
        )
    return scaled(as_numbers(x) if wide else in_float32(x, f"{path}: x"), natural_scale(x))


def find_sequences(path: str | Path, valid_size: int, test_size: int, seed: int = 0) -> dict[str, Sequences]:
    """Read the parts train, valid and test of a folder, or split one file.

    Args:
        path: an ``.npz`` file; or a folder with the four IDX files under their usual names, with or without ``.gz``, or
            with ``*.train.npz`` and optionally ``*.valid.npz`` and ``*.test.npz``.
        valid_size: number of examples to hold out if there is no validation file; see ``cut_parts``.
        test_size: number of examples to hold out if there is no test file.
        seed: draws them at random; 0 takes them from the end.

    Raises:
        DataError: a file is missing or cannot be read, the parts do not fit, or the sizes leave nothing to train on.
    """
    path = Path(path).expanduser()
    if os.path.isfile(path):
        parts = {"train": read_npz(path)}
    elif any(_idx_candidates(path, part, kind) for part in _IDX for kind in ("images-idx3", "labels-idx1")):
        parts = {split: _read_idx_pair(path, part) for split, part in _IDX.items()}
    else:
        parts = {"train": read_npz(find_part(path, "train", [_npz_names]))}
        for split in ("valid", "test"):
            if any(path.glob(f"*.{split}.npz")) or (path / f"{split}.npz").exists():
                parts[split] = read_npz(find_part(path, split, [_npz_names]))
    return cut_parts(parts, valid_size, test_size, str(path), seed)


def load_digits(valid_size: int, test_size: int, seed: int = 0) -> dict[str, Sequences]:
    """Return scikit-learn's 1,797 digits of 8x8 pixels, 0..16 scaled to 0..1, split by ``cut_parts``.

    Raises:
        UsageError: scikit-learn is not installed.
        DataError: the sizes leave nothing to train on.
    """
    digits = import_extra("sklearn.datasets", "scikit-learn", "the data set digits").load_digits()
    whole = Sequences(digits.images.astype(np.uint8), digits.target.astype(np.int64), 1 / 16)
    return cut_parts({"train": whole}, valid_size, test_size, "digits", seed)


def cut_parts(
    parts: dict[str, Sequences], valid_size: int, test_size: int, name: str, seed: int = 0
) -> dict[str, Sequences]:
    """Split missing parts off the training set, and check that all parts match.

    Args:
        parts: ``train``, and ``valid`` and ``test`` if the data has them.
        valid_size: number of examples to hold out for validation if ``valid`` is missing; 0 takes a tenth.
        test_size: number of examples to hold out for testing if ``test`` is missing; 0 takes a tenth.
        name: name of the data in error messages.
        seed: draws the examples at random, with the share of each label in each part; 0 takes them from the end, the
            test set last.

    Raises:
        DataError: the parts do not match, or the sizes leave nothing to train on.
    """
    train, missing = parts["train"], [split for split in ("valid", "test") if split not in parts]
    sizes = dict(zip(("valid", "test"), sizes_of(len(train), valid_size, test_size, name, missing), strict=True))
    if missing:
        labels = train.y.tolist() if train.y.dtype.kind in "iU" else None
        rows = split_rows(len(train), sizes["valid"], sizes["test"], seed, name, labels=labels)
        parts = {**parts, **{split: train.part(rows[split]) for split in ("train", *missing)}}
    _check_alike(parts, "the dimensions of x", lambda part: part.x.shape[1:], name)
    _check_alike(parts, "the types of x", lambda part: _kind(part.x), name)
    _check_alike(parts, "the types of y", lambda part: _kind(part.y), name)
    return {split: parts[split] for split in ("train", "valid", "test")}


def _kind(array: npt.NDArray[Any]) -> str:
    return {"f": "float", "U": "text"}.get(array.dtype.kind, str(array.dtype))


def _any_array(path: Path) -> npt.NDArray[Any]:
    with open_regular(path, "an array file") as file:
        start = file.read(4)
    if start == b"\x93NUM" or start[:2] == b"PK":
        return load_arrays(path, ("x",))["x"]
    return read_idx(path)


def _npz_names(split: str) -> tuple[str, ...]:
    return f"*.{split}.npz", f"{split}.npz"


def _idx_candidates(folder: Path, part: str, kind: str) -> list[Path]:
    """List the files of one name, uncompressed first."""
    return [path for end in ("", ".gz") if (path := folder / f"{part}-{kind}-ubyte{end}").exists()]


def _read_idx_pair(folder: Path, part: str) -> Sequences:
    paths = []
    for kind in ("images-idx3", "labels-idx1"):
        found = _idx_candidates(folder, part, kind)
        if not found:
            raise DataError(
                f"{folder}: no {part}-{kind}-ubyte (or .gz) in this folder; expected the four files "
                "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
            )
        paths.append(found[0])
    x = check_numbers(read_idx(paths[0]), f"{paths[0]}: images", ndim=3)
    y = check_numbers(read_idx(paths[1]), f"{paths[1]}: labels", ndim=1)
    for path, array in zip(paths, (x, y), strict=True):
        if array.dtype != np.uint8:
            raise DataError(f"{path}: numbers of type {array.dtype}; expected unsigned bytes")
    _check_count(x, y, paths[0], paths[1])
    return Sequences(x, y.astype(np.int64), PIXEL)


def _check_count(x: npt.NDArray[Any], y: npt.NDArray[Any], x_path: Path, y_path: Path) -> None:
    if len(x) != len(y):
        between = "" if x_path == y_path else f" of {x_path.name}"
        raise DataError(f"{y_path}: {len(y):,} labels for the {len(x):,} sequences{between}; expected one per sequence")


def _check_alike(parts: dict[str, Sequences], what: str, of: Callable[[Sequences], object], name: str) -> None:
    for split in ("valid", "test"):
        if of(parts[split]) != of(parts["train"]):
            raise DataError(
                f"{name}: {what} differ between {split} ({of(parts[split])}) and train ({of(parts['train'])}); "
                "expected the same, save both the same way"
            )
