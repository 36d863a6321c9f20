"""Reading TOML: the settings of a run, with the file and line of whatever is wrong."""

import re
import sys
from pathlib import Path
from typing import Any

from gatewise.errors import GatewiseError, RunError
from gatewise.files import LARGEST_SETTINGS, MOST_DOTS
from gatewise.reading import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # the same library, before it became part of Python

Tables = dict[str, dict[str, Any]]


def parse_tables(text: str, source: str, error: type[GatewiseError]) -> Tables:
    """Parse the TOML of a recipe or a run, all of whose keys are inside sections.

    Args:
        text: the TOML.
        source: its name for messages.
        error: the exception class to raise.

    Raises:
        GatewiseError: of class ``error``, if the text is invalid (with line).
    """
    try:
        tables = parse_toml(text)
    except RecursionError:
        raise error(f"{source}: invalid TOML (nested too deeply); expected [data], [model], [training], …") from None
    except ValueError as problem:  # invalid TOML, or a number of more digits than Python parses
        line = re.search(r"at line (\d+)", str(problem))
        where = f"{source}:{line[1]}" if line else source
        reason = re.sub(r"\s*\(at .*\)", "", str(problem))
        if "int_max_str_digits" in reason:  # Python's own message is meant for programmers
            reason = "a number with too many digits"
        raise error(f"{where}: invalid TOML ({reason}); fix this line") from None
    for name, value in tables.items():
        if not isinstance(value, dict):
            where = place(text, source, name)
            raise error(f"{where}: {name} is not inside a section; expected [data], [model], [training], …")
    return tables


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: the text is not valid TOML.
        RecursionError: it is nested too deeply.
    """
    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise RecursionError
    tables: dict[str, Any] = tomllib.loads(text)
    return tables


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a run's ``config.toml`` by dotted key, such as ``model.cell``.

    Raises:
        RunError: the file is missing or invalid (with line).
    """
    tables = parse_tables(read_text(path, LARGEST_SETTINGS, "a TOML file", RunError), str(path), RunError)
    return {f"{section}.{key}": value for section, keys in tables.items() for key, value in keys.items()}


def place_of_key(path: Path, key: str) -> str:
    """Return ``FILE:LINE`` of the line of a run's ``config.toml`` that sets a dotted key, or ``FILE`` if none does."""
    return place(read_text(path, LARGEST_SETTINGS, "a TOML file", RunError), str(path), key)


def place(text: str, source: str, key: str) -> str:
    """Return ``FILE:LINE`` of the line that sets a dotted key (or opens its section), or ``FILE`` if none does."""
    if not source.endswith(".toml"):
        return source
    section, _, name = key.partition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\]]+)\]", line):
            current = header[1].strip()
            if not name and current == section:
                return f"{source}:{number}"
        elif (a := re.match(r"\s*([\w.-]+)\s*=", line)) and key == (f"{current}.{a[1]}" if current else a[1]):
            return f"{source}:{number}"
    return source
