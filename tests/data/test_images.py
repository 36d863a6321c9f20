"""Pictures as rows of numbers: grey, in 0..1, of the size that is asked for."""

import io
import logging
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from gatewise import files
from gatewise.data.images import image_size, read_image
from gatewise.errors import DataError
from tests.child import in_child

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
    with pytest.raises(DataError, match=r"a\.png: 12x8 pixels \(width x height\), .* reads 3x2; add resize=True"):
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
    with pytest.raises(DataError, match=r"a\.tiff: not a readable image \(its pixels are floating-point"):
        read_image(save(tmp_path, GREY.astype(np.float32), "a.tiff"), 2, 3)
    for raw in (b"", b"a dog", b"\x89PNG\r\n\x1a\n"):
        (tmp_path / "a.png").write_bytes(raw)
        with pytest.raises(DataError, match=r"a\.png: cannot read it \(not one of PNG, .*, or damaged\)"):
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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_black(path: Path, width: int, height: int) -> Path:
    """Write a PNG of one bit a pixel, all zeros, without holding its pixels."""
    pack, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    data = b"".join(pack.compress(row * 100) for _ in range(height // 100)) + pack.compress(row * (height % 100))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data + pack.flush()) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(("width", "height"), [(10_000, 5_001), (50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, width: int, height: int) -> None:
    """With and without ``resize``, within 60 MB of memory, and without a warning beside the one line."""
    path = write_black(tmp_path / "a.png", 10_000, 5_001)
    raw = path.read_bytes()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(raw[:8] + head + raw[8 + len(head) :])
    assert len(raw) < 50_000

    def read() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for resize in (True, False):
                with pytest.raises(DataError, match=r"a\.png: .*(x\d+ pixels|not a readable image)"):
                    read_image(path, 2, 3, resize=resize)

    assert in_child(read, megabytes=60) == "returned"


def test_the_largest_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewise.data.images.MOST_PIXELS", 6)
    assert read_image(save(tmp_path, GREY), 4, 4, resize=True).shape == (4, 4)
    monkeypatch.setattr("gatewise.data.images.MOST_PIXELS", 5)
    with pytest.raises(DataError, match=r"a\.png: 3x2 pixels \(width x height\); expected at most 5 in total, shrink"):
        read_image(tmp_path / "a.png", 4, 4, resize=True)
    monkeypatch.setattr(files, "available_memory", lambda: 100)
    monkeypatch.setattr("gatewise.data.images.MOST_PIXELS", 6)
    with pytest.raises(DataError, match=r"a\.png: reading it takes 120 bytes of memory, but only 100 bytes are free"):
        read_image(tmp_path / "a.png", 2, 3)


def test_a_sparse_picture(tmp_path: Path) -> None:
    os.truncate(save(tmp_path, GREY), 1 << 40)
    with pytest.raises(DataError, match=r"a\.png: 1,024 GiB; expected an image of at most 381 MiB"):
        read_image(tmp_path / "a.png", 2, 3)


UNREAD = ("psd", "ico", "eps", "tga", "jp2")


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "I;16", "PA", "RGBX", "LAB", "I", "HSV"])
@pytest.mark.parametrize(
    "kind", ["png", "jpeg", "tiff", "bmp", "gif", "webp", "ppm", "psd", "ico", "eps", "tga", "jp2"]
)
def test_every_mode_in_every_format(tmp_path: Path, mode: str, kind: str) -> None:
    """Numbers in 0..1 where the format is read, one line where it is not."""
    path, base = tmp_path / f"a.{kind}", Image.fromarray(np.repeat(np.repeat(GREY, 8, 0), 8, 1))
    try:
        base.convert("RGB").convert(mode).save(path)
    except (OSError, ValueError, KeyError):
        try:
            base.convert("RGB").save(path)
        except (OSError, ValueError, KeyError):
            path.write_bytes(b"8BPS\0\1" + bytes(20))
    if kind in UNREAD:
        with pytest.raises(DataError, match=rf"a\.{kind}: cannot read it \(not one of PNG, JPEG, BMP, GIF,"):
            read_image(path, 16, 24)
        return
    if (mode, kind) == ("LAB", "tiff"):
        with pytest.raises(DataError, match=r"a\.tiff: not a readable image \(conversion from LAB to "):
            read_image(path, 16, 24)
        return
    found = read_image(path, 16, 24)
    assert found.min() >= 0 and found.max() <= 1
    if mode not in ("1", "I", "I;16", "HSV"):  # of which Pillow itself makes another picture
        assert abs(found[0, 0] - 0) < 0.1 and abs(found[0, -1] - 1) < 0.1


@pytest.mark.parametrize("kind", ["gif", "tiff", "png", "webp"])
def test_several_pictures_in_one_file(tmp_path: Path, kind: str) -> None:
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=[second])
    with pytest.raises(DataError, match=rf"a\.{kind}: 2 images in one file; expected one, save it separately"):
        read_image(tmp_path / f"a.{kind}", 2, 3)


def test_texts_inside_that_swell(tmp_path: Path) -> None:
    """A comment of a kilobyte that unpacks to 64 MB, before the pixels."""
    raw = save(tmp_path, GREY).read_bytes()
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20), 9))
    (tmp_path / "a.png").write_bytes(raw[:33] + bomb + raw[33:])
    found = in_child(lambda: read_image(tmp_path / "a.png", 2, 3), megabytes=40)
    assert found.startswith("DataError: ") and "\n" not in found


def test_damage_is_told_in_the_error_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow logs some of it, and a program without logging would find that on standard error."""
    raw = bytearray(save(tmp_path, np.repeat(GREY[:, :, None], 3, 2), "a.tiff").read_bytes())
    at = raw.index(struct.pack("<HHI", 277, 3, 1))  # SamplesPerPixel, one short number
    raw[at + 8 : at + 10] = b"\xff\xff"
    (tmp_path / "a.tiff").write_bytes(raw)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    with pytest.raises(DataError, match=r"a\.tiff: (no picture can be read|cannot read it)"):
        read_image(tmp_path / "a.tiff", 2, 3)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: a pipe, which can be read only once; expected an image"):
        read_image(tmp_path / "a.png", 2, 3)


def test_a_picture_that_a_camera_took_sideways_is_turned_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 255], [0, 255], [0, 255]], np.uint8))  # white on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    picture.save(tmp_path / "a.png", exif=exif)
    turned = read_image(tmp_path / "a.png", 2, 3)
    assert turned.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert image_size(tmp_path / "a.png") == (2, 3)
