"""Pictures as rows of numbers: grey, in 0..1, of the size that is asked for."""

import io
from pathlib import Path

import numpy as np
import pytest

from gatewise.data.images import read_image
from gatewise.errors import DataError

Image = pytest.importorskip("PIL.Image")
GREY = np.array([[0, 51, 255], [102, 204, 153]], dtype=np.uint8)


def save(folder: Path, pixels: np.ndarray, name: str = "a.png", mode: str | None = None) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(folder / name)
    return folder / name


def test_grey(tmp_path: Path) -> None:
    found = read_image(save(tmp_path, GREY), 2, 3)
    assert (found.dtype, found.shape) == (np.float32, (2, 3))
    np.testing.assert_array_equal(found, GREY.astype(np.float32) / 255)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 2, 3, invert=True), 1 - found)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_other_modes_of_the_same_picture(tmp_path: Path, mode: str) -> None:
    found = read_image(save(tmp_path, GREY, mode=mode), 2, 3)
    np.testing.assert_array_equal(found, GREY.astype(np.float32) / 255)


def test_sixteen_bits(tmp_path: Path) -> None:
    found = read_image(save(tmp_path, GREY.astype(np.uint16) * 257), 2, 3)
    np.testing.assert_array_equal(found, GREY.astype(np.float32) / 255)


def test_transparency_is_seen_on_white(tmp_path: Path) -> None:
    """Black ink on nothing, as drawing programs save it, is black on white."""
    ink = np.zeros((2, 3, 4), dtype=np.uint8)
    ink[0, 0, 3] = 255
    assert read_image(save(tmp_path, ink), 2, 3).tolist() == [[0, 1, 1], [1, 1, 1]]


def test_another_size(tmp_path: Path) -> None:
    """It is said, both ways round, and changed only on request."""
    path = save(tmp_path, np.repeat(np.repeat(GREY, 4, 0), 4, 1))
    with pytest.raises(DataError, match=r"a\.png: 12x8 pixels \(width x height\), the model reads 3x2; give --resize"):
        read_image(path, 2, 3)
    with pytest.raises(DataError, match="the model reads 8x12"):
        read_image(path, 12, 8)
    found = read_image(path, 2, 3, resize=True)
    assert found.shape == (2, 3)
    assert np.abs(found - GREY.astype(np.float32) / 255).max() < 0.2
    flat = save(tmp_path, np.full((9, 5), 102, dtype=np.uint8), "flat.png")
    np.testing.assert_allclose(read_image(flat, 28, 28, resize=True), 0.4, rtol=1e-6)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    """No file, a folder, text, nothing, floating-point pixels, and a PNG cut or changed anywhere: one line each."""
    with pytest.raises(DataError, match=r"none\.png: cannot read it \(No such file"):
        read_image(tmp_path / "none.png", 2, 3)
    with pytest.raises(DataError, match="cannot read it"):
        read_image(tmp_path, 2, 3)
    with pytest.raises(DataError, match=r"a\.tiff: no picture can be read from it \(its pixels are floating-point"):
        read_image(save(tmp_path, GREY.astype(np.float32), "a.tiff"), 2, 3)
    for raw in (b"", b"a dog", b"\x89PNG\r\n\x1a\n"):
        (tmp_path / "a.png").write_bytes(raw)
        with pytest.raises(DataError, match=r"a\.png: cannot read it \(none of PNG, .*, or damaged\)"):
            read_image(tmp_path / "a.png", 2, 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("size", "kind"), [(3, "png"), (40, "png"), (3, "tiff")])
def test_damaged_anywhere(tmp_path: Path, size: int, kind: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size, size), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    raw, path = buffer.getvalue(), tmp_path / f"a.{kind}"
    refused = []
    for k in range(0, len(raw), max(1, len(raw) // 200)):
        for damaged in (raw[:k], *(raw[:k] + bytes([raw[k] ^ flip]) + raw[k + 1 :] for flip in (0xFF, 1))):
            path.write_bytes(damaged)
            try:
                read_image(path, size, size)
            except DataError as problem:
                refused.append(str(problem))
    assert len(refused) > 100
    assert not any("\n" in line for line in refused)
