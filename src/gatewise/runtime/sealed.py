"""Safetensors files with NumPy alone, and the seal that Gatewise puts on its own.

A sealed file contains its own SHA-256, so that any change of a bit is detected. Our metadata ("facts") is one JSON
string in the file's metadata, under ``gatewise``. It starts with ``sha256``, the hash of the whole file with zeros in
place of these 64 digits, and ``format``, the version of the content. A file without this string, written by another
program, is read without verification.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import RunError
from gatewise.files import open_regular
from gatewise.reading import parse_json

BF16 = np.dtype([("bf16", np.uint16)])
"""The bits of bfloat16, which NumPy lacks."""

FORMAT = 1
"""The newest format version that can be read, and the one that is written."""
KEY = "gatewise"
BLANK = "0" * 64
START = '{"sha256": "'
IN_FILE = json.dumps(START)[1:-1].encode()
"""What precedes the hash in the file."""

LARGEST_HEADER = 100_000_000
"""Bytes of a header; the format allows no more."""

_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_NAMES = {"b": "BOOL", "u": "U{}", "i": "I{}", "f": "F{}", "V": "BF{}"}
"""The format's name of a dtype, with its bits, by NumPy's kind; the only structure is ``BF16``."""
_HASH = re.compile(re.escape(START) + r'([0-9a-f]{64})", ')


class DamagedError(Exception):
    """A file is damaged; the message says what is wrong, without the file name."""


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file.

    Attributes:
        shapes: shape of each tensor by name.
        dtypes: dtype of each tensor by name, as the format calls it, such as ``F32``.
        starts: the offset of each tensor's first byte in the file.
        facts: Gatewise's metadata; empty for a file of another program.
        sealed: whether the file contains its hash.
        metadata: all metadata strings of the file.
        head: the bytes before the first tensor.
        size: the size of the file in bytes.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    starts: Mapping[str, int]
    facts: Mapping[str, Any]
    sealed: bool
    metadata: Mapping[str, str]
    head: bytes
    size: int


def read_header(path: Path) -> Header:
    """Read the header of a file; no tensor data is read, and the hash is not checked.

    Raises:
        DamagedError: the file cannot be read; its header is invalid, or does not describe exactly the bytes of the
            file; or its Gatewise metadata is damaged.
    """
    try:
        with open_regular(path, "a safetensors file", RunError) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if size < 8 or length > min(LARGEST_HEADER, size - 8):
                raise DamagedError(f"{size} bytes, too few for the header it announces")
            head += file.read(length)
            content = parse_json(head[8:])
    except RunError as problem:
        raise DamagedError(str(problem).removeprefix(f"{path}: ")) from None
    except (OSError, ValueError, MemoryError) as problem:
        raise DamagedError(f"invalid header: {' '.join(str(problem).split())}") from None
    return _header(content, head, size)


def _header(content: Any, head: bytes, size: int) -> Header:
    """Check the parsed header of a file of ``size`` bytes that begins with ``head``."""
    if not isinstance(content, dict):
        raise DamagedError("its header is not a JSON object")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DamagedError("its metadata is not a table of strings")
    spans = []
    for name, about in content.items():
        if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
            raise DamagedError(f"the description of {name!r:.100} is not a dtype, a shape and two offsets")
        shape, ends = about["shape"], about["data_offsets"]
        if not _are_sizes(shape) or not _are_sizes(ends) or len(ends) != 2:
            raise DamagedError(f"the shape or the offsets of {name!r:.100} are not lists of sizes")
        width = _BYTES.get(about["dtype"]) if isinstance(about["dtype"], str) else None
        if width is None:
            raise DamagedError(f"{name!r:.100} has the unknown dtype {about['dtype']!r:.20}")
        if ends[1] - ends[0] != width * math.prod(shape):  # Python's integers do not overflow
            raise DamagedError(f"the offsets of {name!r:.100} do not match its shape")
        spans.append((ends[0], ends[1], name))
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise DamagedError(f"a gap or an overlap before the data of {name!r:.100}")
        end = last
    start = len(head)
    if start + end != size:
        raise DamagedError(f"{size} bytes; expected {start + end} according to its header")
    shapes = {name: tuple(content[name]["shape"]) for *_, name in spans}
    dtypes = {name: content[name]["dtype"] for *_, name in spans}
    starts = {name: start + first for first, _, name in spans}
    return Header(shapes, dtypes, starts, *_facts(metadata), metadata, head, size)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def check_version(path: Path, header: Header) -> None:
    """Check that this version of Gatewise can read a file.

    Raises:
        RunError: the file was written by a newer version.
    """
    if (version := header.facts.get("format", 0)) > FORMAT:
        raise RunError(
            f"{path}: format {version}, written by a newer Gatewise; this one reads up to {FORMAT}: upgrade Gatewise"
        )


def read_sealed(path: Path, header: Header) -> bytes:
    """Return a file's bytes, after verifying the hash if it is sealed.

    Raises:
        DamagedError: the file cannot be read, was replaced since its header was read, or the hash does not match.
    """
    try:
        raw = path.read_bytes()
    except (OSError, MemoryError) as problem:
        raise DamagedError(str(problem) or "too large for memory") from None
    if len(raw) != header.size or not raw.startswith(header.head):
        raise DamagedError("it was replaced while being read")
    if header.sealed:
        at = header.head.find(IN_FILE) + len(IN_FILE)
        view, digest = memoryview(raw), hashlib.sha256()
        for piece in (view[:at], BLANK.encode(), view[at + len(BLANK) :]):
            digest.update(piece)
        if digest.hexdigest().encode() != raw[at : at + len(BLANK)]:
            raise DamagedError("its SHA-256 does not match the one stored in it")
    return raw


def arrays_of(raw: bytes, header: Header) -> dict[str, npt.NDArray[np.float32]]:
    """Return copies of the arrays of a file, all of dtype ``F32``."""
    arrays = dict[str, npt.NDArray[np.float32]]()
    for name, shape in header.shapes.items():
        view = np.frombuffer(raw, "<f4", math.prod(shape), header.starts[name])
        arrays[name] = view.reshape(shape).astype(np.float32)
    return arrays


def _facts(metadata: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """Return Gatewise's metadata without the hash, and whether the file is sealed."""
    text = metadata.get(KEY)
    if text is None:  # from another program, unless the key itself was damaged
        if any(other.startswith(START) for other in metadata.values()):
            raise DamagedError(f"its metadata is not stored under '{KEY}'")
        return {}, False
    try:
        facts = parse_json(text, infinite=True)
    except ValueError as problem:
        raise DamagedError(f"invalid metadata: {problem}") from None
    if not isinstance(facts, dict):
        raise DamagedError("its metadata is not a JSON object")
    if '"sha256"' not in text and '"format"' not in text:
        return facts, False
    version = facts.get("format")
    if not _HASH.match(text) or type(version) is not int or version < 1:
        raise DamagedError("its metadata has no valid hash or format version")
    return {name: value for name, value in facts.items() if name != "sha256"}, True


def compose(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> list[bytes | memoryview]:
    """Return a safetensors file in pieces, with the metadata ``facts`` and its hash; contiguous arrays are not copied.

    The safetensors library can only write to a path, which is not atomic, or return copies of all arrays in memory.

    Args:
        arrays: by name; of booleans, integers, floating-point numbers or ``BF16``.
        facts: what JSON can hold, without ``sha256`` and ``format``.
    """
    rest = json.dumps({"format": FORMAT, **facts}, separators=(",", ":"))
    about: dict[str, Any] = {"__metadata__": {KEY: f'{START}{BLANK}", {rest[1:]}'}}  # one, to be in this order
    parts, end = list[bytes | memoryview](), 0
    # The widest first, so that each is aligned.
    for name, array in sorted(arrays.items(), key=lambda named: (-named[1].itemsize, named[0])):
        dtype = _NAMES[array.dtype.kind].format(8 * array.itemsize)
        about[name] = {"dtype": dtype, "shape": [*array.shape], "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        parts.append(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    text = json.dumps(about, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head, digest = len(text).to_bytes(8, "little") + text, hashlib.sha256()
    for part in (head, *parts):
        digest.update(part)
    at = head.index(IN_FILE + BLANK.encode()) + len(IN_FILE)
    return [head[:at], digest.hexdigest().encode(), head[at + len(BLANK) :], *parts]
