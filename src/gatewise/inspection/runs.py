"""Finished runs, as pictures read them: of the right kind, with a name of their own each, their curves."""

import math
from collections import Counter
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
    """A run folder, its configuration, and what it is called beside the others."""

    folder: RunFolder
    config: Config
    name: str


def open_run(path: str | Path, picture: str, *tasks: str) -> FinishedRun:
    """Open one run for a picture that is drawn of some tasks only.

    Raises:
        RunError: it is no run folder.
        UsageError: it is the run of another task.
    """
    return open_runs([path], picture, *tasks)[0]


def open_runs(paths: Sequence[str | Path], picture: str, *tasks: str) -> list[FinishedRun]:
    """Open the runs of one picture; no ``tasks`` takes any.

    Raises:
        RunError: one is no run folder.
        UsageError: one is the run of another task.
    """
    folders = [RunFolder.existing(path) for path in paths]
    configs = [folder.read_config() for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        if tasks and config.task.name not in tasks:
            raise UsageError(
                f"{folder.path}: a run of the task {config.task.name}; {picture} is drawn of {' or '.join(tasks)}"
            )
    names = _names([folder.path for folder in folders])
    return [FinishedRun(*parts) for parts in zip(folders, configs, names, strict=True)]


def describe(config: Config) -> str:
    """Name a model by its cell and size, such as ``LSTM 2×256``."""
    model = config.model
    both = ", both directions" if model.bidirectional else ""
    return f"{CELLS[model.cell]} {model.num_layers}×{model.hidden_size}{both}"


def labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Name runs by cell and size where that tells them apart, else with their folders' names."""
    texts = [describe(run.config) for run in runs]
    if len(set(texts)) == len(texts):
        return texts
    return [f"{text}, {run.name}" for text, run in zip(texts, runs, strict=True)]


def evaluations(run: FinishedRun) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl`` that were written while the run was trained.

    Raises:
        RunError: there is none, or one is damaged.
    """
    lines = list(run.folder.read_history(run.config.task.name).evaluations)
    if not lines:
        raise RunError(
            f"{run.folder.metrics_file}: no figures; the run has not finished an epoch, train it (further) first"
        )
    return lines


def final_figures(run: FinishedRun) -> dict[str, Any]:
    """Return the last line, which has the test's figures, where the run has come to its end."""
    return run.folder.read_history(run.config.task.name).final or {}


LARGEST_FIGURE = 1e100
"""Of a run's metrics, in a picture."""


def figure_in(line: Mapping[str, Any], key: str, run: FinishedRun) -> float:
    """Return one figure of a line; NaN where it is not finite, JSON's null, or too large to be squared and drawn.

    Raises:
        RunError: it is missing, or no number.
    """
    value = line.get(key, "")
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise RunError(
            f"{run.folder.metrics_file}: {key} is {value!r} in one line; expected a number, restore the file"
        )
    return float(value) if value is not None and abs(value) < LARGEST_FIGURE else math.nan


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the folders' names, or their paths where two have the same."""
    own = [path.resolve().name for path in paths]
    count = Counter(own)
    return [name if count[name] == 1 else str(path) for name, path in zip(own, paths, strict=True)]
