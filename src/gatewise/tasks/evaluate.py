"""Evaluation of finished runs."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.data.configured import suffix_of
from gatewise.files import spooled
from gatewise.tasks.kinds import KINDS
from gatewise.tasks.scratch import evaluate_scratch
from gatewise.tasks.task import check_figures
from gatewise.training.precision import as_configured, choose_device


def evaluate(
    run: str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    strict: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Evaluate a run's best model on a split, in fp32.

    Args:
        run: the run folder.
        data: anything that the run could be trained on, a pipe, or ``-`` for standard input, in the format of the run's
            own data, which is the default. One file is evaluated as a whole.
        split: ``train``, ``valid`` or ``test``. Defaults to ``test``, or to ``train`` on the own data of a run trained
            without a test text.
        strict: refuse labels and tags that do not occur in the training data, instead of counting them as errors.
        device: the device to compute on; ``auto`` selects a GPU if there is one.

    Returns:
        The flat object printed by ``gatewise evaluate --json``.

    Raises:
        RunError: the run folder is invalid.
        DataError: the data is invalid.
        NotFinite: a metric is not finite.
    """
    folder = RunFolder.existing(run)
    config = folder.read_config()
    if strict:
        config = config.model_copy(update={"data": config.data.model_copy(update={"strict": True})})
    with nullcontext() if data is None else spooled(Path(data), suffix_of(config.data)) as path:
        figures = _evaluate(folder, config, path, split, device)
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
