"""Two runs that ended with equal bits, but for what tells the time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TIMES = ("seconds", "tokens_per_second", "trained_tokens")


def differences(ours: Path, theirs: Path) -> Iterator[str]:
    """Say how a run that was killed and resumed differs from one that was never disturbed."""
    names = [{str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} for run in (ours, theirs)]
    checkpoints = [sorted(name for name in some if name.startswith("checkpoints/step-")) for some in names]
    left = names[0] - names[1] - set(checkpoints[0])
    if left or names[1] - names[0] - set(checkpoints[1]):
        yield f"files left over: {sorted(left)}, missing: {sorted(names[1] - names[0])}"
    for name in sorted(names[0] & names[1]):
        if "checkpoints" not in name and not _equal(ours / name, theirs / name):
            yield f"another {name}"
    if checkpoints[0][-1:] != checkpoints[1][-1:]:
        yield f"the last checkpoint is {checkpoints[0][-1:]}, undisturbed {checkpoints[1][-1:]}"
    elif checkpoints[0]:
        yield from _checkpoint_differences(ours / checkpoints[0][-1], theirs / checkpoints[0][-1])


def _equal(a: Path, b: Path) -> bool:
    if a.name == "metrics.jsonl":
        lines = [[_timeless(json.loads(line)) for line in path.read_text().splitlines()] for path in (a, b)]
        return lines[0] == lines[1]
    contents = [path.read_bytes().replace(str(path.parent.parent).encode(), b"CASE") for path in (a, b)]
    return contents[0] == contents[1] or ".lock" in a.name


def _checkpoint_differences(a: Path, b: Path) -> Iterator[str]:
    from safetensors import safe_open

    with safe_open(a, "np") as ours, safe_open(b, "np") as theirs:
        names = sorted({*ours.keys(), *theirs.keys()})
        for name in names:
            if name not in ours.keys() or name not in theirs.keys():
                yield f"{name} stands in one checkpoint alone"
            elif ours.get_tensor(name).tobytes() != theirs.get_tensor(name).tobytes():
                yield f"another {name} in the last checkpoint"
        progress = [_timeless(json.loads(file.metadata()["gatewise"])["progress"]) for file in (ours, theirs)]
        if progress[0] != progress[1]:
            yield "another progress in the last checkpoint"


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(below) for key, below in value.items() if key not in _TIMES}
    return [_timeless(below) for below in value] if isinstance(value, list) else value
