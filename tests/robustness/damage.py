"""What can happen to any file, and to any text: bits flip, blocks move or vanish, something else stands in its place.

Each kind of damage takes the file's bytes, or its path, and a generator of random numbers; it is one accident, in one
place, as checksums are there to find.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

Bytes = Callable[[bytes, Random], bytes]
"""Returns the damaged content."""
InPlace = Callable[[Path, Random], object]
"""Damages the file where it lies."""


def in_place(damage: Bytes) -> InPlace:
    """Return what damages a file's content where it lies."""
    return lambda path, rng: path.write_bytes(damage(path.read_bytes() or b"\n", rng))


SPARSE = 3 << 30
"""The length of a file that takes no space: more than a child may hold in memory."""


def _block(content: bytes, rng: Random) -> tuple[int, int]:
    """Return where a block begins and ends."""
    size = min(len(content), rng.choice([1, 8, 64, 512, 4096]))
    start = rng.randrange(len(content) - size + 1)
    return start, start + size


def flip_bit(content: bytes, rng: Random) -> bytes:
    damaged = bytearray(content)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def zero(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.choice([len(content) - 1, rng.randrange(len(content))])]


def cut_start(content: bytes, rng: Random) -> bytes:
    return content[rng.randrange(len(content)) + 1 :]


def extend(content: bytes, rng: Random) -> bytes:
    size = rng.choice([1, 8, 700, 5000])
    return content + rng.choice([bytes(size), rng.randbytes(size), content, b"\n"])


def remove_block(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + content[end:]


def repeat_block(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:end] + content[start:]


def swap_blocks(content: bytes, rng: Random) -> bytes:
    size = min(len(content) // 2, rng.choice([1, 8, 64, 512]))
    if not size:
        return content[::-1]
    a = rng.randrange(len(content) - 2 * size + 1)
    b = rng.randrange(a + size, len(content) - size + 1)
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


ANY_BYTES: dict[str, Bytes] = {
    "flip-bit": flip_bit,
    "overwrite": overwrite,
    "zero": zero,
    "cut": cut,
    "cut-start": cut_start,
    "extend": extend,
    "remove-block": remove_block,
    "repeat-block": repeat_block,
    "swap-blocks": swap_blocks,
    "empty": lambda content, rng: b"",
}


def _folder(path: Path, rng: Random) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _fifo(path: Path, rng: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _device(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice(["/dev/zero", "/dev/null", "/dev/urandom"]))


def _sparse(path: Path, rng: Random) -> None:
    if rng.random() < 0.5:
        path.write_bytes(b"")
    os.truncate(path, SPARSE)


ANY_FILE: dict[str, InPlace] = {
    "none": lambda path, rng: None,  # shows that equal files give equal results
    "missing": lambda path, rng: path.unlink(),
    "folder": _folder,
    "loop": _loop,
    "fifo": _fifo,
    "device": _device,
    "sparse": _sparse,
}


def _lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def shuffle_lines(content: bytes, rng: Random) -> bytes:
    lines = _lines(content)
    rng.shuffle(lines)
    return b"".join(lines)


def drop_line(content: bytes, rng: Random) -> bytes:
    lines = _lines(content)
    lines.pop(rng.choice([0, rng.randrange(len(lines))]))
    return b"".join(lines)


def repeat_line(content: bytes, rng: Random) -> bytes:
    lines = _lines(content)
    at = rng.choice([0, rng.randrange(len(lines))])
    return b"".join([*lines[: at + 1], *lines[at:]])


def other_number(content: bytes, rng: Random) -> bytes:
    """Give one number another value: another magnitude or sign, or what is no number."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?", content))
    if not found:
        return flip_bit(content, rng)
    place = rng.choice(found)
    odd = [
        b"-1",
        b"0",
        b"-0",
        b"1e400",
        b"-1e400",
        b"NaN",
        b"Infinity",
        b"-inf",
        b"1e-400",
        b"1e30",
        b"0x10",
        b"1_0",
        b"99999999999999999999",
        b"12000",
        b"9" * 5000,
        b"1,5",
        b"",
        b"true",
        b"0.5",
        b"-" + place[0],
        place[0] * 2,
        place[0] + b"e9",
        place[0] + b".5",
        place[0] + b"0",
    ]
    return content[: place.start()] + rng.choice(odd) + content[place.end() :]


def _insert(odd: list[bytes]) -> Bytes:
    def insert(content: bytes, rng: Random) -> bytes:
        at = rng.randrange(len(content) + 1)
        return content[:at] + rng.choice(odd) + content[at:]

    return insert


def other_mark(content: bytes, rng: Random) -> bytes:
    """Exchange one mark that structure hangs on."""
    marks = b',\t\n";{}[]=:#/ '
    places = [k for k, byte in enumerate(content) if byte in marks]
    if not places:
        return flip_bit(content, rng)
    at = rng.choice(places)
    return content[:at] + bytes([rng.choice(marks)]) + content[at + 1 :]


ANY_TEXT: dict[str, Bytes] = {
    "shuffle-lines": shuffle_lines,
    "drop-line": drop_line,
    "repeat-line": repeat_line,
    "other-number": other_number,
    "other-mark": other_mark,
    "no-utf8": _insert([b"\xff", b"\xe9", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"]),
    "control": _insert([b"\0", b"\x1b[2J", b"\r", b"\x0c", b"\x85", "\u2028".encode(), "\u202e".encode(), b"\x07"]),
    "long": _insert([b"x" * 300_000, b"9" * 20_000, b" " * 100_000, b"x " * 50_000, b'"' * 20_001]),
    "byte-order-mark": lambda content, rng: rng.choice([b"\xef\xbb\xbf", b"\xff\xfe"]) + content,
    "line-ends": lambda content, rng: content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n"])),
    "utf-16": lambda content, rng: content.decode("utf-8", "replace").encode("utf-16"),
}
