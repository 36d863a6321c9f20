"""Numeric input files for a trained model: arrays, or one image."""

from pathlib import Path

import numpy as np

from gatewise.data.arrays import Batch, read_array_file
from gatewise.data.images import read_image
from gatewise.errors import UsageError

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
    if steps is None:
        raise UsageError(f"{path}: an image, but this model's sequences have no fixed length; expected .npy or .npz")
    return Batch(read_image(path, steps, width, resize, invert)[None], np.empty(0))
