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
_SCALING = {"input_size", "x_mean", "x_std"}
_OPTIONAL = {"y_mean", "y_std", "columns", "target", "known", "horizon", "pace", "relative"}


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
        found = read_object(path, {"labels", *needed}, {"labels", "input_size", "steps", "seen_words"})
        labels, words = found["labels"], found.get("seen_words")
        if not isinstance(labels, list) or {type(label) for label in labels} not in ({int}, {str}):
            raise wrong_part(path, "'labels' is not a list of strings only or of integers only")
        if repeated := _repeated(labels):
            raise wrong_part(path, f"duplicate label {repeated[0]!r:.100}")
        if len(labels) < 2 or any(isinstance(label, int) and abs(label) >= 2**63 for label in labels):
            raise wrong_part(path, "'labels' has fewer than two labels, or one that exceeds 64 bits")
        for name in ("input_size", "steps"):
            if found.get(name) is not None and not is_size(found[name]):
                raise wrong_part(path, f"{name!r} is {found[name]!r:.100}, not a positive integer")
        if "input_size" in needed and found["input_size"] is None:
            raise wrong_part(path, "'input_size' is null")
        if words is not None and not (isinstance(words, list) and all(type(word) is str for word in words)):
            raise wrong_part(path, "'seen_words' is not a list of strings")
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
        known: names of the columns known in advance, which the model also reads ``horizon`` steps later.
        horizon: H, the number of values predicted.
        pace: the distance between the steps of a series with dates, as text.
        relative: whether the target is read and predicted as its difference from the last value read.
    """

    x_mean: list[float] = field(default_factory=list)
    x_std: list[float] = field(default_factory=list)
    y_mean: float = 0.0
    y_std: float = 1.0
    columns: list[str] = field(default_factory=list)
    target: str = ""
    known: list[str] = field(default_factory=list)
    horizon: int = 1
    pace: str = ""
    relative: bool = False

    @property
    def inputs(self) -> list[str]:
        """The names of the I inputs of a time series."""
        return [*self.columns, *self.known]

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file, except ``input_size``; what only some models have is left out of others."""
        later = {"known": self.known, "horizon": self.horizon, "pace": self.pace, "relative": self.relative}
        plain = {key: value for key, value in vars(self).items() if key not in later}
        return plain | {key: value for key, value in later.items() if value != getattr(Scaling(), key)}


def read_scaling(path: Path) -> tuple[int, Scaling]:
    """Read ``scaling.json``; return I, the number of inputs per step, and the standardization.

    Raises:
        RunError: the file is missing or invalid.
    """
    return scaling_of(read_object(path, _SCALING, {*_SCALING, *_OPTIONAL}), path)


def scaling_of(found: Mapping[str, Any], path: Path) -> tuple[int, Scaling]:
    """Return the content of ``scaling.json``, found in a file that errors name; see ``read_scaling``."""
    size, columns, target = found["input_size"], found.get("columns", []), found.get("target", "")
    known, horizon, pace = found.get("known", []), found.get("horizon", 1), found.get("pace", "")
    if not is_size(size):
        raise wrong_part(path, f"'input_size' is {size!r:.100}, not a positive integer")
    numbers = dict[str, list[float]]()
    for name, usual in (("x_mean", []), ("x_std", []), ("y_mean", 0.0), ("y_std", 1.0)):
        value = found.get(name, usual)
        each = value if name.startswith("x") else [value]
        if not isinstance(each, list) or not all(is_finite_number(one) for one in each):
            raise wrong_part(path, f"{name!r} contains values that are not finite numbers")
        if name.startswith("x") and len(each) not in (0, size):
            raise wrong_part(path, f"{name!r} has {len(each)} numbers, but 'input_size' is {size}")
        if name.endswith("std") and any(one <= 0 for one in each):
            raise wrong_part(path, f"{name!r} contains a standard deviation that is not positive")
        numbers[name] = [float(one) for one in each]
    if len(numbers["x_mean"]) != len(numbers["x_std"]):
        raise wrong_part(path, "'x_mean' and 'x_std' have different lengths")
    for name, names in (("columns", columns), ("known", known)):
        if not isinstance(names, list) or not all(type(one) is str for one in names) or _repeated(names):
            raise wrong_part(path, f"{name!r} is not a list of distinct names")
    if columns and len(columns) + len(known) != size:
        raise wrong_part(
            path, f"'columns' and 'known' have {len(columns) + len(known)} names, but 'input_size' is {size}"
        )
    if wrong := [name for name in known if name not in columns or name == target]:
        raise wrong_part(path, f"'known' has {wrong[0]!r:.100}, which is the target or not one of 'columns'")
    if type(target) is not str or (target not in columns if columns else target):
        raise wrong_part(path, f"'target' is {target!r:.100}, not one of 'columns'")
    if not is_size(horizon) or (horizon > 1 and not columns):
        raise wrong_part(path, f"'horizon' is {horizon!r:.100}, not a positive integer, or there are no 'columns'")
    if type(pace) is not str:
        raise wrong_part(path, f"'pace' is {pace!r:.100}, not a text")
    if type(relative := found.get("relative", False)) is not bool or (relative and not columns):
        raise wrong_part(path, f"'relative' is {relative!r:.100}, not a boolean, or there are no 'columns'")
    (y_mean,), (y_std,) = numbers["y_mean"], numbers["y_std"]
    return size, Scaling(
        numbers["x_mean"], numbers["x_std"], y_mean, y_std, columns, target, known, horizon, pace, relative
    )


def read_object(path: Path, needed: set[str], known: set[str]) -> Mapping[str, Any]:
    """Read a JSON object that has all ``needed`` keys and only ``known`` keys."""
    found = read_json(path, LARGEST_PART, _EXPECTED, RunError)
    if not isinstance(found, dict):
        raise wrong_part(path, "not a JSON object")
    if missing := sorted(needed - set(found)):
        raise wrong_part(path, f"missing key {missing[0]!r}")
    if unknown := sorted(set(found) - known):
        raise wrong_part(path, f"unknown key {unknown[0]!r:.100}")
    return found


def wrong_part(path: Path, what: str) -> RunError:
    """Return the error for a damaged or edited file."""
    return RunError(f"{path}: {what}; expected {_EXPECTED}")


def _repeated(values: list[Any]) -> list[Any]:
    seen = set[Any]()
    return [value for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]


def is_size(value: object) -> bool:
    """Return whether a value of JSON is a positive integer of 31 bits."""
    return type(value) is int and 0 < value < 2**31


def is_finite_number(value: object) -> bool:
    """Return whether a value of JSON is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
