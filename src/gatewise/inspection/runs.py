"""Finished runs as input for figures: selected by task, uniquely named, with their metrics."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.errors import RunError, UsageError
from gatewise.inspection.style import CELLS


@dataclass(frozen=True)
class FinishedRun:
    """A run folder, its configuration, and its display name."""

    folder: RunFolder
    config: Config
    name: str
    """The folder's name, with parents where another run of the figure has the same."""


def open_run(path: str | Path, picture: str, *tasks: str) -> FinishedRun:
    """Open one run for a figure that supports only some tasks.

    Raises:
        RunError: the path is not a run folder.
        UsageError: the run belongs to another task.
    """
    return open_runs([path], picture, *tasks)[0]


def open_runs(paths: Sequence[str | Path], picture: str, *tasks: str) -> list[FinishedRun]:
    """Open the runs of one figure; without ``tasks``, any task is accepted.

    Raises:
        RunError: a path is not a run folder.
        UsageError: a run belongs to another task, or is given twice.
    """
    folders = [RunFolder.existing(path) for path in paths]
    configs = [folder.read_config() for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        if tasks and config.task.name not in tasks:
            raise UsageError(
                f"{folder.path}: a run of the task {config.task.name}; {picture} requires {' or '.join(tasks)}"
            )
    names = _names([folder.path for folder in folders])
    return [FinishedRun(*parts) for parts in zip(folders, configs, names, strict=True)]


def describe(config: Config) -> str:
    """Describe a model by its cell and size, such as ``LSTM 2×256``."""
    model = config.model
    both = ", both directions" if model.bidirectional else ""
    return f"{CELLS[model.cell]} {model.num_layers}×{model.hidden_size}{both}"


def labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Label runs by name, cell and size, such as ``memory-lstm-200 (LSTM 2×256)``."""
    return [f"{run.name} ({describe(run.config)})" for run in runs]


def evaluations(run: FinishedRun) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl`` written during training.

    Raises:
        RunError: there are none, or one is damaged.
    """
    lines = list(run.folder.read_history(run.config.task.name).evaluations)
    if not lines:
        raise RunError(
            f"{run.folder.metrics_file}: no metrics; the run has not finished an epoch, train it (further) first"
        )
    return lines


def final_figures(run: FinishedRun) -> dict[str, Any]:
    """Return the last line, with the test metrics, if the run is finished."""
    return run.folder.read_history(run.config.task.name).final or {}


LARGEST_FIGURE = 1e100
"""The largest metric that a figure shows."""


def figure_in(line: Mapping[str, Any], key: str, run: FinishedRun) -> float:
    """Return one metric of a line; NaN if it is not finite, JSON's null, or too large to be squared and drawn.

    Raises:
        RunError: the metric is missing, or not a number.
    """
    value = line.get(key, "")
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise RunError(
            f"{run.folder.metrics_file}: {key} is {value!r} in one line; expected a number, restore the file"
        )
    return float(value) if value is not None and abs(value) < LARGEST_FIGURE else math.nan


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the folders' names, each with as many of its parents as it takes to tell it from the others."""
    parts = [path.resolve().parts for path in paths]
    for path, its in zip(paths, parts, strict=True):
        if parts.count(its) > 1:
            raise UsageError(f"{path}: the same run is given {parts.count(its)} times; give each run once")
    names = []
    for its in parts:
        length = 1
        while sum(other[-length:] == its[-length:] for other in parts) > 1:
            length += 1
        names.append(str(Path(*its[-length:])))
    return names
