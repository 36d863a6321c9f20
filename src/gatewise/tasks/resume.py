"""Decides whether a run can be resumed: it must have the same configuration and data, and not be finished."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from gatewise.artifact.history import History, Metrics, evaluations_since, to_json
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.errors import DataError, RunError, UsageError
from gatewise.runtime.weights_file import read_weights_header
from gatewise.training.checkpoints import Check, Checkpoint, Outline, load_newest, write_errors_stop
from gatewise.training.progress import note
from gatewise.training.resumable import check_identity
from gatewise.wording import option

DATA_KEYS = ("path", "train_file", "valid_file", "test_file", "builtin")
"""The keys of ``[data]`` that locate the data."""

_MAY_DIFFER = {
    "training.epochs",
    "training.max_steps",
    "training.patience",
    "training.checkpoint_every",
    "runtime.threads",
    "logging.tensorboard",
    "logging.tensorboard_every",
    *(f"data.{key}" for key in DATA_KEYS),  # the data's hashes are compared instead
}


def run_identity(config: Config, data_hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return what a checkpoint stores to identify its run."""
    return {"config": config.model_dump(), "data": dict(data_hashes)}


@contextmanager
def hold(run: RunFolder, resume: bool, console: Console | None) -> Iterator[None]:
    """Lock a run folder against other processes within the block, and turn a failed write into a one-line error.

    Raises:
        UsageError: another process is training there, or the folder is unusable as a run folder.
        TrainingStopped: the disk is full.
        RunError: a folder has the name of one of the run's files.
    """
    with run.claim(resume=resume) as locked, write_errors_stop(run):
        if not locked:
            note(console, f"{run.path}: this file system does not support locks; make sure that no other run uses it")
        yield


def was_imported(run: RunFolder, config: Config) -> bool:
    """Return whether a run with this configuration was imported: it names no data, and its weights say so.

    Raises:
        RunError: it names no data, and its weights are damaged.
    """
    if any(getattr(config.data, key) for key in DATA_KEYS):
        return False
    return run.weights_file.exists() and "imported" in read_weights_header(run.weights_file).facts


def find_resume_point(
    run: RunFolder, config: Config, data_hashes: Mapping[str, str], console: Console | None, check: Check
) -> tuple[Checkpoint | None, Metrics | None]:
    """Return what a resumed run continues from: the newest intact checkpoint, and a finished run's final metrics.

    Either is None if absent. What was found is reported on the console. Nothing is modified.

    Args:
        run: the run folder.
        config: the requested configuration.
        data_hashes: SHA-256 of each split.
        console: for notes.
        check: raises if training cannot continue from a given checkpoint.

    Raises:
        RunError: there are checkpoints, but none is intact; starting over would lose what was trained.
        UsageError: the run was imported.
        GatewiseError: as for ``final_metrics``.
    """

    def is_of_this_run(progress: Mapping[str, Any], outline: Outline) -> None:
        check_identity(progress.get("identity"))
        _check_same(progress["identity"], run_identity(config, data_hashes), run)
        check(progress, outline)

    checkpoint, damaged = load_newest(run.checkpoints, is_of_this_run)
    history = run.read_history(config.task.name)
    final = final_metrics(run, config, data_hashes, checkpoint, history)
    if damaged and not checkpoint and not final:
        raise RunError(
            f"{damaged[0].partition('; skipped')[0]}; none of the {len(damaged)} checkpoints can be resumed: "
            f"restore one, or rename {run.checkpoints} so that {option('resume', True)} starts from the beginning"
        )
    for line in damaged:
        note(console, line)
    if final:
        note(console, f"{run.path}: this run is finished ({_length(history.evaluations[-1])}); nothing is changed")
    elif not checkpoint:
        if run.config_file.exists() and was_imported(run, run.read_config()):
            raise UsageError(
                f"{run.path}: this run was imported, so there is no training to resume; choose another {option('out')}"
            )
        note(console, f"{run.path}: no checkpoint found; starting from the beginning")
    return checkpoint, final


def final_metrics(
    run: RunFolder,
    config: Config,
    data_hashes: Mapping[str, str],
    checkpoint: Checkpoint | None,
    history: History,
) -> Metrics | None:
    """Check that the run in a folder is the requested one; return its final metrics if it is finished.

    A finished run is recognised without its checkpoints, which may have been removed to save space.

    Args:
        run: the run folder.
        config: the requested configuration.
        data_hashes: SHA-256 of each split.
        checkpoint: the newest intact checkpoint, already known to belong to this run.
        history: the run's metrics.

    Raises:
        UsageError: the configuration differs.
        DataError: the data differs.
        RunError: a finished run without checkpoints is asked to train for more epochs.
    """
    if checkpoint:
        _check_history(history, checkpoint.progress["history"], run)
    final = history.final
    if final is None:
        return None
    if not checkpoint:
        kept = {split: final[key] for split in data_hashes if (key := f"{split}_data_hash") in final}
        saved = {"config": run.read_config().model_dump(), "data": kept}
        _check_same(saved, run_identity(config, data_hashes), run)
    training, last = config.training, history.evaluations[-1]
    since = evaluations_since(history.evaluations, final["best_epoch"], final.get("best_step", 0))
    if training.patience and since >= training.patience:
        return final
    asked = {"step": training.max_steps} if training.max_steps else {"epoch": training.epochs}
    if all(number <= last.get(unit, 0) for unit, number in asked.items()):
        return final
    if not checkpoint:
        raise RunError(
            f"{run.checkpoints}: this finished run has no checkpoint left, so it cannot be extended from "
            f"{_length(last)} to {_length(asked)}; train again in another {option('out')}"
        )
    return None


def _check_history(history: History, trained: Sequence[Metrics], run: RunFolder) -> None:
    """Compare ``metrics.jsonl`` with a checkpoint; a killed run may have written only one of the two."""
    for number, (line, other) in enumerate(zip(history.evaluations, trained, strict=False), 1):
        if to_json(line) != to_json(other):
            raise RunError(
                f"{run.metrics_file}:{number}: contradicts this run's checkpoints; the file belongs to another run, "
                f"remove it, and {option('resume', True)} writes it again"
            )


def _length(line: Mapping[str, Any]) -> str:
    """Return how far a line of metrics is, in steps if it counts them, otherwise in epochs."""
    return f"{line['step']} steps" if "step" in line else f"{line['epoch']} epochs"


def _check_same(saved: Mapping[str, Any], now: Mapping[str, Any], run: RunFolder) -> None:
    """Compare the saved identity of a run with the requested one."""
    defaults = Config().model_dump()
    may_differ = _MAY_DIFFER
    if now["config"]["training"]["schedule"] == "cosine":  # its learning rates depend on the length of the run
        may_differ = may_differ - {"training.epochs", "training.max_steps"}
    for section, keys in now["config"].items():
        for key, value in keys.items():
            before = (
                saved["config"].get(section, {}).get(key, defaults[section][key])
            )  # the key may have been added after the run was started
            if before != value and f"{section}.{key}" not in may_differ:
                raise UsageError(
                    f"{run.path}: this run was started with {section}.{key} = {before!r}, now it is {value!r}; "
                    f"resume it with the same configuration, or choose another {option('out')}"
                )
    for split, data_hash in saved["data"].items():
        if (found := now["data"].get(split)) != data_hash:
            raise DataError(
                f"{run.path}: the {split} text is not the one this run was started with (SHA-256 {str(found)[:12]}, "
                f"expected {str(data_hash)[:12]}); give the same data, or another {option('out')}"
            )
