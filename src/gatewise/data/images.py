"""One picture as rows of grey numbers in 0..1."""

import logging
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gatewise.data.extras import import_extra
from gatewise.errors import DataError
from gatewise.files import LARGEST_PICTURE, MOST_PIXELS, check_memory, open_regular, size

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What is read; Pillow has fifty more, one of which starts another program."""

_BYTES_A_PIXEL = 20

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or damaged files would be told of beside our one line


def read_image(
    path: Path, height: int, width: int, resize: bool = False, invert: bool = False
) -> npt.NDArray[np.float32]:
    """Return a picture in grey, 0 black and 1 white.

    What is transparent is seen on white. MNIST is white on black: a scan of ink on paper needs ``invert``.

    Args:
        path: PNG, JPEG, BMP, GIF, TIFF, WebP or PPM, one picture alone.
        height: rows that the model reads.
        width: numbers in each row.
        resize: whether a picture of another size is brought to this one.
        invert: whether black and white change places.

    Returns:
        (height, width).

    Raises:
        UsageError: Pillow is not installed.
        DataError: the file is no picture that can be read, has another size, or more than ``MOST_PIXELS``.
    """
    pillow = import_extra("PIL.Image", "Pillow", "reading a picture")
    with open_regular(path, "a picture, such as PNG") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of sizes and tags: what matters is checked here, and one line long
        if (length := file.seek(0, 2)) > LARGEST_PICTURE:
            raise DataError(f"{path}: {size(length)}; expected a picture of at most {size(LARGEST_PICTURE)}")
        file.seek(0)
        grey = _read(pillow, file, path, None if resize else (width, height))
    if grey.size != (width, height):
        grey = grey.resize((width, height), pillow.Resampling.BILINEAR)
    pixels: npt.NDArray[np.float32] = np.asarray(grey, dtype=np.float32) / np.float32(255)
    return np.float32(1) - pixels if invert else pixels


def _read(pillow: Any, file: IO[bytes], path: Path, expected: tuple[int, int] | None) -> Any:
    """Decode a picture in grey, of the expected width and height where there are such."""
    pillow.init()  # it may have been built without one of them
    try:
        with pillow.open(file, formats=[name for name in FORMATS if name in pillow.OPEN]) as opened:
            width, height = opened.size
            if expected is not None and opened.size != expected:
                raise DataError(
                    f"{path}: {width}x{height} pixels (width x height), the model reads {expected[0]}x{expected[1]}; "
                    "give --resize to bring the picture to that size"
                )
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"{path}: {width}x{height} pixels (width x height); expected at most {MOST_PIXELS:,} in all, make "
                    "the picture smaller first"
                )
            check_memory(str(path), _BYTES_A_PIXEL * width * height)
            # MPO is a camera's JPEG with small copies of the picture in it.
            if getattr(opened, "is_animated", False) and opened.format != "MPO":
                raise DataError(f"{path}: {opened.n_frames} pictures in one file; expected one, save it alone")
            return _grey(pillow, opened)
    except DataError:
        raise
    except OSError as problem:
        reason = problem.strerror or f"none of {', '.join(FORMATS)}, or damaged"
        raise DataError(f"{path}: cannot read it ({reason}); expected a picture, such as PNG") from None
    except Exception as problem:  # on damaged files Pillow raises whatever its parts do
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"{path}: no picture can be read from it ({reason}); expected one, such as PNG") from None


def _grey(pillow: Any, picture: Any) -> Any:
    """Return a picture in 8 bits of grey."""
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no white")
    if picture.mode.startswith("I"):  # 16 bits, which convert("L") would cut off at 255
        return pillow.fromarray((np.asarray(picture, dtype=np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = pillow.alpha_composite(pillow.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L")
