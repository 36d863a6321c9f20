"""What lies beside the weights as JSON, ``labels.json`` and ``scaling.json``: one typed reader for each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewise.errors import RunError
from gatewise.files import LARGEST_PART
from gatewise.reading import read_json

_EXPECTED = "what training wrote there: restore it, or train again"


@dataclass(frozen=True)
class Labels:
    """``labels.json``.

    Attributes:
        labels: the C labels in the order of their ids, all whole numbers or all names.
        input_size: I, of a classifier of sequences.
        steps: T of the training data, of a classifier of sequences that were all of one length.
        seen_words: the words that training saw, of a tagger.
    """

    labels: tuple[int | str, ...]
    input_size: int | None = None
    steps: int | None = None
    seen_words: frozenset[str] | None = None

    @classmethod
    def read(cls, path: Path, *needed: str) -> "Labels":
        """Read the file; ``needed`` names what must be in it beside the labels.

        Raises:
            RunError: it is missing, or not as training writes it.
        """
        found = _read_object(path, {"labels", *needed}, {"labels", "input_size", "steps", "seen_words"})
        labels, words = found["labels"], found.get("seen_words")
        if not isinstance(labels, list) or {type(label) for label in labels} not in ({int}, {str}):
            raise _wrong(path, "'labels' is no list of names alone or of whole numbers alone")
        if repeated := _repeated(labels):
            raise _wrong(path, f"the label {repeated[0]!r:.100} stands there twice")
        if len(labels) < 2 or any(isinstance(label, int) and abs(label) >= 2**63 for label in labels):
            raise _wrong(path, "'labels' has fewer than two labels, or one beyond 64 bits")
        for name in ("input_size", "steps"):
            if found.get(name) is not None and not _is_size(found[name]):
                raise _wrong(path, f"{name!r} is {found[name]!r:.100}, no whole number above 0")
        if "input_size" in needed and found["input_size"] is None:
            raise _wrong(path, "'input_size' is null")
        if words is not None and not (isinstance(words, list) and all(type(word) is str for word in words)):
            raise _wrong(path, "'seen_words' is no list of words")
        seen = None if words is None else frozenset(words)
        return cls(tuple(labels), found.get("input_size"), found.get("steps"), seen)


@dataclass(frozen=True)
class Scaling:
    """What makes the user's units of the model's: ``x' = (x − x_mean) / x_std``, ``y = y_std · z + y_mean``.

    Attributes:
        x_mean: mean of each of the I inputs over the training part; empty for 0.
        x_std: their deviations; empty for 1.
        y_mean: mean of the targets.
        y_std: their deviation.
        columns: the names of the inputs, of a series.
        target: the one that is forecast.
    """

    x_mean: list[float] = field(default_factory=list)
    x_std: list[float] = field(default_factory=list)
    y_mean: float = 0.0
    y_std: float = 1.0
    columns: list[str] = field(default_factory=list)
    target: str = ""


def read_scaling(path: Path) -> tuple[int, Scaling]:
    """Read ``scaling.json``; return I, the numbers in each step, and the standardisation.

    Raises:
        RunError: it is missing, or not as training writes it.
    """
    needed = {"input_size", "x_mean", "x_std"}
    found = _read_object(path, needed, {*needed, "y_mean", "y_std", "columns", "target"})
    size, columns, target = found["input_size"], found.get("columns", []), found.get("target", "")
    if not _is_size(size):
        raise _wrong(path, f"'input_size' is {size!r:.100}, no whole number above 0")
    numbers = dict[str, list[float]]()
    for name, usual in (("x_mean", []), ("x_std", []), ("y_mean", 0.0), ("y_std", 1.0)):
        value = found.get(name, usual)
        each = value if name.startswith("x") else [value]
        if not isinstance(each, list) or not all(_is_number(one) for one in each):
            raise _wrong(path, f"{name!r} is not made of finite numbers")
        if name.startswith("x") and len(each) not in (0, size):
            raise _wrong(path, f"{name!r} has {len(each)} numbers, 'input_size' is {size}")
        if name.endswith("std") and any(one <= 0 for one in each):
            raise _wrong(path, f"{name!r} holds a deviation that is not above 0")
        numbers[name] = [float(one) for one in each]
    if len(numbers["x_mean"]) != len(numbers["x_std"]):
        raise _wrong(path, "'x_mean' and 'x_std' differ in length")
    if not isinstance(columns, list) or not all(type(name) is str for name in columns) or _repeated(columns):
        raise _wrong(path, "'columns' is no list of names, each once")
    if columns and len(columns) != size:
        raise _wrong(path, f"'columns' has {len(columns)} names, 'input_size' is {size}")
    if type(target) is not str or (target not in columns if columns else target):
        raise _wrong(path, f"'target' is {target!r:.100}, none of 'columns'")
    (y_mean,), (y_std,) = numbers["y_mean"], numbers["y_std"]
    return size, Scaling(numbers["x_mean"], numbers["x_std"], y_mean, y_std, columns, target)


def _read_object(path: Path, needed: set[str], known: set[str]) -> Mapping[str, Any]:
    """Read a JSON object that has all of ``needed`` and nothing but what is ``known``."""
    found = read_json(path, LARGEST_PART, _EXPECTED, RunError)
    if not isinstance(found, dict):
        raise _wrong(path, "no JSON object")
    if missing := sorted(needed - set(found)):
        raise _wrong(path, f"no {missing[0]!r} inside")
    if unknown := sorted(set(found) - known):
        raise _wrong(path, f"an unknown key {unknown[0]!r:.100}")
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
