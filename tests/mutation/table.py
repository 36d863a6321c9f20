"""What a mutation run found, as a table for people and as JSON."""

import datetime
import json
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutation.mutants import Mutant

Equivalent = dict[tuple[str, str, str], str]
"""``(file, original, mutated)`` of mutants that compute the same, and the reason."""


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


def kept(folder: Path, current: dict[str, list[Mutant]]) -> list[tuple[str, Verdict]]:
    """Return the dates and verdicts of an earlier run, of the files of which it knows every mutant there is now."""
    file = folder / "mutations.json"
    if not file.is_file():
        return []
    whole = json.loads(file.read_text(encoding="utf-8"))
    found = []
    for name, made in current.items():
        known = {row[1:5]: row for row in (Verdict(**row) for row in whole["mutants"]) if row.file == name}
        if all(mutant[:4] in known for mutant in made):
            found += [(whole["counts"][name]["date"], known[mutant[:4]]) for mutant in made]
    return found


def write_table(
    verdicts: list[Verdict], equivalent: Equivalent, earlier: list[tuple[str, Verdict]], order: list[str], folder: Path
) -> None:
    """Write ``mutations.md`` and ``mutations.json``: what a run found, and beside it what an earlier one did."""
    today = datetime.date.today().isoformat()
    dates = {verdict.file: date for date, verdict in earlier} | {verdict.file: today for verdict in verdicts}
    new = {verdict.file for verdict in verdicts}
    verdicts = verdicts + [verdict for _, verdict in earlier if verdict.file not in new]
    verdicts.sort(key=lambda verdict: order.index(verdict.file))
    about = {
        "command": "python -m tests.mutation.run --out benchmarks/results",
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}",
    }
    excluded = [
        {"file": f, "original": o, "mutated": m, "reason": why} for (f, o, m), why in equivalent.items() if f in dates
    ]
    counts: dict[str, dict[str, Any]] = {}
    for file in dict.fromkeys(verdict.file for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.file == file]
        survived = sum(verdict.killed_by is None for verdict in own)
        wrong = sum(verdict.message.startswith(("AssertionError", "assert")) for verdict in own)
        counts[file] = {
            "mutants": len(own),
            "killed": len(own) - survived,
            "by_a_comparison": wrong,
            "survived": survived,
            "equivalent": sum(entry["file"] == file for entry in excluded),
            "date": dates[file],
        }
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**about, "counts": counts, "equivalent": excluded, "mutants": [v._asdict() for v in verdicts]}
    (folder / "mutations.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["# Every backward term deleted, negated or changed, and the test that saw it", ""]
    lines += [f"`{about['command']}` on {about['machine']}.", ""]
    lines += [
        "A mutant is killed where a test fails: by a comparison, or because the code no longer runs (wrong shapes, an",
        "operation that its operands do not have). Equivalent ones are listed in `tests/mutation/run.py` with reasons.",
        "",
        "| file | mutants | killed | of these by a comparison | survived | equivalent, excluded | run |",
        "|---|---|---|---|---|---|---|",
    ]
    total = Counter[str]()
    for file, row in counts.items():
        total.update({key: n for key, n in row.items() if key != "date"})
        lines.append(f"| {file} | " + " | ".join(map(str, row.values())) + " |")
    lines += [f"| all | {' | '.join(map(str, total.values()))} | |", ""]
    for file in counts:
        lines += [f"## {file}", "", "| function | line | original | mutated | killed by |", "|---|---|---|---|---|"]
        for v in verdicts:
            if v.file == file:
                by = "**survived**" if v.killed_by is None else f"`{v.killed_by.split('/')[-1]}`"
                lines.append(f"| {v.function} | {v.line} | {code(v.original)} | {code(v.mutated)} | {by} |")
        lines.append("")
    (folder / "mutations.md").write_text("\n".join(lines), encoding="utf-8")


def code(text: str) -> str:
    """Python in a cell of a Markdown table."""
    return "`" + text.replace("|", "\\|") + "`"


def processor() -> str:
    """The processor's name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
