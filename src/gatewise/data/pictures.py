"""A folder of pictures: one subfolder per class, already split or not."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gatewise.data.arrays import Sequences
from gatewise.data.images import image_size, read_image
from gatewise.data.text import SPLITS, spellings
from gatewise.errors import DataError
from gatewise.files import check_memory
from gatewise.runtime.arguments import PIXEL

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
"""Extensions of pictures, in lower case; other files are left out."""
LARGEST_KEPT = 64
"""Pictures that all have one size, up to this many pixels a side, keep it; others are resized."""
USUAL = 32
"""Pixels a side of pictures that are resized, where the configuration says nothing."""


def has_pictures(folder: Path) -> bool:
    """Return whether a folder holds two or more subfolders of pictures, or a ``train`` folder with them."""
    if not os.path.isdir(folder):
        return False
    return len(_classes(folder)) > 1 or len(_classes(folder / "train")) > 1


def only_class(folder: Path) -> str | None:
    """Return the only subfolder of pictures of a folder, or of its ``train`` folder; None unless there is just one."""
    names = [*_classes(folder / "train"), *_classes(folder)]
    return names[0] if len(names) == 1 else None


def read_pictures(folder: Path, side: int = 0) -> tuple[dict[str, Sequences], int, list[str]]:
    """Read the pictures of a folder in grayscale; their labels are the names of the subfolders.

    Args:
        folder: a subfolder per class; or ``train`` and optionally ``valid`` (``val``, ``dev``, ``validation``) and
            ``test``, with a subfolder per class in each.
        side: S, the height and width that pictures are resized to; 0 keeps a common square size of at most 64 pixels,
            and otherwise takes 32.

    Returns:
        The splits that the folder has, at least ``train``, with x (N, S, S) uint8 and y (N,) strings; S; and notes.

    Raises:
        MissingPackage: Pillow is not installed.
        DataError: a file is not a readable picture, there are too many for the memory, or two folders for a split.
    """
    found = {split: _classes(inner) for split in SPLITS if (inner := _folder_of(folder, split))}
    found = found if "train" in found else {"train": _classes(folder)}
    files = [path for classes in found.values() for paths in classes.values() for path in paths]
    if not side:
        sizes = {image_size(path) for path in files}
        (height, width), *others = sizes
        side = height if not others and height == width <= LARGEST_KEPT else USUAL
    check_memory(str(folder), len(files) * side * side)
    notes = [f"{folder}: {len(files):,} pictures in grayscale, {side} rows of {side} pixels; classes are the folders"]
    if left_out := _count(folder) - len(files):
        notes.append(f"{folder}: {left_out:,} other files are left out")
    return {split: _read(classes, side) for split, classes in found.items()}, side, notes


def _folder_of(folder: Path, split: str) -> Path | None:
    found = [inner for name in spellings(split) if (inner := folder / name).is_dir()]
    if len(found) > 1:
        names = ", ".join(inner.name for inner in found)
        raise DataError(
            f"{folder}: {len(found)} folders for the split {split} ({names}); expected one, move the others elsewhere"
        )
    return found[0] if found else None


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures of each class of a folder, in order; classes without pictures are left out."""
    found = {}
    for inner in sorted(folder.iterdir()) if os.path.isdir(folder) else ():
        if inner.is_dir() and not inner.name.startswith("."):
            paths = sorted(path for path in inner.iterdir() if path.suffix.lower() in SUFFIXES)
            if paths := [path for path in paths if not path.name.startswith(".")]:
                found[inner.name] = paths
    return found


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _read(classes: Mapping[str, list[Path]], side: int) -> Sequences:
    names = [name for name, paths in classes.items() for _ in paths]
    files = [path for paths in classes.values() for path in paths]
    x = np.empty((len(names), side, side), np.uint8)
    for row, path in enumerate(files):
        x[row] = np.rint(read_image(path, side, side, resize=True) * np.float32(255))
    if not len(x):
        raise DataError("a split holds no pictures; expected a subfolder of pictures for each class")
    return Sequences(x, np.array(names), PIXEL, places=np.array([str(path) for path in files]))
