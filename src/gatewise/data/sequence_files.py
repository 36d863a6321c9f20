"""Numeric input files for a trained model: arrays, or one image."""

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from gatewise.data import pictures, table
from gatewise.data.arrays import Batch, read_array_file, read_label_array
from gatewise.data.images import read_image
from gatewise.errors import DataError, UsageError

ARRAYS = (".npy", ".npz", ".gz", "-ubyte")
"""Suffixes of array files; every other file is read as an image."""


def read_sequence_file(
    path: Path, steps: int | None, width: int, *, resize: bool = False, invert: bool = False, wide: bool = False
) -> Batch:
    """Return the sequences of a file, scaled as in training, without targets; an image is one sequence.

    Args:
        path: an ``.npy``, ``.npz`` or IDX file, or an image.
        steps: T of the sequences that the model was trained on; None if they had no fixed length.
        width: I of the model.
        resize: resize an image to the model's size.
        invert: swap black and white of an image.
        wide: keep float64 where float32 is too narrow, for a model with standardization.

    Raises:
        UsageError: the file is an image but the model has no fixed length, or Pillow is not installed.
        DataError: the file cannot be read, or has another size.
    """
    if path.name.endswith(ARRAYS):
        return read_array_file(path, steps, width, wide)
    if path.suffix.lower() in table.SUFFIXES:
        image = "" if steps is None else ", or an image"
        raise DataError(f"{path}: a table; expected arrays (.npy, .npz or IDX){image}")
    if steps is None:
        raise UsageError(f"{path}: an image, but this model's sequences have no fixed length; expected .npy or .npz")
    return Batch(read_image(path, steps, width, resize, invert)[None], np.empty(0))


def check_holds_arrays(path: Path) -> None:
    """Check that a file or folder to learn from is not a table or a single picture, going by its name.

    Raises:
        DataError: it is.
    """
    suffix = path.suffix.lower()
    if os.path.isfile(path) and suffix in (*table.SUFFIXES, *pictures.SUFFIXES):
        raise DataError(
            f"{path}: {'a table' if suffix in table.SUFFIXES else 'a single picture'}; expected an .npz file with the "
            "arrays x and y, a folder with a subfolder of pictures for each class, or the four IDX files"
        )


def read_true_label(path: Path, index: int, count: int, classes: Collection[str]) -> str | None:
    """Return the true label of a sequence that ``read_sequence_file`` reads; None if the data has none.

    It is the label in or beside a file of arrays, or the name of an image's folder, if that is one of the classes.

    Args:
        path: the file.
        index: which of its sequences.
        count: how many it has.
        classes: the labels of the model.

    Raises:
        DataError: there are labels, but they cannot be read, or are not one per sequence.
    """
    if path.name.endswith(ARRAYS):
        labels = read_label_array(path, count)
        return None if labels is None else str(labels[index])
    folder = path.resolve().parent.name
    return folder if folder in classes else None
