"""What became of a command that read a damaged file: well or not, by the contract in ARCHITECTURE.md."""

import hashlib
import json
import math
import re
import signal
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.config import load_config
from gatewise.errors import GatewiseError
from tests.robustness.targets import Target
from tests.robustness.warm import Ended

WELL = ("refused", "same", "other data", "other report")
"""A one-line error; the result of the undamaged file; another result, and right so."""
LONGEST = 1000
"""Characters of an error's line."""
_FIGURES = ("perplexity", "nll", "accuracy", "rmse", "mae")
_TIMES = ("seconds", "tokens_per_second")
_MAY_CHANGE_A_RESUMED_RUN = {"training.epochs", "training.max_steps"}
_DESCRIBES_THE_WEIGHTS = re.compile(r"task\.|model\.|data\.(level|lowercase)$")


@dataclass(frozen=True)
class Verdict:
    """A class, one of ``WELL`` or the name of a fault, and what shows it."""

    kind: str
    shown: str

    @property
    def well(self) -> bool:
        return self.kind in WELL


def result_of(command: str, folder: Path, ended: Ended) -> Any:
    """Return what a command found, without its times, to be compared."""
    run = folder / ("new" if (folder / "new").exists() else "run")
    out = ended.out.replace(str(folder), "CASE")
    if command.startswith(("train", "recipe", "resume", "finished")):
        file = run / "model.safetensors"
        content = file.read_bytes() if file.is_file() else b""
        header = int.from_bytes(content[:8], "little")
        weights = hashlib.sha256(content[8 + header :]).hexdigest()[:12]
        return {"out": out, "weights": weights, "metrics": metrics_of(run)}
    if command == "curves":
        return (folder / "curves.csv").read_text()
    if command == "rows":
        return out, _without_date((folder / "rows.svg").read_text())
    return out


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics, without its times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8-sig").splitlines()]
    return [{key: value for key, value in line.items() if key not in _TIMES} for line in lines]


def _without_date(svg: str) -> str:
    return re.sub(r"<dc:date>.*?</dc:date>|clip-path=\S+|id=\S+|href=\S+", "", svg)


def judge(target: Target, damage: str, before: Any, folder: Path, base: Path, ended: Ended) -> Verdict:
    """Say what became of a case.

    Args:
        target: what was damaged.
        damage: how.
        before: the result of the undamaged file.
        folder: that of the case.
        base: the undamaged copy of what is in it.
        ended: how the command ended.
    """
    shown = _last(ended.err) or _last(ended.out)
    if ended.hung:
        return Verdict("hang", f"killed after {ended.seconds:.0f} s")
    if ended.status < 0:
        return Verdict("crash", f"{signal.Signals(-ended.status).name}; {shown}")
    if (
        "Traceback" in ended.err
        or "unforeseen:" in ended.err
        or (ended.status == 1 and "nothing that was saved before is lost" in ended.err)
    ):
        return Verdict("unforeseen", shown)
    if warning := re.search(r"^.*Warning:.*$", ended.err, re.M):
        return Verdict("warning", warning[0])
    if odd := next((c for c in ended.err if c not in "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")), ""):
        return Verdict("unclean", f"{odd!r} in: {shown!r}")
    fault = _wrong_refusal(target, damage, ended) if ended.status else _not_finite(target, ended)
    fault = fault or _harm(target, folder, base, ended)
    if fault or ended.status:
        return fault or Verdict("refused", shown)
    after = result_of(target.command, folder, ended)
    return Verdict("same", "") if after == before else _changed(target, damage, folder, base, before, after)


def _wrong_refusal(target: Target, damage: str, ended: Ended) -> Verdict | None:
    lines = ended.err.split("\n")[:-1]
    trains = target.command.startswith(("train", "recipe", "resume", "finished"))
    expected = {
        "run": {4},
        "resume": {2, 3, 4},
        "data": {3},
        "input": {3},
        "recipe": {2, 3},
        "resigned": {2, 3, 4},
    }.get(target.kind, set[int]())
    if target.file.endswith("config.toml") or damage == "another":
        expected |= {2, 3, 4}
    if target.kind == "cache" and damage in ("folder", "loop", "fifo", "device", "sparse"):
        expected |= {2, 3}
    if (trains or target.kind == "resigned") and re.search("finite|: the model is of no use", lines[-1]):
        expected |= {1}
    if target.kind == "recipe" and "not enough memory" in lines[-1]:
        expected |= {1}
    shown = _last(ended.err)
    if ended.status not in expected:
        return Verdict("status", f"status {ended.status}, expected {sorted(expected)}: {shown}")
    ours = [line for line in lines if line.startswith("gatewise: ")]
    if not lines or ours != lines[-1:] or (len(lines) > 1 and not trains):
        return Verdict("lines", f"{len(lines)} lines: {ended.err[:500]!r}")
    if len(lines[-1]) > LONGEST:
        return Verdict("long", f"{len(lines[-1])} characters: {lines[-1][:300]}…")
    if ended.out and target.command != "tag":
        return Verdict("output", f"status {ended.status} after output: {ended.out[:200]!r}")
    return None


def _not_finite(target: Target, ended: Ended) -> Verdict | None:
    figures, _, _ = ended.out.partition("a sample of text:")  # which may say anything
    odd = re.search(r"(?i)(?<![\w<\"'])-?(nan|inf(inity)?)(?![\w>\"'])", figures)
    if odd and target.command.startswith(("evaluate", "cached", "forecast", "train", "recipe", "resume", "classify")):
        return Verdict("not finite", ended.out[:300])
    if target.command.startswith(("evaluate", "cached")):
        figures = json.loads(ended.out)
        for name in _FIGURES:
            if name in figures and not (isinstance(figures[name], int | float) and math.isfinite(figures[name])):
                return Verdict("not finite", ended.out[:300])
    return None


def _harm(target: Target, folder: Path, base: Path, ended: Ended) -> Verdict | None:
    """Say what was changed that should not be: by reading anything, by refused training what was there."""
    trains = target.command in ("resume", "finished")
    if ended.status and (folder / "new").exists() and any((folder / "new").iterdir()):
        return Verdict("left", f"files in the refused run folder: {sorted(p.name for p in (folder / 'new').iterdir())}")
    if trains and (not ended.status or ended.err.count("\n") > 1):
        return None  # it went on training before it was refused
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base)
        if path.is_file() and str(name) != target.file and not {"figures", ".holder"} & set(name.parts):
            found = folder / name
            if not found.is_file() or found.read_bytes() != path.read_bytes():
                return Verdict("harm", f"{name} was changed; {_last(ended.err)}")
    return None


def _changed(target: Target, damage: str, folder: Path, base: Path, before: Any, after: Any) -> Verdict:
    if isinstance(before, dict):
        part = next(key for key in before if before[key] != after[key])
        shown = f"{part}: {_shown(before[part])} became {_shown(after[part])}"
    else:
        shown = f"{_shown(before)} became {_shown(after)}"
    if target.kind == "data" and target.command.startswith("evaluate"):
        same = json.loads(before)["data_hash"] == json.loads(after)["data_hash"]
        return Verdict("changed" if same else "other data", shown)
    if target.kind in ("data", "input", "recipe", "resigned"):
        return Verdict("other data", shown)
    if target.file == "run/metrics.jsonl" and target.command in ("curves", "finished"):
        return Verdict("other report", shown)
    if target.file == "run/config.toml":
        keys = _changed_keys(folder / target.file, base / target.file)
        wrong = (
            keys - _MAY_CHANGE_A_RESUMED_RUN
            if target.command in ("resume", "finished")
            else {key for key in keys if _DESCRIBES_THE_WEIGHTS.match(key)}
        )
        return Verdict("changed" if wrong or not keys else "other data", f"{', '.join(sorted(keys))}: {shown}")
    return Verdict("changed", shown)


def _changed_keys(now: Path, before: Path) -> set[str]:
    try:
        sections = [load_config(path).model_dump() for path in (now, before)]
    except GatewiseError:
        return set()
    return {
        f"{name}.{key}" for name, keys in sections[0].items() for key in keys if keys[key] != sections[1][name][key]
    }


def _shown(result: Any) -> str:
    text = result if isinstance(result, str) else repr(result)
    return text.strip()[:160]


def _last(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2][:400]
