"""Puts measured numbers into pages: in ``95.47%<!-- FILE KEY FORMAT -->`` the remark names the number's source.

A reader in the repository sees the number alone; the build replaces it by the value in FILE, formatted as Python does.
FILE is looked up under ``benchmarks/results``; a name that begins with ``runs/`` lies where the guide's own commands
ran, one that begins with ``figures/`` beside the committed pictures. KEY is dotted; for JSON lines it begins with the
number of the line, -1 for the last. A missing file or key stops the build.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from mkdocs.exceptions import PluginError

PLACE = re.compile(r"([\d.,]+%?)(<!-- (\S+) (\S+) (\S+) -->)")


class Folders(NamedTuple):
    """Where numbers are looked for."""

    results: Path
    work: Path
    docs: Path

    def find(self, name: str) -> Path:
        """Return the path of a FILE."""
        if name.startswith("runs/"):
            return self.work / name
        return self.docs / name if name.startswith("figures/") else self.results / name


def fill(page: str, folders: Folders, *, keep: bool = False) -> str:
    """Return the page with its numbers up to date, and with the remarks that name their sources if they are to be kept.

    Raises:
        PluginError: a file or a key of it is not there, or the format does not fit.
    """
    return PLACE.sub(lambda found: value(folders, *found.groups()[2:]) + (found[2] if keep else ""), page)


def value(folders: Folders, name: str, key: str, form: str) -> str:
    """Look up one number and format it."""
    file, place = folders.find(name), f"<!-- {name} {key} {form} -->"
    if not file.is_file():
        raise PluginError(f"{place}: no file {file}; run the command that makes it")
    text = file.read_text(encoding="utf-8")
    found: Any = [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)
    for part in key.split("."):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError) as wrong:
            have = list(found) if isinstance(found, dict) else f"{len(found)} entries"
            raise PluginError(f"{place}: {file} has no {part!r}; it has {have}") from wrong
    try:
        return format(found, form)
    except (ValueError, TypeError) as wrong:
        raise PluginError(f"{place}: {found!r} cannot be written as {form}") from wrong
