"""Sorted tables of keys and values in LevelDB's format, which TensorFlow uses for the index of a checkpoint.

A table is a sequence of blocks, each followed by a byte for its compression and a masked CRC-32C; a block of the last
keys of the others; and a footer. Source: LevelDB's ``doc/table_format.md``.
"""

import struct
from collections.abc import Iterable, Iterator

from gatewise.interchange.crc32c import crc32c, masked

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
"""The last 8 bytes of a table."""
MOST_KEYS = 100_000
"""Keys in a table: a checkpoint has one per variable."""
LONGEST_KEY = 1000
"""Bytes of a key: the name of a variable, or that and a range."""
MOST_KEY_BYTES = 1 << 24
"""Bytes of all keys together. Each key may share its beginning with the one before, so that few bytes claim many."""

_FOOTER = 48
_TRAILER = 5


class DamagedError(ValueError):
    """The bytes are not what the format prescribes; the message says what is wrong, without the file name."""


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return the base-128 number of at most 64 bits at an offset, and the offset after it.

    Raises:
        DamagedError: it is longer, or the bytes end within it.
    """
    value = 0
    for k, byte in enumerate(raw[at : at + 10]):
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + k + 1
    raise DamagedError("a number that does not end, or has more than 64 bits")


def to_varint(value: int) -> bytes:
    """Return a number of at most 64 bits in base 128, the lowest digit first."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def read_table(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys, in order, and their values.

    Args:
        raw: the whole file.

    Raises:
        DamagedError: a checksum does not match, a block lies outside the file or is compressed, keys are out of order,
            or there are too many of them.
    """
    if len(raw) < _FOOTER or not raw.endswith(MAGIC):
        raise DamagedError("it does not end like an index")
    footer = raw[-_FOOTER:]
    _, second = _handle(footer, 0)  # after that of an index of other facts, which TensorFlow leaves empty
    before, count, total = None, 0, 0
    for _, place in _entries(_block(raw, footer, second)):
        for key, value in _entries(_block(raw, place, 0)):
            count, total = count + 1, total + len(key)
            if before is not None and key <= before:
                raise DamagedError("its keys are out of order")
            if count > MOST_KEYS or len(key) > LONGEST_KEY or total > MOST_KEY_BYTES:
                raise DamagedError(f"too many names, or too long ones: {count:,}, the last of {len(key):,} bytes")
            yield key, value
            before = key


def _handle(raw: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Return offset and size of a block, and the position after them."""
    offset, at = varint(raw, at)
    size, at = varint(raw, at)
    return (offset, size), at


def _block(raw: bytes, handles: bytes, at: int) -> bytes:
    """Return the content of the block whose offset and size stand at a position."""
    (offset, size), _ = _handle(handles, at)
    end = offset + size
    if end + _TRAILER > len(raw) - _FOOTER:
        raise DamagedError("a block lies outside the file")
    kind, stored = struct.unpack_from("<BI", raw, end)
    if stored != masked(crc32c(memoryview(raw)[offset : end + 1])):
        raise DamagedError("the checksum of a block does not match")
    if kind != 0:
        raise DamagedError("its blocks are compressed, as TensorFlow never writes them")
    return raw[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block."""
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0] if len(block) >= 4 else 0
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise DamagedError("a block is shorter than its own table")
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or at + own + size > end:
            raise DamagedError("an entry lies outside its block")
        key, at = key[:shared] + block[at : at + own], at + own
        yield key, block[at : at + size]
        at += size


def write_table(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a table with one block of all items, whose keys must be in order; it needs no compression of keys."""
    file, entries = bytearray(), list(items)
    data = _append(file, entries)
    handles = _append(file, []) + _append(file, [(entries[-1][0], data)])
    return bytes(file) + handles + bytes(_FOOTER - len(MAGIC) - len(handles)) + MAGIC


def _append(file: bytearray, items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Append a block in which every key stands in full; return its offset and size as they are stored."""
    block, starts = bytearray(), list[int]()
    for key, value in items:
        starts.append(len(block))
        block += to_varint(0) + to_varint(len(key)) + to_varint(len(value)) + key + value
    starts = starts or [0]
    block += struct.pack(f"<{len(starts)}I", *starts) + struct.pack("<I", len(starts)) + b"\0"
    place = to_varint(len(file)) + to_varint(len(block) - 1)
    file += block + struct.pack("<I", masked(crc32c(block)))
    return place
