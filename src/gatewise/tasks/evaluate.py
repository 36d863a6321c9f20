"""Evaluation of a finished run."""

from pathlib import Path
from typing import Any

from gatewise.artifact.run_folder import RunFolder
from gatewise.tasks.language_modeling import evaluate_language_model
from gatewise.training.precision import choose_device, keep_fp32_exact


def evaluate(
    run: str | Path, *, data: str | Path | None = None, split: str = "test", device: str = "auto"
) -> dict[str, Any]:
    """Measure a run's best model on a split, in fp32.

    Args:
        run: the run folder.
        data: the corpus, or one text file; the run's own where not given.
        split: ``valid`` or ``test``.
        device: where to compute; ``auto`` takes a GPU where there is one.

    Returns:
        The flat object that ``gatewise evaluate --json`` prints.

    Raises:
        RunError: the folder is not what it should be.
        DataError: the data is not.
    """
    keep_fp32_exact()
    return evaluate_language_model(RunFolder.existing(run), data, split, choose_device(device))
