"""Safetensors files that carry a SHA-256 of themselves: what is written here is known again to the last bit.

The facts that go with the tensors are one JSON string in the metadata, under ``gatewise``. It begins with ``sha256``,
the hash of the whole file as it lies with zeros for these 64 digits, and ``format``, the version of what it holds. A
file without such a string, as other programs write it, is read as it is.
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
"""The version that is written, and the newest that is read."""
KEY = "gatewise"

_BLANK = "0" * 64
_START = '{"sha256": "'
_IN_FILE = json.dumps(_START)[1:-1].encode()
_HASH = re.compile(re.escape(_START) + r'([0-9a-f]{64})", ')


class DamagedError(Exception):
    """A file is not as it was written; the message is what is wrong, without the file's name."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says before its numbers.

    Attributes:
        shapes: of each tensor, by name.
        dtypes: of each tensor, as safetensors names them, such as ``F32``.
        facts: what was saved with them; empty in a file of another program.
        sealed: whether the file carries its hash.
        metadata: all strings that the file holds.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    facts: Mapping[str, Any]
    sealed: bool
    metadata: Mapping[str, str]


def metadata_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file that is to be sealed: one string, as the library orders several as it likes."""
    return {KEY: json.dumps({"sha256": _BLANK, "format": FORMAT, **facts})}


def seal(raw: bytes) -> bytes:
    """Return a file that was serialised with ``metadata_of``, with its own hash in place of the zeros."""
    before = _IN_FILE + _BLANK.encode()
    assert before in raw[: _header_end(raw)]
    return raw.replace(before, _IN_FILE + hashlib.sha256(raw).hexdigest().encode(), 1)


def read_header(path: Path) -> Header:
    """Read what a file says before its numbers; nothing large is read, and no hash is checked.

    Raises:
        DamagedError: it cannot be read, or was written by Gatewise and is not as it was.
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
        RunError: a newer one has written it.
    """
    if (version := header.facts.get("format", 0)) > FORMAT:
        raise RunError(
            f"{path}: of format {version}, written by a newer Gatewise; this one reads up to {FORMAT}: upgrade Gatewise"
        )


def read_sealed(path: Path, header: Header) -> bytes:
    """Return a file's bytes, whose hash is right where it carries one.

    Raises:
        DamagedError: it cannot be read, or is not as it was written.
    """
    try:
        raw = path.read_bytes()
    except (OSError, MemoryError) as problem:
        raise DamagedError(str(problem) or "more than there is memory") from None
    if header.sealed:
        at = raw[: _header_end(raw)].find(_IN_FILE) + len(_IN_FILE)
        view, digest = memoryview(raw), hashlib.sha256()
        for piece in (view[:at], _BLANK.encode(), view[at + len(_BLANK) :]):
            digest.update(piece)
        if digest.hexdigest().encode() != raw[at : at + len(_BLANK)]:
            raise DamagedError("its SHA-256 is not the one that was written with it")
    return raw


def _facts(metadata: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """Return the facts of a file's metadata without the hash, and whether there was one."""
    text = metadata.get(KEY)
    if text is None:  # of another program, unless damage has changed the name
        if any(other.startswith(_START) for other in metadata.values()):
            raise DamagedError(f"its metadata has another name than {KEY}")
        return {}, False
    try:
        facts = parse_json(text, infinite=True)
    except ValueError as problem:
        raise DamagedError(f"its metadata: {problem}") from None
    if not isinstance(facts, dict):
        raise DamagedError("its metadata is no JSON object")
    if '"sha256"' not in text and '"format"' not in text:
        return facts, False
    version = facts.get("format")
    if not _HASH.match(text) or type(version) is not int or version < 1:
        raise DamagedError("its metadata has no hash or no format as Gatewise writes them")
    return {name: value for name, value in facts.items() if name != "sha256"}, True


def _header_end(raw: bytes) -> int:
    return 8 + int.from_bytes(raw[:8], "little")
