"""What a mutation run found, as a table for people and as JSON."""

import datetime
import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutation.mutants import Mutant

Equivalent = dict[tuple[str, str, str], str]
"""``(file, original, mutated)`` of mutants that compute the same, and the reason."""

Row = dict[str, Any]
"""What is known of a file: counts, the date, a hash of its mutants, and those that survived."""

COUNTS = ("mutants", "killed", "by_a_comparison", "survived", "equivalent")


class Verdict(NamedTuple):
    """What became of a mutant."""

    file: str
    function: str
    line: int
    original: str
    mutated: str
    killed_by: str | None
    """The test that failed first, ``timeout``, or None: it survived."""
    message: str

    @property
    def text(self) -> str:
        """The verdict in one line."""
        where = f"{self.file}:{self.line} {self.function}: {self.original}  ->  {self.mutated}"
        return f"SURVIVED {where}" if self.killed_by is None else f"killed by {self.killed_by}: {where}"


def digest(made: Sequence[Mutant]) -> str:
    """Return a hash of a file's mutants, wherever in the file they are."""
    text = "\n".join(f"{mutant.function}: {mutant.original} -> {mutant.mutated}" for mutant in made)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kept(folder: Path, current: dict[str, list[Mutant]]) -> dict[str, Row]:
    """Return an earlier run's rows of the files whose mutants are still the same."""
    path = folder / "mutations.json"
    if not path.is_file():
        return {}
    files: dict[str, Row] = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {name: files[name] for name, made in current.items() if files.get(name, {}).get("hash") == digest(made)}


def rows_of(verdicts: Sequence[Verdict], equivalent: Equivalent, current: dict[str, list[Mutant]]) -> dict[str, Row]:
    """Return the row of each file that was run."""
    found = dict[str, Row]()
    for file in dict.fromkeys(verdict.file for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.file == file]
        survivors = [verdict for verdict in own if verdict.killed_by is None]
        found[file] = {
            "mutants": len(own),
            "killed": len(own) - len(survivors),
            "by_a_comparison": sum(verdict.message.startswith(("AssertionError", "assert")) for verdict in own),
            "survived": len(survivors),
            "equivalent": sum(key[0] == file for key in equivalent),
            "date": datetime.date.today().isoformat(),
            "hash": digest(current[file]),
            "survivors": [verdict.text for verdict in survivors],
        }
    return found


def write_table(rows: dict[str, Row], order: Sequence[str], folder: Path) -> None:
    """Write ``mutations.md`` and ``mutations.json``."""
    command = "python -m tests.mutation.run --out benchmarks/results"
    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}"
    files = {file: rows[file] for file in order if file in rows}
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"command": command, "machine": machine, "files": files}
    (folder / "mutations.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = [
        "# Every backward term deleted, negated or changed",
        "",
        f"`{command}` on {machine}. `--verbose` prints each mutant with the test that killed it.",
        "",
        "A mutant is killed where a test fails: by a comparison, or because the code no longer runs (wrong shapes, an",
        "operation that its operands do not have). Equivalent ones are listed in `tests/mutation/run.py` with reasons.",
        "",
        "| file | mutants | killed | of these by a comparison | survived | equivalent, excluded | run |",
        "|---|---|---|---|---|---|---|",
    ]
    total = Counter[str]()
    for file, row in files.items():
        total.update({key: row[key] for key in COUNTS})
        lines.append(f"| {file} | {' | '.join(str(row[key]) for key in COUNTS)} | {row['date']} |")
    lines += [f"| all | {' | '.join(str(total[key]) for key in COUNTS)} | |", ""]
    lines += [f"- `{text}`" for row in files.values() for text in row["survivors"]]
    (folder / "mutations.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
