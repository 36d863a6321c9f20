"""Evaluation of finished runs."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.data.configured import suffix_of
from gatewise.errors import UsageError
from gatewise.files import spooled
from gatewise.tasks.kinds import KINDS
from gatewise.tasks.language_modeling import evaluate_language_model
from gatewise.tasks.regression import evaluate_regression
from gatewise.tasks.resume import was_imported
from gatewise.tasks.scratch import evaluate_scratch
from gatewise.tasks.task import check_figures
from gatewise.training.precision import as_configured, choose_device
from gatewise.wording import option


def evaluate(
    run: str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    strict: bool = False,
    device: str = "auto",
    save: Path | None = None,
    weights: str | None = None,
) -> dict[str, Any]:
    """Evaluate a run's best model on a split, in fp32.

    Args:
        run: the run folder.
        data: anything that the run could be trained on, a pipe, or ``-`` for standard input, in the format of the run's
            own data, which is the default. One file is evaluated as a whole.
        split: ``train``, ``valid`` or ``test``. Defaults to ``test``, or to ``train`` on the own data of a run trained
            without a test text.
        strict: refuse labels and tags that do not occur in the training data, instead of counting them as errors.
        device: the device to compute on; ``auto`` selects a GPU if there is one and ``weights`` is not given.
        save: a CSV file to write, with the forecasts of a series: origin, step, time, truth, forecast, low, high.
        weights: ``fp32``, ``bf16`` or ``int8``: score a language model once more, through ``LanguageModel.stream`` with
            these weights.

    Returns:
        The flat object printed by ``gatewise evaluate --json``.

    Raises:
        RunError: the run folder is invalid.
        DataError: the data is invalid.
        UsageError: forecasts are to be saved, but the run does not forecast a series; or ``weights`` is given, but the
            run is not of a language model, or its model cannot be streamed in this way.
        NotFinite: a metric is not finite.
    """
    folder = RunFolder.existing(run)
    config = folder.read_config()
    if strict:
        config = config.model_copy(update={"data": config.data.model_copy(update={"strict": True})})
    with nullcontext() if data is None else spooled(Path(data), suffix_of(config.data)) as path:
        figures = _evaluate(folder, config, path, split, device, save, weights)
        if str(data) == "-" and figures.get("mistakes"):  # they name the copy
            mistakes = Path(figures["mistakes"])
            write_atomically(mistakes, mistakes.read_text(encoding="utf-8").replace(str(path), "standard input"))
    check_figures(figures, folder)
    return figures


def _evaluate(
    folder: RunFolder,
    config: Config,
    data: str | Path | None,
    split: str | None,
    device: str,
    save: Path | None,
    weights: str | None,
) -> dict[str, Any]:
    if weights is not None and config.task.name != "language-model":
        raise UsageError(
            f"{option('weights', weights)}: a {config.task.name} run is not streamed; expected that of a "
            f"language-model, or omit {option('weights')}"
        )
    if save is not None:
        check_table(save, config.task.name)
    if data is None and config.task.name != "memory-task" and was_imported(folder, config):
        raise UsageError(
            f"{folder.path}: this run was imported, so it has no data of its own; add {option('data', 'PATH')}"
        )
    if config.task.name == "scratch-language-model":
        return evaluate_scratch(folder, config, data, split)
    where = choose_device("cpu" if weights is not None and device == "auto" else device)
    split = split or "test"
    with as_configured(where):
        if weights is not None:
            figures = evaluate_language_model(folder, config, data, split, where, weights)
        elif save is None:
            figures = KINDS[config.task.name].evaluate(folder, config, data, split, where)
        else:
            figures = evaluate_regression(folder, config, data, split, where, save)
    return {"task": config.task.name, "split": split, **figures}


def check_table(path: Path, task: str) -> None:
    """Check that forecasts can be saved to a file, before anything is computed.

    Raises:
        UsageError: the run is of another task, or the path is no name of a CSV file in an existing folder.
    """
    if task != "regressor":
        raise UsageError(f"{option('save', path)}: a {task} run forecasts no series; omit it")
    if path.suffix.lower() != ".csv" or path.is_dir():
        raise UsageError(f"{option('save', path)}: expected the name of a file that ends in .csv")
    if not path.parent.is_dir():
        raise UsageError(f"{option('save', path)}: no folder {path.parent}; create it, or choose another location")
