"""Which run may be gone on with: the same one, by its configuration and its data; and one that is finished."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config
from gatewise.errors import DataError, RunError, UsageError
from gatewise.training.checkpoints import Checkpoint, full_disk_stops, load_newest
from gatewise.training.progress import note

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
    """Let no other process train in a run folder within the block, and a full disk end it in one line.

    Raises:
        UsageError: another process trains there, or the folder cannot be one of this run.
        TrainingStopped: the disk is full.
    """
    with run.claim(resume=resume) as locked, full_disk_stops(run):
        if not locked:
            note(console, f"{run.path}: this file system has no locks; see that no other run is started there")
        yield


def take_up(
    run: RunFolder, config: Config, data_hashes: Mapping[str, str], console: Console | None
) -> tuple[Checkpoint | None, Metrics | None]:
    """Return what ``--resume`` goes on from: the newest good checkpoint, and the last line of a finished run.

    Each is None where there is none. What was found is told on the console.

    Raises:
        GatewiseError: as ``final_metrics``.
    """
    checkpoint, notes = load_newest(run.checkpoints)
    for line in notes:
        note(console, line)
    final = final_metrics(run, config, data_hashes, checkpoint)
    if final:
        note(console, f"{run.path}: this run is finished ({_length(run.read_metrics()[-2])}); nothing is changed")
    elif not checkpoint:
        note(console, f"{run.path}: no checkpoint there yet; starting at the beginning")
    return checkpoint, final


def final_metrics(
    run: RunFolder, config: Config, data_hashes: Mapping[str, str], checkpoint: Checkpoint | None
) -> Metrics | None:
    """Check that the run in a folder is the one asked for; return its last line where it is finished.

    A finished run is known without its checkpoints, which may have been removed to save space.

    Args:
        run: the folder.
        config: the run that is asked for.
        data_hashes: SHA-256 of each of its texts.
        checkpoint: the newest good one.

    Raises:
        UsageError: another configuration.
        DataError: another text.
        RunError: more epochs are asked of a finished run that has no checkpoint to go on from.
    """
    now = run_identity(config, data_hashes)
    if checkpoint:
        _check_same(checkpoint.progress["identity"], now, run)
    *epochs, final = run.read_metrics() or [{}]
    if "best_epoch" not in final:
        return None
    if not checkpoint:
        kept = {split: final[key] for split in data_hashes if (key := f"{split}_data_hash") in final}
        saved = {"config": run.read_config().model_dump(), "data": kept}
        _check_same(saved, now, run)
    training, last = config.training, epochs[-1]
    asked = {"step": training.max_steps} if training.max_steps else {"epoch": training.epochs}
    if all(number <= last.get(unit, 0) for unit, number in asked.items()):
        return final
    if not checkpoint:
        raise RunError(
            f"{run.checkpoints}: no checkpoint left of this finished run, so its {_length(last)} cannot become "
            f"{_length(asked)}; train anew in another --out"
        )
    return None


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
        if now["data"][split] != data_hash:
            raise DataError(
                f"{run.path}: the {split} text is another than this run was started with (SHA-256 "
                f"{now['data'][split][:12]}, expected {str(data_hash)[:12]}); give the same data, or another --out"
            )
