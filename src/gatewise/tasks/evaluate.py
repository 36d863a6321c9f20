"""Evaluation of a finished run."""

from pathlib import Path
from typing import Any

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.tasks.kinds import KINDS
from gatewise.tasks.scratch import evaluate_scratch
from gatewise.tasks.task import check_figures
from gatewise.training.precision import as_configured, choose_device


def evaluate(
    run: str | Path, *, data: str | Path | None = None, split: str | None = None, device: str = "auto"
) -> dict[str, Any]:
    """Measure a run's best model on a split, in fp32.

    Args:
        run: the run folder.
        data: the corpus, or one text file; the run's own where not given.
        split: ``train``, ``valid`` or ``test``; where not given ``test``, or ``train`` for the own data of a run that
            was trained without a test text.
        device: where to compute; ``auto`` takes a GPU where there is one.

    Returns:
        The flat object that ``gatewise evaluate --json`` prints.

    Raises:
        RunError: the folder is not what it should be.
        DataError: the data is not.
        NotFinite: a figure is not a finite number.
    """
    folder = RunFolder.existing(run)
    figures = _evaluate(folder, folder.read_config(), data, split, device)
    check_figures(figures, folder)
    return figures


def _evaluate(
    folder: RunFolder, config: Config, data: str | Path | None, split: str | None, device: str
) -> dict[str, Any]:
    if config.task.name == "scratch-language-model":
        return evaluate_scratch(folder, config, data, split)
    where, split = choose_device(device), split or "test"
    with as_configured(where):
        return KINDS[config.task.name].evaluate(folder, config, data, split, where)
