"""``metrics.jsonl``: one line of metrics per evaluation, and a final line once the run has finished."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.config.tasks import BASELINES, MAY_BE_NULL, TASKS, TaskName
from gatewise.errors import RunError
from gatewise.files import LARGEST_PART, check_regular
from gatewise.reading import parse_json, read_text

Metrics = dict[str, Any]


def evaluations_since(history: Sequence[Metrics], best_epoch: int, best_step: int) -> int:
    """Return the number of evaluations after the best one; lines without ``step`` are told apart by their epoch."""
    return sum(
        (line["epoch"], line.get("step", 0)) > (best_epoch, best_step if "step" in line else 0) for line in history
    )


_EXPECTED = "the metrics as written by training: restore the file"


@dataclass(frozen=True)
class History:
    """A run's metrics.

    Attributes:
        evaluations: one line per evaluation, in order.
        final: the final line of a finished run, else None.
    """

    evaluations: Sequence[Metrics]
    final: Metrics | None

    @classmethod
    def read(cls, path: Path, task: TaskName | None = None) -> "History":
        """Read the file; the history is empty if no epoch has finished and there is no file yet.

        Args:
            path: the file.
            task: the task whose metrics the file must contain; None accepts any.

        Raises:
            RunError: a line is invalid or out of order (with line).
        """
        if not path.exists() and not path.is_symlink():
            return cls((), None)
        check_regular(path, _EXPECTED, RunError)
        lines, text = list[Metrics](), read_text(path, LARGEST_PART, _EXPECTED, RunError)
        for number, raw in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
            try:
                line = parse_json(raw)
                check_line(line)
                if lines and "best_epoch" in lines[-1]:
                    raise ValueError("a line after the final line with the best epoch")
                if "best_epoch" in line:
                    _check_final(line, lines, task)
                else:
                    check_evaluation(line, lines, task)
            except ValueError as problem:
                raise RunError(f"{path}:{number}: {problem}; expected {_EXPECTED}") from None
            lines.append(line)
        if lines and "best_epoch" in lines[-1]:
            return cls(lines[:-1], lines[-1])
        return cls(lines, None)

    @property
    def lines(self) -> list[Metrics]:
        """All lines, including the final one."""
        return [*self.evaluations, *([self.final] if self.final else [])]


def check_line(line: object) -> None:
    """Check that a line is an object whose values are only numbers, strings or null.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(line, dict):
        raise ValueError("not a JSON object")
    for key, value in line.items():
        if isinstance(value, bool) or not isinstance(value, int | float | str | None):
            raise ValueError(f"{key!r:.100} is neither a number nor a string")


def check_evaluation(line: Metrics, before: Sequence[Metrics], task: TaskName | None = None) -> None:
    """Check the line of an evaluation, given the lines before it.

    Raises:
        ValueError: it has no valid epoch or step, is out of order, or lacks the task's metric.
    """
    last = before[-1] if before else {"epoch": 0}
    epoch, step = line.get("epoch"), line.get("step")
    if type(epoch) is not int or epoch < 1 or not (step is None or (type(step) is int and step > 0)):
        raise ValueError("invalid epoch or step")
    # Whether steps are recorded can change when a run is resumed.
    later = epoch >= last["epoch"] if "step" in last else epoch > last["epoch"]
    if not later or (step and step <= last.get("step", 0)):
        raise ValueError(f"epoch {epoch}{f', step {step}' if step else ''} is not after the line before")
    if task is None:
        return
    key = TASKS[task].evaluated
    if isinstance(line.get(key, ""), str):  # null is a value that was not finite
        raise ValueError(f"missing {key}, which a {task} run has")


def to_json(figures: Mapping[str, Any]) -> str:
    """Serialize a flat JSON object; non-finite values become null, since JSON cannot represent them."""
    known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
    return json.dumps(known, allow_nan=False)


def _check_final(line: Metrics, evaluations: Sequence[Metrics], task: TaskName | None) -> None:
    best = [one for one in evaluations if one["epoch"] == line["best_epoch"]]
    if "best_step" in line:
        best = [one for one in best if one.get("step") == line["best_step"]]
    if not best:
        raise ValueError("its best epoch or step does not match any previous line")
    others = [key for key in line if key.endswith(BASELINES)]  # the baselines
    for key in dict.fromkeys([*TASKS[task].final, *others] if task else others):
        value = line.get(key, "")
        if value is None and key in MAY_BE_NULL:
            continue
        if key.endswith("_hash"):
            if not isinstance(line.get(key), str):
                raise ValueError(f"missing or invalid {key}, which a {task} run has")
        elif value is None or isinstance(value, str):
            raise ValueError(f"no finite {key}, which a finished {task} run has")
        elif key.endswith(("_tokens", "_sentences")) and (type(value) is not int or value < 0):
            raise ValueError(f"{key} is {value!r:.50}, not a count")
