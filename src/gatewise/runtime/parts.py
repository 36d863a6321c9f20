"""Typed readers of the JSON files next to the weights: ``labels.json`` and ``scaling.json``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewise.errors import RunError
from gatewise.files import LARGEST_PART
from gatewise.reading import read_json

_EXPECTED = "the file as written by training: restore it, or train again"


@dataclass(frozen=True)
class Labels:
    """Content of ``labels.json``.

    Attributes:
        labels: the C labels in the order of their ids, either all integers or all strings.
        input_size: I, for a classifier of numeric sequences.
        steps: T of the training data, for a classifier of numeric sequences of one length.
        seen_words: the words that occur in the training data, for a tagger.
    """

    labels: tuple[int | str, ...]
    input_size: int | None = None
    steps: int | None = None
    seen_words: frozenset[str] | None = None

    @classmethod
    def read(cls, path: Path, *needed: str) -> "Labels":
        """Read the file; ``needed`` lists the keys that it must contain in addition to ``labels``.

        Raises:
            RunError: the file is missing or invalid.
        """
        found = _read_object(path, {"labels", *needed}, {"labels", "input_size", "steps", "seen_words"})
        labels, words = found["labels"], found.get("seen_words")
        if not isinstance(labels, list) or {type(label) for label in labels} not in ({int}, {str}):
            raise _wrong(path, "'labels' is not a list of strings only or of integers only")
        if repeated := _repeated(labels):
            raise _wrong(path, f"duplicate label {repeated[0]!r:.100}")
        if len(labels) < 2 or any(isinstance(label, int) and abs(label) >= 2**63 for label in labels):
            raise _wrong(path, "'labels' has fewer than two labels, or one that exceeds 64 bits")
        for name in ("input_size", "steps"):
            if found.get(name) is not None and not _is_size(found[name]):
                raise _wrong(path, f"{name!r} is {found[name]!r:.100}, not a positive integer")
        if "input_size" in needed and found["input_size"] is None:
            raise _wrong(path, "'input_size' is null")
        if words is not None and not (isinstance(words, list) and all(type(word) is str for word in words)):
            raise _wrong(path, "'seen_words' is not a list of strings")
        seen = None if words is None else frozenset(words)
        return cls(tuple(labels), found.get("input_size"), found.get("steps"), seen)


@dataclass(frozen=True)
class Scaling:
    """Standardization between user and model units: ``x' = (x − x_mean) / x_std``, ``y = y_std · z + y_mean``.

    Attributes:
        x_mean: mean of each of the I inputs over the training set; empty means 0.
        x_std: their standard deviations; empty means 1.
        y_mean: mean of the targets.
        y_std: standard deviation of the targets.
        columns: names of the inputs, for a time series.
        target: name of the column to forecast, for a time series.
    """

    x_mean: list[float] = field(default_factory=list)
    x_std: list[float] = field(default_factory=list)
    y_mean: float = 0.0
    y_std: float = 1.0
    columns: list[str] = field(default_factory=list)
    target: str = ""


def read_scaling(path: Path) -> tuple[int, Scaling]:
    """Read ``scaling.json``; return I, the number of inputs per step, and the standardization.

    Raises:
        RunError: the file is missing or invalid.
    """
    needed = {"input_size", "x_mean", "x_std"}
    found = _read_object(path, needed, {*needed, "y_mean", "y_std", "columns", "target"})
    size, columns, target = found["input_size"], found.get("columns", []), found.get("target", "")
    if not _is_size(size):
        raise _wrong(path, f"'input_size' is {size!r:.100}, not a positive integer")
    numbers = dict[str, list[float]]()
    for name, usual in (("x_mean", []), ("x_std", []), ("y_mean", 0.0), ("y_std", 1.0)):
        value = found.get(name, usual)
        each = value if name.startswith("x") else [value]
        if not isinstance(each, list) or not all(_is_number(one) for one in each):
            raise _wrong(path, f"{name!r} contains values that are not finite numbers")
        if name.startswith("x") and len(each) not in (0, size):
            raise _wrong(path, f"{name!r} has {len(each)} numbers, but 'input_size' is {size}")
        if name.endswith("std") and any(one <= 0 for one in each):
            raise _wrong(path, f"{name!r} contains a standard deviation that is not positive")
        numbers[name] = [float(one) for one in each]
    if len(numbers["x_mean"]) != len(numbers["x_std"]):
        raise _wrong(path, "'x_mean' and 'x_std' have different lengths")
    if not isinstance(columns, list) or not all(type(name) is str for name in columns) or _repeated(columns):
        raise _wrong(path, "'columns' is not a list of distinct names")
    if columns and len(columns) != size:
        raise _wrong(path, f"'columns' has {len(columns)} names, but 'input_size' is {size}")
    if type(target) is not str or (target not in columns if columns else target):
        raise _wrong(path, f"'target' is {target!r:.100}, not one of 'columns'")
    (y_mean,), (y_std,) = numbers["y_mean"], numbers["y_std"]
    return size, Scaling(numbers["x_mean"], numbers["x_std"], y_mean, y_std, columns, target)


def _read_object(path: Path, needed: set[str], known: set[str]) -> Mapping[str, Any]:
    """Read a JSON object that has all ``needed`` keys and only ``known`` keys."""
    found = read_json(path, LARGEST_PART, _EXPECTED, RunError)
    if not isinstance(found, dict):
        raise _wrong(path, "not a JSON object")
    if missing := sorted(needed - set(found)):
        raise _wrong(path, f"missing key {missing[0]!r}")
    if unknown := sorted(set(found) - known):
        raise _wrong(path, f"unknown key {unknown[0]!r:.100}")
    return found


def _wrong(path: Path, what: str) -> RunError:
    return RunError(f"{path}: {what}; expected {_EXPECTED}")


def _repeated(values: list[Any]) -> list[Any]:
    seen = set[Any]()
    return [value for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
