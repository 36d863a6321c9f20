"""Which run may be gone on with: the same one, by its configuration and its data; and one that is finished."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from gatewise.artifact.history import History, Metrics, to_json
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.errors import DataError, RunError, UsageError
from gatewise.training.checkpoints import Check, Checkpoint, Outline, load_newest, write_errors_stop
from gatewise.training.progress import note
from gatewise.training.resumable import check_identity

DATA_KEYS = ("path", "train_file", "valid_file", "test_file", "builtin")
"""The keys of ``[data]`` that say where the texts lie."""

_MAY_DIFFER = {
    "training.epochs",
    "training.max_steps",
    "training.checkpoint_every",
    "runtime.threads",
    "logging.tensorboard",
    "logging.tensorboard_every",
    *(f"data.{key}" for key in DATA_KEYS),  # the texts' hashes are compared instead
}


def run_identity(config: Config, data_hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return what a checkpoint keeps to know its own run again."""
    return {"config": config.model_dump(), "data": dict(data_hashes)}


@contextmanager
def hold(run: RunFolder, resume: bool, console: Console | None) -> Iterator[None]:
    """Let no other process train in a run folder within the block, and let a failed write end it in one line.

    Raises:
        UsageError: another process trains there, or the folder cannot be one of this run.
        TrainingStopped: the disk is full.
        RunError: a folder stands where a file of the run belongs.
    """
    with run.claim(resume=resume) as locked, write_errors_stop(run):
        if not locked:
            note(console, f"{run.path}: this file system has no locks; see that no other run is started there")
        yield


def take_up(
    run: RunFolder, config: Config, data_hashes: Mapping[str, str], console: Console | None, check: Check
) -> tuple[Checkpoint | None, Metrics | None]:
    """Return what ``--resume`` goes on from: the newest good checkpoint, and the last line of a finished run.

    Each is None where there is none. What was found is told on the console. Nothing is changed.

    Args:
        run: the folder.
        config: the run that is asked for.
        data_hashes: SHA-256 of each of its texts.
        console: for notes.
        check: whether the run can stand where a checkpoint says.

    Raises:
        RunError: there are checkpoints, and none is good: to start at the beginning would lose what was trained.
        GatewiseError: as ``final_metrics``.
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
            f"{damaged[0].partition('; skipped')[0]}; none of the {len(damaged)} there can be gone on with: "
            f"restore one, or rename {run.checkpoints}, and --resume starts at the beginning"
        )
    for line in damaged:
        note(console, line)
    if final:
        note(console, f"{run.path}: this run is finished ({_length(history.evaluations[-1])}); nothing is changed")
    elif not checkpoint:
        note(console, f"{run.path}: no checkpoint there yet; starting at the beginning")
    return checkpoint, final


def final_metrics(
    run: RunFolder,
    config: Config,
    data_hashes: Mapping[str, str],
    checkpoint: Checkpoint | None,
    history: History,
) -> Metrics | None:
    """Check that the run in a folder is the one asked for; return its last line where it is finished.

    A finished run is known without its checkpoints, which may have been removed to save space.

    Args:
        run: the folder.
        config: the run that is asked for.
        data_hashes: SHA-256 of each of its texts.
        checkpoint: the newest good one, which is known to be of this run.
        history: its metrics.

    Raises:
        UsageError: another configuration.
        DataError: another text.
        RunError: more epochs are asked of a finished run that has no checkpoint to go on from.
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
    asked = {"step": training.max_steps} if training.max_steps else {"epoch": training.epochs}
    if all(number <= last.get(unit, 0) for unit, number in asked.items()):
        return final
    if not checkpoint:
        raise RunError(
            f"{run.checkpoints}: no checkpoint left of this finished run, so its {_length(last)} cannot become "
            f"{_length(asked)}; train anew in another --out"
        )
    return None


def _check_history(history: History, trained: Sequence[Metrics], run: RunFolder) -> None:
    """Compare ``metrics.jsonl`` with a checkpoint, before or after which a kill may have come."""
    for number, (line, other) in enumerate(zip(history.evaluations, trained, strict=False), 1):
        if to_json(line) != to_json(other):
            raise RunError(
                f"{run.metrics_file}:{number}: not what the checkpoints of this run say; the file is of another run, "
                "remove it, and --resume writes it anew"
            )


def _length(line: Mapping[str, Any]) -> str:
    """Say how far a line of the metrics is: in steps where it counts them, else in epochs."""
    return f"{line['step']} steps" if "step" in line else f"{line['epoch']} epochs"


def _check_same(saved: Mapping[str, Any], now: Mapping[str, Any], run: RunFolder) -> None:
    """Compare the run that is to go on with the one that is asked for."""
    defaults = Config().model_dump()
    for section, keys in now["config"].items():
        for key, value in keys.items():
            before = (
                saved["config"].get(section, {}).get(key, defaults[section][key])
            )  # a key may be younger than a run
            if before != value and f"{section}.{key}" not in _MAY_DIFFER:
                raise UsageError(
                    f"{run.path}: this run was started with {section}.{key} = {before!r}, now it is {value!r}; "
                    "resume it with the same configuration, or choose another --out"
                )
    for split, data_hash in saved["data"].items():
        if (found := now["data"].get(split)) != data_hash:
            raise DataError(
                f"{run.path}: the {split} text is another than this run was started with (SHA-256 {str(found)[:12]}, "
                f"expected {str(data_hash)[:12]}); give the same data, or another --out"
            )
