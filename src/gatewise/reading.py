"""Small files read with care: regular ones, of a limited size, in UTF-8, and JSON that says everything once."""

import json
import math
from pathlib import Path
from typing import Any

from gatewise.errors import GatewiseError
from gatewise.files import check_regular, read_bounded

_DIGITS = 20
"""A whole number of more digits is none of ours, and reading it takes time that grows with their square."""


def read_text(path: Path, limit: int, expected: str, error: type[GatewiseError]) -> str:
    """Return a file's text; a byte order mark before it is left out.

    Args:
        path: the file.
        limit: bytes that it may have at most.
        expected: what it should be, and what to do where it is not.
        error: what to raise.

    Raises:
        GatewiseError: of class ``error``: it is missing, no regular file, larger than the limit, unreadable, or no
            UTF-8 (with line).
    """
    check_regular(path, expected, error)
    raw = read_bounded(path, limit, expected, error)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise error(f"{path}:{line}: bytes that are no UTF-8; expected {expected}") from None


def read_json(path: Path, limit: int, expected: str, error: type[GatewiseError]) -> Any:
    """Return what a file says as ``parse_json`` reads it; the arguments are those of ``read_text``.

    Raises:
        GatewiseError: of class ``error``, as ``read_text``, or it is no JSON.
    """
    text = read_text(path, limit, expected, error)
    try:
        return parse_json(text)
    except ValueError as problem:
        raise error(f"{path}: {problem}; expected {expected}") from None


def parse_json(text: str | bytes, infinite: bool = False) -> Any:
    """Read JSON that says everything once and means what it says.

    Args:
        text: the JSON.
        infinite: whether ``Infinity`` and ``NaN``, which are no JSON, are read all the same.

    Raises:
        ValueError: in one line: it is no JSON or nested too deeply, a key stands twice, a number is not finite or of
            more than 20 digits, or a string holds half a surrogate pair.
    """
    try:
        found = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_whole,
            parse_float=float if infinite else _finite,
            parse_constant=float if infinite else _finite,
        )
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("JSON with half a surrogate pair in a string") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"no valid JSON ({problem})") from None
    except UnicodeDecodeError:
        raise ValueError("bytes that are no UTF-8") from None
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r:.100} stands there twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"the number {number:.30} is not finite")
    return value
