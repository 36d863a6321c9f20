"""What a mutation run found, as a table for people and as JSON."""

import datetime
import json
import os
import platform
from collections import Counter
from pathlib import Path
from typing import NamedTuple

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


def write_table(verdicts: list[Verdict], equivalent: Equivalent, seconds: float, folder: Path) -> None:
    """Write ``mutations.md`` and ``mutations.json``."""
    about = {
        "command": "python -m tests.mutation.run --out benchmarks/results",
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}",
        "seconds": round(seconds),
    }
    excluded = [{"file": f, "original": o, "mutated": m, "reason": why} for (f, o, m), why in equivalent.items()]
    counts = {}
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
        }
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**about, "counts": counts, "equivalent": excluded, "mutants": [v._asdict() for v in verdicts]}
    (folder / "mutations.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["# Every backward term deleted, negated or changed, and the test that saw it", ""]
    lines += [f"`{about['command']}`, {about['date']}, {about['seconds']} s on {about['machine']}.", ""]
    lines += [
        "A mutant is killed where a test fails: by a comparison, or because the code no longer runs (wrong shapes, an",
        "operation that its operands do not have). Equivalent ones are listed in `tests/mutation/run.py` with reasons.",
        "",
        "| file | mutants | killed | of these by a comparison | survived | equivalent, excluded |",
        "|---|---|---|---|---|---|",
    ]
    total = Counter[str]()
    for file, row in counts.items():
        total.update(row)
        lines.append(f"| {file} | " + " | ".join(map(str, row.values())) + " |")
    lines += [f"| all | {' | '.join(str(total[key]) for key in next(iter(counts.values())))} |", ""]
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
