"""Damage to files of numbers: NumPy's, IDX, gzip and pictures, whose headers say what is not there."""

import gzip
import io
import struct
import zipfile
import zlib
from random import Random

import numpy as np

from tests.robustness.damage import ANY_BYTES, Bytes, flip_bit


def edit_npy(content: bytes, rng: Random) -> bytes:
    """Write another header before the numbers of a ``.npy`` file."""
    at = content.find(b"{")
    end = content.find(b"}", at) + 1
    header = content[at:end].decode("latin-1")
    odd = [
        ("'<f4'", "'|O'"),
        ("'<f4'", "'<f8'"),
        ("'<f4'", "'<U4'"),
        ("'<f4'", "'<c8'"),
        ("'<f4'", "'<M8[s]'"),
        ("'<f4'", "[('a', '<f4')]"),
        ("'<f4'", "'|V4'"),
        ("'<f4'", "'>f4'"),
        ("False", "True"),
        ("False", "0"),
        ("(3,", "(300000000000,"),
        ("(3,", "(-1,"),
        ("(3,", "(0,"),
        ("(", "(" * 3000),
        ("'descr'", "'x'"),
        ("}", ""),
        ("{", "{__import__('os'):1,"),
        ("(3,", "(2**62,"),
        ("(3,", "(4000000000,"),
        ("3", "None"),
    ]
    before, after = rng.choice([pair for pair in odd if pair[0] in header] or [("{", "[")])
    header = header.replace(before, after, 1)
    start = bytearray(content[: at - 2] if content[6] == 1 else content[: at - 4])
    if rng.random() < 0.1:
        start[6] = rng.choice([0, 2, 3, 9])
    padded = header.encode("latin-1") + b"\n"
    return bytes(start) + struct.pack("<H" if content[6] == 1 else "<I", len(padded)) + padded + content[end:].lstrip()


def edit_npz(content: bytes, rng: Random) -> bytes:
    """Change one array of an ``.npz`` file, or the archive around it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            parts = {name: opened.read(name) for name in opened.namelist()}
    except (zipfile.BadZipFile, zlib.error, ValueError):
        return flip_bit(content, rng)
    name, how = (
        rng.choice(sorted(parts)),
        rng.choice(["header", "header", "byte", "drop", "rename", "bomb", "method", "value", "size"]),
    )
    if how == "header":
        parts[name] = edit_npy(parts[name], rng)
    elif how == "byte":
        parts[name] = rng.choice(list(ANY_BYTES.values()))(parts[name], rng)
    elif how == "drop":
        del parts[name]
    elif how == "rename":
        parts[rng.choice(["../x.npy", "x", "/etc/x.npy", "x.npy.npy", "\x1b.npy"])] = parts.pop(name)
    elif how == "value":
        parts[name] = parts[name][:-4] + struct.pack("<f", rng.choice([float("nan"), float("inf"), 3e38, 1e30]))
    written = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(written, "w", method) as archive:
        for key, part in parts.items():
            archive.writestr(key, part)
    packed = written.getvalue()
    if how == "bomb":
        return _zip_bomb(name)
    if how == "size" and (at := packed.rfind(b"PK\x01\x02")) >= 0:  # what the directory says of one size
        field = at + rng.choice([16, 20, 24, 28, 42])
        packed = packed[:field] + struct.pack("<I", rng.choice([0, 1, 2**31, 2**32 - 2])) + packed[field + 4 :]
    return packed


def _zeros(size: int) -> bytes:
    """Return zeros as raw deflate that may be followed by more."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)


def _zip_bomb(name: str) -> bytes:
    """Return an archive of 3 MB whose one member is an array of 3 GiB of zeros."""
    block, blocks = 1 << 24, 192
    written = io.BytesIO()
    shape = (block * blocks // 60, 5, 3)
    np.lib.format.write_array_header_1_0(written, {"descr": "<f4", "fortran_order": False, "shape": shape})
    start = written.getvalue()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) + _zeros(block) * blocks + b"\x03\x00"
    size, encoded = len(start) + block * blocks, name.encode()
    facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(data), size, len(encoded), 0)
    local = b"PK\x03\x04" + facts + encoded
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, 0) + encoded
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local) + len(data), 0)
    return local + data + entry + end


def gzip_bomb(content: bytes, rng: Random) -> bytes:
    """Follow a gzip file by members that hold 3 GiB of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return content + (packer.compress(bytes(1 << 24)) + packer.flush()) * 192


def edit_idx(content: bytes, rng: Random) -> bytes:
    """Change the header of an IDX file."""
    kind, dimensions = rng.choice([8, 9, 13, 14, 0, 255]), content[3] if len(content) > 3 else 3
    count = rng.choice([dimensions, 0, 1, 65, 255])
    sizes = [rng.choice([0, 1, 3, 5, 2**31, 2**32 - 1]) for _ in range(count)]
    header = bytes([rng.choice([0, 0, 1]), 0, kind, count]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    return header + content[4 + 4 * dimensions :]


def in_gzip(edit: Bytes) -> Bytes:
    """Return the same edit of what a gzip file holds."""

    def edited(content: bytes, rng: Random) -> bytes:
        return gzip.compress(edit(gzip.decompress(content), rng), mtime=0)

    return edited


def edit_png(content: bytes, rng: Random) -> bytes:
    """Change size, depth or kind in the first chunk of a PNG, its checksum made right again."""
    width, height, *rest = struct.unpack(">IIBBBBB", content[16:29])
    how = rng.randrange(3)
    if how == 0:
        width, height = rng.choice([(30_000, 30_000), (0, 5), (2**31 - 1, 2**31 - 1), (100_000, 1), (13_000, 13_000)])
    else:
        rest[rng.randrange(5)] = rng.choice([0, 1, 2, 3, 4, 6, 16, 255])
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, *rest)
    return content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


def other_picture(content: bytes, rng: Random) -> bytes:
    """Write the picture in another format or mode."""
    from PIL import Image

    mode, kind = rng.choice(
        [
            ("F", "TIFF"),
            ("I;16", "PNG"),
            ("1", "PNG"),
            ("P", "GIF"),
            ("CMYK", "JPEG"),
            ("L", "BMP"),
            ("LA", "PNG"),
            ("RGBA", "WEBP"),
            ("I", "TIFF"),
            ("L", "PPM"),
            ("L", "ICO"),
            ("L", "TGA"),
            ("RGB", "PCX"),
            ("P", "PNG"),
            ("YCbCr", "JPEG"),
            ("LAB", "TIFF"),
            ("L", "SGI"),
        ]
    )
    size, written = rng.choice([(3, 5), (40, 30), (1, 1)]), io.BytesIO()
    picture = Image.new("L", size, 90) if mode == "I;16" else Image.new(mode, size)
    (picture.convert("I;16") if mode == "I;16" else picture).save(written, kind)
    return rng.choice([written.getvalue(), rng.choice(list(ANY_BYTES.values()))(written.getvalue(), rng)])
