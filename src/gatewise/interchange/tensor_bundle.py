"""Checkpoints of TensorFlow (the V2 format, ``tensor_bundle``), read and written with NumPy alone.

A checkpoint with the prefix ``model.ckpt-10`` is the files ``model.ckpt-10.index``, a sorted table from names to where
each variable lies (``table.py``), and ``model.ckpt-10.data-00000-of-00001`` and so on, raw little-endian numbers.
Sources: ``tensor_bundle.proto`` and ``tensor_bundle.cc`` in ``tensorflow/core``.
"""

import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.artifact.atomic import write_atomically
from gatewise.errors import DataError
from gatewise.files import MIB, check_memory, check_regular, open_regular, read_bounded
from gatewise.interchange.crc32c import crc32c, masked
from gatewise.interchange.table import MAGIC, DamagedError, read_table, to_varint, varint, write_table

Array = npt.NDArray[Any]

LARGEST_INDEX = 16 * MIB
"""Bytes of an index; each variable takes about 100."""
EXPECTED = "a checkpoint of TensorFlow with its files PREFIX.index and PREFIX.data-*, given as the prefix"

_BFLOAT16 = 14
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", _BFLOAT16: "<u2", 19: "<f2"}
"""By their number in ``types.proto``; bfloat16 is read as the upper half of a float32."""
_NAMES = {4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 10: "bool", 17: "uint16", 18: "complex128"}
_MOST_DIMENSIONS = 32
_PRODUCER = 1
"""The format's version, which is the only one."""


@dataclass(frozen=True)
class Entry:
    """Where a variable lies: ``BundleEntryProto``.

    Attributes:
        dtype: its number in ``types.proto``.
        shape: the sizes.
        shard: the number of the data file.
        offset: of the first byte in that file.
        size: in bytes.
        crc: the masked CRC-32C of these bytes.
        in_pieces: whether it is a partitioned variable, whose pieces have entries of their own.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    in_pieces: bool


class Bundle(Mapping[str, Array]):
    """The variables of a checkpoint by name. Each is read, and its checksum verified, when it is asked for.

    Args:
        prefix: the path that the names of its files begin with.
        entries: where each variable lies.
        shards: the number of data files.
    """

    def __init__(self, prefix: Path, entries: Mapping[str, Entry], shards: int) -> None:
        self.prefix, self._entries, self._shards = prefix, entries, shards
        self.shapes = {name: entry.shape for name, entry in entries.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Array:
        """Read a variable: float32, float64, float16, int32 or int64; of bfloat16, its value as float32.

        Raises:
            KeyError: there is no such variable.
            DataError: its data file is missing or damaged, or its dtype is another one.
        """
        entry = self._entries[name]
        file = _shard(self.prefix, entry.shard, self._shards)
        if entry.in_pieces:
            raise DataError(
                f"{self.prefix}: {name} is saved in pieces (a partitioned variable); expected it as a whole"
            )
        if entry.dtype not in _DTYPES:
            found = _NAMES.get(entry.dtype, f"the dtype {entry.dtype}")
            raise DataError(f"{self.prefix}: {name} is of {found}; expected floating-point numbers, int32 or int64")
        dtype = np.dtype(_DTYPES[entry.dtype])
        largest = math.prod(max(size, 1) for size in entry.shape)  # NumPy's limit counts sizes of 0 as 1
        fits = entry.size == dtype.itemsize * math.prod(entry.shape) and largest < 1 << 60
        if not fits or len(entry.shape) > _MOST_DIMENSIONS:
            raise _damaged(file, f"{name} has {entry.size} bytes, which do not fit its shape")
        array = np.frombuffer(_read(file, name, entry), dtype).reshape(entry.shape)
        if entry.dtype == _BFLOAT16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(dtype.newbyteorder("="), copy=False)


def read_bundle(path: Path) -> Bundle:
    """Open a checkpoint of TensorFlow.

    Args:
        path: its prefix, or one of its files.

    Raises:
        DataError: a file is missing, damaged, or of another format.
    """
    prefix = _prefix(path)
    index = Path(f"{prefix}.index")
    raw = read_bounded(index, LARGEST_INDEX, EXPECTED)
    entries, shards = dict[str, Entry](), 0
    try:
        for key, value in read_table(raw):
            if not key:
                shards = _header(value)
            elif not key.startswith(b"\0"):  # a piece of a partitioned variable
                entries[key.decode()] = _entry(value, shards)
    except (DamagedError, UnicodeDecodeError) as problem:
        raise _damaged(index, problem) from None
    if not shards:
        raise _damaged(index, "it has no header")
    return Bundle(prefix, entries, shards)


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is that of a checkpoint, of either version: its prefix, or its index."""
    index = Path(f"{path}.index")
    try:
        with open_regular(index if os.path.exists(index) else path, EXPECTED) as file:
            file.seek(-len(MAGIC), os.SEEK_END)
            return file.read() == MAGIC
    except (DataError, OSError):  # missing, or shorter
        return False


def write_bundle(prefix: Path, arrays: Mapping[str, Array]) -> None:
    """Write a checkpoint that ``tf.train.load_checkpoint`` and ``tf.compat.v1.train.Saver`` read.

    Args:
        prefix: what the names of its two files begin with.
        arrays: the variables by name: float32, float64, float16, int32 or int64.

    Raises:
        OSError: a file could not be written.
    """
    numbers = {np.dtype(code).newbyteorder("="): number for number, code in _DTYPES.items() if number != _BFLOAT16}
    items = [(b"", _field(1, 1) + _field(3, _field(1, _PRODUCER)))]
    parts, offset = list[bytes](), 0
    for name in sorted(arrays, key=str.encode):
        array = arrays[name]
        number = numbers[array.dtype]
        raw = array.astype(_DTYPES[number]).tobytes()
        shape = b"".join(_field(2, _field(1, size)) for size in array.shape)
        crc = struct.pack("<I", masked(crc32c(raw)))
        entry = _field(1, number) + _field(2, shape) + _field(4, offset) + _field(5, len(raw)) + b"\x35" + crc
        items.append((name.encode(), entry))
        parts.append(raw)
        offset += len(raw)
    write_atomically(_shard(prefix, 0, 1), parts)
    write_atomically(Path(f"{prefix}.index"), write_table(items))


def _prefix(path: Path) -> Path:
    """Return the prefix of a checkpoint, given as such or as one of its files."""
    if os.path.isdir(path):  # pathlib raises for some paths
        found = ", ".join(str(file.with_suffix("")) for file in sorted(path.glob("*.index"))[:3])
        raise DataError(f"{path}: a folder; expected {EXPECTED}" + (f", such as {found}" if found else ""))
    if os.path.exists(f"{path}.index"):
        return path
    bare = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name)
    if bare and bare != path.name:
        return path.with_name(bare)
    check_regular(path, EXPECTED)
    if is_checkpoint(path):
        raise DataError(
            f"{path}: a checkpoint of the format V1, from before TensorFlow 0.12; expected V2, save it again with a "
            "newer tf.train.Saver"
        )
    raise DataError(f"{path}: not a checkpoint; expected {EXPECTED}")


def _shard(prefix: Path, shard: int, shards: int) -> Path:
    return Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")


def _read(path: Path, name: str, entry: Entry) -> bytearray:
    """Return the bytes of a variable, after comparing its place with the file's length and its checksum."""
    with open_regular(path, EXPECTED) as file:
        length = os.fstat(file.fileno()).st_size
        if entry.offset + entry.size > length:
            raise _damaged(path, f"{length} bytes, but {name} ends at {entry.offset + entry.size}")
        check_memory(str(path), 2 * entry.size)
        raw = bytearray(entry.size)
        try:
            file.seek(entry.offset)
            count = file.readinto(raw)  # type: ignore[attr-defined]
        except OSError as problem:
            raise DataError(f"{path}: cannot read it ({problem.strerror}); expected {EXPECTED}") from None
    if count != entry.size or masked(crc32c(raw)) != entry.crc:
        raise _damaged(path, f"the checksum of {name} does not match")
    return raw


def _damaged(path: Path, problem: object) -> DataError:
    return DataError(f"{path}: damaged, or not of TensorFlow ({problem}); expected {EXPECTED}, copy it again")


def _header(raw: bytes) -> int:
    """Return the number of data files, from ``BundleHeaderProto``."""
    shards = endianness = needed = 0
    for field, value in _fields(raw):
        if field == 1:
            shards = _number(value)
        elif field == 2:
            endianness = _number(value)
        elif field == 3:
            needed = max([needed, *(_number(least) for inner, least in _fields(_message(value)) if inner == 2)])
    if endianness:
        raise DamagedError("its numbers are big-endian; expected little-endian ones")
    if needed > _PRODUCER:
        raise DamagedError(f"it needs a reader of version {needed}; this one is of version {_PRODUCER}")
    if not 0 < shards <= 99_999:
        raise DamagedError(f"it announces {shards} data files")
    return shards


def _entry(raw: bytes, shards: int) -> Entry:
    """Parse a ``BundleEntryProto``."""
    numbers, shape, pieces = dict[int, int](), tuple[int, ...](), False
    for field, value in _fields(raw):
        if field in (1, 3, 4, 5, 6):
            numbers[field] = _number(value)
        elif field == 2:
            shape = tuple(_dimension(_message(size)) for inner, size in _fields(_message(value)) if inner == 2)
        elif field == 7:
            pieces = True
    dtype, shard, offset, size, crc = (numbers.get(field, 0) for field in (1, 3, 4, 5, 6))
    if shard >= shards:
        raise DamagedError(f"a variable lies in the data file {shard} of {shards}")
    if max(offset, size, *shape) >= 1 << 63:
        raise DamagedError("a size or an offset is negative")
    return Entry(dtype, shape, shard, offset, size, crc, pieces)


def _dimension(raw: bytes) -> int:
    return next((_number(value) for field, value in _fields(raw) if field == 1), 0)


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise DamagedError("bytes where a number belongs")
    return value


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise DamagedError("a number where a message belongs")
    return value


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message in protocol buffers' format: numbers, or the bytes of what is nested."""
    at = 0
    while at < len(raw):
        key, at = varint(raw, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(raw, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = varint(raw, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise DamagedError("a field of an unknown kind")
        if at + size > len(raw):
            raise DamagedError("a field is longer than its message")
        content = raw[at : at + size]
        yield key >> 3, content if wire == 2 else int.from_bytes(content, "little")
        at += size


def _field(number: int, value: int | bytes) -> bytes:
    """Return a field of a message; zeros are left out, as protocol buffers do."""
    if isinstance(value, bytes):
        return to_varint(number << 3 | 2) + to_varint(len(value)) + value
    return to_varint(number << 3) + to_varint(value) if value else b""
