"""Sealed safetensors files, which contain their own SHA-256, so that any change of a bit is detected.

Our metadata ("facts") is one JSON string in the file's metadata, under ``gatewise``. It starts with ``sha256``, the
hash of the whole file with zeros in place of these 64 digits, and ``format``, the version of the content. A file
without this string, written by another program, is read without verification.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from gatewise.errors import RunError
from gatewise.reading import parse_json

FORMAT = 1
"""The format version that is written, and the newest that can be read."""
KEY = "gatewise"

_BLANK = "0" * 64
_START = '{"sha256": "'
_IN_FILE = json.dumps(_START)[1:-1].encode()
_HASH = re.compile(re.escape(_START) + r'([0-9a-f]{64})", ')


class DamagedError(Exception):
    """A file is damaged; the message says what is wrong, without the file name."""


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file.

    Attributes:
        shapes: shape of each tensor by name.
        dtypes: dtype of each tensor by name, as safetensors calls it, such as ``F32``.
        facts: Gatewise's metadata; empty for a file of another program.
        sealed: whether the file contains its hash.
        metadata: all metadata strings of the file.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    facts: Mapping[str, Any]
    sealed: bool
    metadata: Mapping[str, str]


def metadata_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file to seal: a single string, since the library does not keep the order of several."""
    return {KEY: json.dumps({"sha256": _BLANK, "format": FORMAT, **facts})}


def seal(raw: bytes) -> bytes:
    """Return a file serialized with ``metadata_of``, with the zeros replaced by its hash."""
    before = _IN_FILE + _BLANK.encode()
    assert before in raw[: _header_end(raw)]
    return raw.replace(before, _IN_FILE + hashlib.sha256(raw).hexdigest().encode(), 1)


def read_header(path: Path) -> Header:
    """Read the header of a file; no tensor data is read, and the hash is not checked.

    Raises:
        DamagedError: the file cannot be read, or its Gatewise metadata is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
            dtypes = {name: str(one.get_dtype()) for name, one in slices.items()}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, MemoryError) as problem:
        raise DamagedError(" ".join(str(problem).split())) from None
    return Header(shapes, dtypes, *_facts(metadata), metadata)


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
        DamagedError: the file cannot be read, or the hash does not match.
    """
    try:
        raw = path.read_bytes()
    except (OSError, MemoryError) as problem:
        raise DamagedError(str(problem) or "too large for memory") from None
    if header.sealed:
        at = raw[: _header_end(raw)].find(_IN_FILE) + len(_IN_FILE)
        view, digest = memoryview(raw), hashlib.sha256()
        for piece in (view[:at], _BLANK.encode(), view[at + len(_BLANK) :]):
            digest.update(piece)
        if digest.hexdigest().encode() != raw[at : at + len(_BLANK)]:
            raise DamagedError("its SHA-256 does not match the one stored in it")
    return raw


def _facts(metadata: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """Return Gatewise's metadata without the hash, and whether the file is sealed."""
    text = metadata.get(KEY)
    if text is None:  # from another program, unless the key itself was damaged
        if any(other.startswith(_START) for other in metadata.values()):
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


def _header_end(raw: bytes) -> int:
    return 8 + int.from_bytes(raw[:8], "little")
