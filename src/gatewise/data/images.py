"""One picture as rows of grey numbers in 0..1."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.data.extras import import_extra
from gatewise.errors import DataError


def read_image(
    path: Path, height: int, width: int, resize: bool = False, invert: bool = False
) -> npt.NDArray[np.float32]:
    """Return a picture in grey, 0 black and 1 white.

    What is transparent is seen on white. MNIST is white on black: a scan of ink on paper needs ``invert``.

    Args:
        path: PNG, JPEG, or whatever else Pillow reads.
        height: rows that the model reads.
        width: numbers in each row.
        resize: whether a picture of another size is brought to this one.
        invert: whether black and white change places.

    Returns:
        (height, width).

    Raises:
        UsageError: Pillow is not installed.
        DataError: the file is no picture that can be read, or has another size.
    """
    pillow = import_extra("PIL.Image", "Pillow", "reading a picture")
    try:
        with pillow.open(path) as opened:
            found = opened.size
            if found != (width, height) and not resize:
                raise DataError(
                    f"{path}: {found[0]}x{found[1]} pixels (width x height), the model reads {width}x{height}; give "
                    "--resize to bring the picture to that size"
                )
            grey = _grey(pillow, opened)
    except OSError as problem:
        reason = problem.strerror or "no format that Pillow knows, or damaged"
        raise DataError(f"{path}: cannot read it ({reason}); expected a picture, such as PNG") from None
    except (SyntaxError, TypeError, ValueError, pillow.DecompressionBombError) as problem:  # Pillow on damaged files
        reason = " ".join(str(problem).split())
        raise DataError(f"{path}: no picture can be read from it ({reason}); expected one, such as PNG") from None
    if found != (width, height):
        grey = grey.resize((width, height), pillow.Resampling.BILINEAR)
    pixels: npt.NDArray[np.float32] = np.asarray(grey, dtype=np.float32) / np.float32(255)
    return np.float32(1) - pixels if invert else pixels


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
