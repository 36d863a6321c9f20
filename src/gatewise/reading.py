"""Strict reading of small files: regular, of limited size, in UTF-8, and JSON without duplicate keys."""

import json
import math
from pathlib import Path
from typing import Any

from gatewise.errors import GatewiseError
from gatewise.files import check_regular, read_bounded

_DIGITS = 20
"""Longer integers never occur in our files, and parsing takes time quadratic in the number of digits."""


def read_text(path: Path, limit: int, expected: str, error: type[GatewiseError]) -> str:
    """Return a file's text without its byte order mark, if any.

    Args:
        path: the file.
        limit: maximum size in bytes.
        expected: what it should be, and what to do if it is not.
        error: the exception class to raise.

    Raises:
        GatewiseError: of class ``error``, if the file is missing, not a regular file, larger than the limit,
            unreadable, or not valid UTF-8 (with line).
    """
    check_regular(path, expected, error)
    raw = read_bounded(path, limit, expected, error)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise error(f"{path}:{line}: invalid UTF-8; expected {expected}") from None


def read_json(path: Path, limit: int, expected: str, error: type[GatewiseError]) -> Any:
    """Return a file's content, parsed by ``parse_json``; the arguments are those of ``read_text``.

    Raises:
        GatewiseError: of class ``error``, as from ``read_text``, or if the file is not valid JSON.
    """
    text = read_text(path, limit, expected, error)
    try:
        return parse_json(text)
    except ValueError as problem:
        raise error(f"{path}: {problem}; expected {expected}") from None


def parse_json(text: str | bytes, infinite: bool = False) -> Any:
    """Parse JSON strictly.

    Args:
        text: the JSON.
        infinite: whether to accept ``Infinity`` and ``NaN``, which are not standard JSON.

    Raises:
        ValueError: with a one-line message: the JSON is invalid or nested too deeply, has a duplicate key, a number
            that is not finite or has more than 20 digits, or a string with a lone surrogate.
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
        raise ValueError("JSON nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("JSON string with a lone surrogate") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"invalid JSON ({problem})") from None
    except UnicodeDecodeError:
        raise ValueError("invalid UTF-8") from None
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r:.100}")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"the number {number:.30} is not finite")
    return value
