"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, of large arrays with NumPy alone."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78
"""0x1EDC6F41 with its bits reversed (RFC 3720, appendix B.4)."""
_LANES = 1 << 13
"""Words that are advanced together: a row of 32 KiB, which stays in the cache beside the two tables."""
_SHORT = 1 << 13
"""Bytes below which the loop over single bytes is faster."""
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the CRC-32C of some bytes.

    The checksum is linear over GF(2): with R rows of L words of 4 bytes, each lane (column) is advanced by 4L zero
    bytes per row, and the lanes are joined in pairs at the end. Zeros in front change nothing, once the initial value
    is part of the first word.

    Source: RFC 3720, appendix B.4, for the definition.
    """
    view = memoryview(data).cast("B")
    crc, first = 0xFFFFFFFF, len(view) if len(view) < _SHORT else len(view) % 4
    for byte in view[:first]:
        crc = _bytes_table()[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    if first == len(view):
        return crc ^ 0xFFFFFFFF
    words = np.frombuffer(view[first:], "<u4")
    partial = len(words) % _LANES or _LANES
    lanes: Words = np.zeros(_LANES, np.uint32)
    lanes[-partial:] = words[:partial]
    lanes[-partial] ^= np.uint32(crc)
    low, high = _tables(_LANES)
    for row in words[partial:].reshape(-1, _LANES):
        lanes = low[lanes & 0xFFFF] ^ high[lanes >> 16] ^ row
    distance = 1
    while len(lanes) > 1:
        lanes = _apply(_advance(distance), lanes[0::2]) ^ lanes[1::2]
        distance *= 2
    return int(_apply(_advance(1), lanes)[0]) ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Return a checksum as it is stored: rotated right by 15 bits, plus a constant (LevelDB's ``crc32c::Mask``)."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@lru_cache(maxsize=1)
def _bytes_table() -> list[int]:
    """Return what each value of one byte contributes after that byte."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


@lru_cache(maxsize=32)
def _advance(words: int) -> Words:
    """Return the matrix, one column per bit, that advances a checksum by 4 zero bytes for each of ``words`` (2^n)."""
    if words > 1:
        half = _advance(words // 2)
        return _apply(half, half)
    columns = []
    for bit in range(32):
        crc = 1 << bit
        for _ in range(4):
            crc = _bytes_table()[crc & 0xFF] ^ (crc >> 8)
        columns.append(crc)
    return np.array(columns, np.uint32)


def _apply(columns: Words, values: Words) -> Words:
    """Multiply each value by a matrix over GF(2)."""
    bits = values[:, None] >> np.arange(32, dtype=np.uint32) & 1
    product: Any = np.bitwise_xor.reduce(bits * columns, axis=1)
    return product.astype(np.uint32)  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _tables(words: int) -> tuple[Words, Words]:
    """Return ``_advance(words)`` as two tables, of the low and of the high half of a checksum."""
    tables = []
    for columns in np.split(_advance(words), 2):
        table = np.zeros(1, np.uint32)
        for column in columns:
            table = np.concatenate([table, table ^ column])
        tables.append(table)
    return tables[0], tables[1]
