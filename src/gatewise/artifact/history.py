"""``metrics.jsonl``: what each evaluation measured, and a last line once the run has come to its end."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.errors import RunError
from gatewise.files import LARGEST_PART, check_regular
from gatewise.reading import parse_json, read_text

Metrics = dict[str, Any]

_EXPECTED = "what training wrote there: restore the file"

_EVALUATION = {
    "language-model": "valid_perplexity",
    "scratch-language-model": "train_loss",
    "tagger": "valid_accuracy",
    "classifier": "valid_accuracy",
    "text-classifier": "valid_accuracy",
    "regressor": "valid_rmse",
    "memory-task": "valid_rmse",
}
"""What each evaluation of a task measures."""
_LABELS = ("test_accuracy", "test_tokens", "test_oov_rate", "test_data_hash", "majority_test_accuracy")
_NUMBERS = ("test_rmse", "test_mae", "test_tokens", "test_data_hash")
_FINAL = {
    "language-model": (
        "test_perplexity",
        "test_tokens",
        "test_oov_rate",
        "test_data_hash",
        "unigram_test_perplexity",
    ),
    "scratch-language-model": (
        "train_loss",
        "unigram_train_loss",
        "train_sentences",
        "train_tokens",
        "train_oov_rate",
        "train_data_hash",
    ),
    "tagger": (
        "test_accuracy",
        "test_accuracy_unseen",
        "test_tokens",
        "test_oov_rate",
        "test_data_hash",
        "commonest_tag_test_accuracy",
    ),
    "classifier": _LABELS,
    "text-classifier": _LABELS,
    "regressor": _NUMBERS,
    "memory-task": _NUMBERS,
}
"""What the last line of a task's run holds beside the best epoch."""
_MAY_BE_NULL = ("test_accuracy_unseen",)


@dataclass(frozen=True)
class History:
    """A run's metrics.

    Attributes:
        evaluations: a line for each, in their order.
        final: the last line of a finished run; None before.
    """

    evaluations: Sequence[Metrics]
    final: Metrics | None

    @classmethod
    def read(cls, path: Path, task: str | None = None) -> "History":
        """Read the file; a run that has not finished an epoch has none.

        Args:
            path: the file.
            task: whose figures must stand in it; any where not given.

        Raises:
            RunError: a line is not what training writes, or not in its place (with line).
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
                    raise ValueError("a line after the last, which has the best epoch")
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
        """Every line, the last one included."""
        return [*self.evaluations, *([self.final] if self.final else [])]


def check_line(line: object) -> None:
    """Check that a line is an object of names with numbers and words alone.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(line, dict):
        raise ValueError("no JSON object")
    for key, value in line.items():
        if isinstance(value, bool) or not isinstance(value, int | float | str | None):
            raise ValueError(f"{key!r:.100} is neither a number nor a word")


def check_evaluation(line: Metrics, before: Sequence[Metrics], task: str | None = None) -> None:
    """Check an evaluation's line against those before it.

    Raises:
        ValueError: it has no epoch, comes too early, or holds no figure of the task.
    """
    last = before[-1] if before else {"epoch": 0}
    epoch, step = line.get("epoch"), line.get("step")
    if type(epoch) is not int or epoch < 1 or not (step is None or (type(step) is int and step > 0)):
        raise ValueError("no valid epoch, or no valid step")
    # Whether steps are counted may change where a run is gone on with.
    later = epoch >= last["epoch"] if "step" in last else epoch > last["epoch"]
    if not later or (step and step <= last.get("step", 0)):
        raise ValueError(f"epoch {epoch}{f', step {step}' if step else ''} is not after the line before")
    if task is None:
        return
    key = _EVALUATION[task]
    if isinstance(line.get(key, ""), str):  # null stands for a figure that was not finite
        raise ValueError(f"no {key} inside, which a {task}'s run has")


def to_json(figures: Mapping[str, Any]) -> str:
    """Write one flat JSON object; a figure that is not finite is null, since JSON has no such number."""
    known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
    return json.dumps(known, allow_nan=False)


def _check_final(line: Metrics, evaluations: Sequence[Metrics], task: str | None) -> None:
    best = [one for one in evaluations if one["epoch"] == line["best_epoch"]]
    if "best_step" in line:
        best = [one for one in best if one.get("step") == line["best_step"]]
    if not best:
        raise ValueError("its best epoch or step is none of the lines before")
    others = [key for key in line if key.endswith(("_test_accuracy", "_test_rmse"))]  # what is to be beaten
    for key in dict.fromkeys([*_FINAL[task], *others] if task else others):
        value = line.get(key, "")
        if value is None and key in _MAY_BE_NULL:
            continue
        if key.endswith("_hash"):
            if not isinstance(line.get(key), str):
                raise ValueError(f"no valid {key} inside, which a {task}'s run has")
        elif value is None or isinstance(value, str):
            raise ValueError(f"no finite {key} inside, which a {task}'s run has at its end")
        elif key.endswith(("_tokens", "_sentences")) and (type(value) is not int or value < 0):
            raise ValueError(f"{key} is {value!r:.50}, no count")
