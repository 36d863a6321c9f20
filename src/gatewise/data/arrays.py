"""Numeric sequences, each with a label or a target number: IDX files, ``.npz`` arrays, scikit-learn's digits."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gatewise.data.array_files import array_names, check_numbers, in_float32, load_arrays
from gatewise.data.idx import read_idx as read_idx
from gatewise.data.ragged import Lengths, check_lengths, padded
from gatewise.data.splitting import sizes_of, split_rows
from gatewise.data.text import find_part, spellings
from gatewise.errors import DataError
from gatewise.extras import import_extra
from gatewise.files import open_regular
from gatewise.runtime.arguments import PIXEL

_IDX = {"train": "train", "test": "t10k"}


class Batch(NamedTuple):
    """Some sequences, scaled for training, and their targets.

    Attributes:
        x: (B, T, I), with T the longest of them.
        y: (B,) targets.
        lengths: (B,) steps of each; None if all have the same length.
    """

    x: npt.NDArray[np.floating]
    y: npt.NDArray[Any]
    lengths: Lengths | None = None


@dataclass(frozen=True)
class Sequences:
    """N sequences of up to T steps of I numbers, with a target for each.

    Attributes:
        x: (N, T, I) float32 or float64, or uint8 as stored in the file; zeros after the end of a sequence.
        y: (N,) targets: labels, int64 or strings; or float32 or float64 numbers.
        scale: factor applied to ``x`` when a batch is read.
        lengths: (N,) steps of each sequence; None if all have T.
        places: (N,) where each sequence comes from: the name of its file, or its index in one; None is its own index.
        notes: what was left out, a line each.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    scale: float = 1.0
    lengths: Lengths | None = None
    places: npt.NDArray[Any] | None = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: npt.NDArray[np.int64] | slice) -> Batch:
        """Return some of the sequences as copies, scaled for training."""
        x, y = self.x[indices], self.y[indices].copy()
        if self.lengths is None:
            return Batch(scaled(x, self.scale), y)
        lengths = self.lengths[indices]
        return Batch(scaled(x[:, : lengths.max(initial=0)], self.scale), y, lengths)

    def part(self, rows: npt.NDArray[np.int64]) -> "Sequences":
        """Return a subset of the sequences."""
        lengths = None if self.lengths is None else self.lengths[rows]
        places = np.arange(len(self)) if self.places is None else self.places
        return Sequences(self.x[rows], self.y[rows], self.scale, lengths, places[rows])

    def place(self, row: int, name: str) -> str:
        """Return where a sequence comes from: the name of its own file, or its index in the data called ``name``."""
        place = row if self.places is None else self.places[row]
        return place if isinstance(place, str) else f"{name}[{place}]"

    @property
    def steps(self) -> npt.NDArray[Any]:
        """All steps of all sequences as they are stored, (Σ lengths, I)."""
        if self.lengths is None:
            return self.x.reshape(-1, self.x.shape[-1])
        steps: npt.NDArray[Any] = self.x[np.arange(self.x.shape[1]) < self.lengths[:, None]]
        return steps

    @property
    def size(self) -> str:
        """The steps and the numbers per step as text, such as ``12 to 40 × 3``."""
        steps = f"{self.x.shape[1]}" if self.lengths is None else f"{self.lengths.min()} to {self.lengths.max()}"
        return f"{steps} × {self.x.shape[2]}"

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of shapes, types, values and scale; it does not depend on how the files were compressed."""
        digest = hashlib.sha256(repr((self.x.shape, str(self.x.dtype), str(self.y.dtype), self.scale)).encode())
        for array in (self.x, self.y) if self.lengths is None else (self.x, self.y, self.lengths):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
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
    or text y holds labels, a floating-point y the numbers to predict. An array ``lengths`` (N,) gives the steps of each
    sequence; see ``padded`` for the shapes of x. Without it, x may be (N, T), which is one number per step.

    Raises:
        DataError: the file cannot be read, or x or y is missing, of the wrong shape or type, empty, or not finite.
    """
    arrays, unused = load_arrays(path, ("x", "y"), ("lengths",))
    x, lengths = _sequences_in(arrays, path)
    y = arrays["y"] if arrays["y"].dtype.kind == "U" else check_numbers(arrays["y"], f"{path}: y", ndim=1)
    if y.ndim != 1:
        raise DataError(f"{path}: y has shape {y.shape}; expected (N,), a label for each sequence")
    _check_count(x, y, path, path)
    answers = y if y.dtype.kind == "U" else y.astype(np.int64) if y.dtype.kind in "bui" else as_numbers(y)
    notes = [f"{path}: arrays not used: {', '.join(map(repr, unused))}"] if unused else []
    if arrays["x"].ndim == 2 and lengths is None:
        notes.append(f"{path}: x has shape {arrays['x'].shape}, read as {x.shape[1]} steps of one number")
    return Sequences(x if x.dtype == np.uint8 else as_numbers(x), answers, natural_scale(x), lengths, notes=notes)


def _sequences_in(arrays: dict[str, npt.NDArray[Any]], path: Path) -> tuple[npt.NDArray[Any], Lengths | None]:
    """Return x (N, T, I) of a file's arrays, and the steps of each sequence unless all have T."""
    x, lengths = arrays["x"], None
    if x.ndim == 2 and "lengths" not in arrays:
        x = x[..., None]
    if "lengths" in arrays:
        lengths = check_lengths(arrays["lengths"], f"{path}: lengths")
        x = padded(x, lengths, f"{path}: x")
        lengths = lengths if lengths.min() < lengths.max() else None
    return check_numbers(x, f"{path}: x", ndim=3), lengths


def read_array_file(path: Path, expected_steps: int | None, expected_width: int, wide: bool = False) -> Batch:
    """Return sequences for prediction: x of an ``.npz`` file, a ``.npy`` file, or an IDX file of images.

    Args:
        path: the file; its format is detected from its first bytes.
        expected_steps: T of the sequences that the model was trained on; None accepts any.
        expected_width: I of the model.
        wide: keep float64 where float32 is too narrow, for a model with standardization; otherwise all values must fit
            float32.

    Returns:
        The sequences, scaled as in training (uint8 pixels by 1/255), without targets.

    Raises:
        DataError: the file cannot be read, or does not hold sequences of this size.
    """
    x, lengths = _sequences_in(_any_array(path), path)
    if x.shape[2] != expected_width or (
        expected_steps is not None and (lengths is not None or x.shape[1] != expected_steps)
    ):
        found = x.shape[1] if lengths is None else f"{lengths.min()} to {lengths.max()}"
        steps = "any number of" if expected_steps is None else expected_steps
        raise DataError(
            f"{path}: sequences of {found} steps of {x.shape[2]} numbers; the model reads {steps} steps of "
            f"{expected_width} numbers, provide arrays of that size"
        )
    x = scaled(as_numbers(x) if wide else in_float32(x, f"{path}: x"), natural_scale(x))
    return Batch(x, np.empty(0), lengths)


def read_label_array(path: Path, count: int) -> npt.NDArray[Any] | None:
    """Return the labels of the ``count`` sequences that ``read_array_file`` reads; None if the data has none.

    They are an integer or text y of an ``.npz`` file, or the IDX file of labels beside one of images, under its usual
    name.

    Raises:
        DataError: there are labels, but they cannot be read, or are not one per sequence.
    """
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    names = array_names(path)
    if "y" in names:
        y, beside = load_arrays(path, ("y",))[0]["y"], path
    elif not names and beside != path and beside.exists():
        y = read_idx(beside)
    else:
        return None
    if y.dtype.kind != "U":
        y = check_numbers(y, f"{beside}: y", ndim=1)
    if y.shape != (count,):
        raise DataError(f"{beside}: {len(y):,} labels for the {count:,} sequences; expected one per sequence")
    if y.dtype.kind == "U":
        return y
    return y.astype(np.int64) if y.dtype.kind in "bui" else None


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
            patterns = chain.from_iterable(map(_npz_names, spellings(split)))
            if any(any(path.glob(pattern)) for pattern in patterns):
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
        parts["train"] = replace(parts["train"], notes=train.notes)
    if all(part.lengths is None for part in parts.values()):
        _check_alike(parts, "the dimensions of x", lambda part: part.x.shape[1:], name)
    else:
        _check_alike(parts, "the numbers per step of x", lambda part: part.x.shape[2], name)
        parts = {split: _with_lengths(part) for split, part in parts.items()}
    _check_alike(parts, "the types of x", lambda part: _kind(part.x), name)
    _check_alike(parts, "the types of y", lambda part: _kind(part.y), name)
    return {split: parts[split] for split in ("train", "valid", "test")}


def _with_lengths(part: Sequences) -> Sequences:
    steps = part.x.shape[1]
    return part if part.lengths is not None else replace(part, lengths=np.full(len(part), steps, np.int64))


def _kind(array: npt.NDArray[Any]) -> str:
    return {"f": "float", "U": "text"}.get(array.dtype.kind, str(array.dtype))


def _any_array(path: Path) -> dict[str, npt.NDArray[Any]]:
    with open_regular(path, "an array file") as file:
        start = file.read(4)
    if start == b"\x93NUM" or start[:2] == b"PK":
        return load_arrays(path, ("x",), ("lengths",))[0]
    return {"x": read_idx(path)}


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
