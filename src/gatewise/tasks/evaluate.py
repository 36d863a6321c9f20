"""Evaluation of finished runs."""

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
    """Evaluate a run's best model on a split, in fp32.

    Args:
        run: the run folder.
        data: the corpus, or one text file; defaults to the run's own data.
        split: ``train``, ``valid`` or ``test``. Defaults to ``test``, or to ``train`` on the own data of a run trained
            without a test text.
        device: the device to compute on; ``auto`` selects a GPU if there is one.

    Returns:
        The flat object printed by ``gatewise evaluate --json``.

    Raises:
        RunError: the run folder is invalid.
        DataError: the data is invalid.
        NotFinite: a metric is not finite.
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
        figures = KINDS[config.task.name].evaluate(folder, config, data, split, where)
    return {"task": config.task.name, "split": split, **figures}
