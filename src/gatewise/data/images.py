"""Reading one image as rows of grayscale values in 0..1."""

import logging
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError
from gatewise.extras import import_extra
from gatewise.files import LARGEST_PICTURE, MOST_PIXELS, check_memory, open_regular, size
from gatewise.wording import option

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Supported formats; Pillow has fifty more, one of which starts another program."""

_BYTES_A_PIXEL = 20

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or it prints about damaged files as well


def read_image(
    path: Path, height: int, width: int, resize: bool = False, invert: bool = False
) -> npt.NDArray[np.float32]:
    """Return an image in grayscale, 0 for black and 1 for white.

    A picture that a camera took sideways is turned upright. Transparent pixels are composited onto white. MNIST is
    white on black: a scan of ink on paper needs ``invert``.

    Args:
        path: a PNG, JPEG, BMP, GIF, TIFF, WebP or PPM file with a single image.
        height: number of rows that the model reads.
        width: number of values per row.
        resize: resize an image of another size instead of rejecting it.
        invert: swap black and white.

    Returns:
        (height, width).

    Raises:
        UsageError: Pillow is not installed.
        DataError: the file is not a readable image, has another size, or more than ``MOST_PIXELS`` pixels.
    """
    pillow = import_extra("PIL.Image", "Pillow", "reading an image")
    with open_regular(path, "an image, such as PNG") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about sizes and tags: we check what matters ourselves
        if (length := file.seek(0, 2)) > LARGEST_PICTURE:
            raise DataError(f"{path}: {size(length)}; expected an image of at most {size(LARGEST_PICTURE)}")
        file.seek(0)
        grey = _read(pillow, file, path, None if resize else (width, height))
    if grey.size != (width, height):
        grey = grey.resize((width, height), pillow.Resampling.BILINEAR)
    pixels: npt.NDArray[np.float32] = np.asarray(grey, dtype=np.float32) / np.float32(255)
    return np.float32(1) - pixels if invert else pixels


def _read(pillow: Any, file: IO[bytes], path: Path, expected: tuple[int, int] | None) -> Any:
    """Decode an image to grayscale, checking its width and height if they are given."""
    pillow.init()  # Pillow may have been built without some of the formats
    try:
        with pillow.open(file, formats=[name for name in FORMATS if name in pillow.OPEN]) as opened:
            width, height = _upright_size(opened)
            upright = import_extra("PIL.ImageOps", "Pillow", "reading an image").exif_transpose
            if expected is not None and (width, height) != expected:
                raise DataError(
                    f"{path}: {width}x{height} pixels (width x height), the model reads {expected[0]}x{expected[1]}; "
                    f"add {option('resize', True)} to resize the image"
                )
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"{path}: {width}x{height} pixels (width x height); expected at most {MOST_PIXELS:,} in total, "
                    "shrink the image first"
                )
            check_memory(str(path), _BYTES_A_PIXEL * width * height)
            # MPO is a camera's JPEG with embedded thumbnails.
            if getattr(opened, "is_animated", False) and opened.format != "MPO":
                raise DataError(f"{path}: {opened.n_frames} images in one file; expected one, save it separately")
            return _grey(pillow, upright(opened))
    except DataError:
        raise
    except OSError as problem:
        reason = problem.strerror or f"not one of {', '.join(FORMATS)}, or damaged"
        raise DataError(f"{path}: cannot read it ({reason}); expected an image, such as PNG") from None
    except Exception as problem:  # Pillow raises all kinds of exceptions on damaged files
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"{path}: not a readable image ({reason}); expected one, such as PNG") from None


_SIDEWAYS = (5, 6, 7, 8)
"""Orientations in the EXIF data that exchange width and height."""
_ORIENTATION = 0x0112


def _upright_size(picture: Any) -> tuple[int, int]:
    """Return width and height of an opened image after turning it upright."""
    width, height = picture.size
    return (height, width) if picture.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image, without decoding it.

    Raises:
        MissingPackage: Pillow is not installed.
        DataError: the file is not a readable image.
    """
    pillow = import_extra("PIL.Image", "Pillow", "reading an image")
    with open_regular(path, "an image, such as PNG") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pillow.init()
        try:
            with pillow.open(file, formats=[name for name in FORMATS if name in pillow.OPEN]) as opened:
                width, height = _upright_size(opened)
                return height, width
        except Exception as problem:  # Pillow raises all kinds of exceptions on damaged files
            reason = " ".join(str(problem).split()) or type(problem).__name__
            raise DataError(f"{path}: not a readable image ({reason}); expected one, such as PNG") from None


def _grey(pillow: Any, picture: Any) -> Any:
    """Return an image as 8-bit grayscale."""
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose white level is not defined")
    if picture.mode.startswith("I"):  # 16 bits, which convert("L") would clip at 255
        return pillow.fromarray((np.asarray(picture, dtype=np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = pillow.alpha_composite(pillow.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L")
