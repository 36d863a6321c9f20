"""Sequences of numbers to be read by a finished model: arrays, or one picture."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gatewise.data.arrays import read_array_file
from gatewise.data.images import read_image
from gatewise.errors import UsageError

ARRAYS = (".npy", ".npz", ".gz", "-ubyte")
"""How the names of files with many sequences end; all others are read as pictures."""


def read_sequence_file(
    path: Path, steps: int | None, width: int, *, resize: bool = False, invert: bool = False, wide: bool = False
) -> npt.NDArray[np.floating]:
    """Return the sequences of a file, (N, T, I), in the units trained on; of a picture one.

    Args:
        path: ``.npy``, ``.npz`` or IDX, or a picture.
        steps: T of the sequences that the model was trained on; None where they had no fixed length.
        width: I of the model.
        resize: bring a picture of another size to the model's.
        invert: exchange light and dark of a picture.
        wide: keep numbers in float64 that float32 does not hold, for a model that standardises.

    Raises:
        UsageError: a picture for a model without a fixed length; Pillow is not installed.
        DataError: the file cannot be read, or holds another size.
    """
    if path.name.endswith(ARRAYS):
        return read_array_file(path, steps, width, wide)
    if steps is None:
        raise UsageError(f"{path}: an image, but this model's sequences have no fixed length; expected .npy or .npz")
    return read_image(path, steps, width, resize, invert)[None]
