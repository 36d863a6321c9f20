"""Training, from a recipe to a finished run folder."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.card import model_card
from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config, load_config
from gatewise.data.in_memory import Files, about_data, as_files, is_path
from gatewise.engines import engine_named
from gatewise.errors import DataError, GatewiseError, Interrupted, RunError, UsageError
from gatewise.models.loading import load_weights
from gatewise.tasks.kinds import KINDS
from gatewise.tasks.resume import DATA_KEYS, find_resume_point, hold, run_identity
from gatewise.tasks.run import Run
from gatewise.tasks.scratch import check_scratch_config, train_scratch
from gatewise.tasks.task import Task, check_figures
from gatewise.training.checkpoints import Checkpoint, Outline, kept, way_on
from gatewise.training.distributed import Group, process_group
from gatewise.training.interrupt import signals_interrupt
from gatewise.training.loop import Trainer, Workload
from gatewise.training.memory import keep_freed_memory
from gatewise.training.position import Position
from gatewise.training.precision import as_configured, check_precision, choose_device, has_fast_bf16, has_fast_high
from gatewise.training.progress import console_of, heartbeat, note, unbreakable
from gatewise.training.resumable import check_resumable
from gatewise.training.scalars import Scalars
from gatewise.wording import option


def train(
    recipe: str | Path | None = None,
    *,
    data: Any = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    seed: int | None = None,
    progress: bool | Console | None = None,
) -> Run:
    """Train a model and write a run folder.

    Args:
        recipe: a built-in name (see ``gatewise recipes``) or the path of a TOML file. Defaults to ``demo`` or, with
            ``resume``, to the configuration of the run in ``out``.
        data: the path of the task's data (see ``DataConfig.path``), or the data itself: a data frame of any library,
            arrays or lists, with labels or targets as a tuple, or a mapping of these for given splits (see the chapter
            From Python). The run folder keeps data given in memory. Overrides the recipe's.
        out: the run folder. Defaults to ``runs/RECIPE-TIME``.
        overrides: settings by dotted key, such as ``{"training.epochs": 1}``.
        resume: continue the run in ``out`` exactly where it stopped.
        seed: overrides ``training.seed``.
        progress: True shows the progress on standard error, False does not, a Rich console shows it there. By default,
            it is shown in terminals and notebooks only.

    PyTorch's global switches, threads and random generators are restored afterwards and do not affect the result. In
    the main thread, SIGINT, SIGTERM and SIGHUP finish the current step and save a checkpoint.

    Returns:
        The finished run: its metrics, its model, its training curves.

    Raises:
        GatewiseError: a subclass for each kind of error; invalid data in memory is an ``InputError``, which is a
            ``ValueError``, too.
    """
    if resume and out is None:
        raise UsageError(f"{option('resume', True)} requires {option('out')}: the folder of the run to resume")
    name = "demo" if recipe is None else Path(recipe).stem
    run = RunFolder(out if out is not None else Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    fault: type[GatewiseError] = UsageError
    if recipe is None and resume and run.config_file.is_file():
        recipe, fault = run.config_file, RunError
    recipe = "demo" if recipe is None else recipe
    chosen, files = _all_overrides(data if is_path(data) else None, overrides, seed), None
    config = load_config(recipe, chosen, error=fault)
    if data is not None and not is_path(data):
        files = as_files(data, config.task.name, config.data)
        config = load_config(recipe, {**files.settings, **chosen, **_at(run.data / files.name)}, error=fault)
    config = _with_absolute_paths(config)
    if unread := config.unread():
        raise UsageError(unread)
    console = console_of(progress)
    with _from_outside(run, console):
        if config.task.name == "scratch-language-model":
            check_scratch_config(config)
            train_scratch(config, run, resume, console)
            return Run(run.path)
        device = choose_device(config.runtime.device)
        try:
            engine_named(config.runtime.engine, device)
        except ValueError as reason:
            raise UsageError(f"runtime.{reason}; use auto or torch") from None
        check_precision(config.training.precision, device, config.runtime.engine)
        keep_freed_memory()
        with process_group(device) as group, as_configured(group.device, config.runtime.threads):
            return _train(config, run, group, resume, console if group.is_writer else None, files)


@contextmanager
def _from_outside(run: RunFolder, console: Console | None) -> Iterator[None]:
    """Handle external events, such as a signal or a closed terminal: end with a one-line error, or continue.

    An unexpected exception is annotated with the run that it ended.

    Raises:
        Interrupted: a signal arrived when there was no step to finish.
    """
    with unbreakable(console), signals_interrupt():
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; {kept(run)}; {way_on(run)}") from None
        except Exception as problem:
            vars(problem)["gatewise_run"] = run
            raise


def read_task(config: Config) -> Task:
    """Load the data of a configuration's task.

    Raises:
        GatewiseError: a setting or the data is invalid.
    """
    return KINDS[config.task.name].task(config)


def _train(
    config: Config, run: RunFolder, group: Group, resume: bool, console: Console | None, files: Files | None
) -> Run:
    if config.data.batch_size:
        group.rows(config.data.batch_size)
    if group.is_writer:
        run.check_free(resume=resume)
    lock = hold(run, resume, console) if group.is_writer else nullcontext()
    with ExitStack() as held:
        if files:
            held.enter_context(lock)
            held.enter_context(_kept_data(run, files, group))
        with heartbeat(console, "reading the data"), about_data(run.data / files.name) if files else nullcontext():
            task = read_task(config)
        config = task.config
        group.rows(config.data.batch_size)

        @cache
        def made() -> tuple[nn.Module, Workload]:
            torch.manual_seed(config.training.seed)
            model = task.make_model().to(group.device)
            workload = task.workload(model, run, group)
            if group.rank:
                torch.manual_seed(config.training.seed + 1_000_003 * group.rank)  # for different dropout masks
            return model, workload

        def check(progress: Mapping[str, Any], outline: Outline) -> None:
            """Compare with the model, which is made only once the configuration is known to be that of the run."""
            check_resumable(progress, outline, made()[1], config.training, group)

        if not resume:
            made()  # a run that cannot start leaves no folder
        if not files:
            held.enter_context(lock)
        checkpoint, final = find_resume_point(run, config, task.hashes, console, check) if resume else (None, None)
        if not final:
            model, workload = made()
            if group.is_writer:
                run.write_config(config)
                task.write_parts(run)
            _introduce(config, task, model, run, group, console)
            position = _fit(config, task, workload, run, group, checkpoint, console)
            if group.is_writer:
                _finish(config, task, run, model, position, console)
        group.wait()
        return Run(run.path) if group.is_writer else Run.of_another_process(run.path)


@contextmanager
def _kept_data(run: RunFolder, files: Files, group: Group) -> Iterator[None]:
    """Write data from memory to a locked run folder; delete it again if the run cannot start."""
    try:
        if group.is_writer:
            run.keep_data(files.content)
        group.wait()
        yield
    except BaseException:
        if group.is_writer:
            run.discard_data()
        raise


def _introduce(
    config: Config, task: Task, model: nn.Module, run: RunFolder, group: Group, console: Console | None
) -> None:
    """Report what is trained and how, and any missing hardware support."""
    precision = config.training.precision
    note(
        console,
        f"{task.summary}, {sum(p.numel() for p in model.parameters()):,} parameters, on {group.device} "
        f"({_engine(config, group.device)}), {precision}"
        + (f", in {group.world_size} processes" if group.world_size > 1 else "")
        + f"; run folder {run.path}",
    )
    for line in task.notes:
        note(console, line)
    if precision == "bf16" and not has_fast_bf16(group.device):
        note(console, "this device has no bf16 instructions: bf16 is emulated, and no faster than fp32")
    if precision == "high" and not has_fast_high(group.device):
        lacks = "processor has no AMX for bf16 products" if group.device.type == "cpu" else "GPU has no TF32"
        note(console, f"this {lacks}: high is computed in fp32")


def _engine(config: Config, device: torch.device) -> str:
    """Return the name of the engine and of the hardware it uses."""
    engine = engine_named(config.runtime.engine, device)
    return f"{engine.name} engine, {engine.hardware(device)}"


def _fit(
    config: Config,
    task: Task,
    workload: Workload,
    run: RunFolder,
    group: Group,
    checkpoint: Checkpoint | None,
    console: Console | None,
) -> Position:
    """Train to the end, from a checkpoint if there is one."""
    curves = run.tensorboard if config.logging.tensorboard and group.is_writer else None
    scalars = Scalars(curves, config.logging.tensorboard_every, checkpoint.progress["step"] if checkpoint else 0)
    identity = run_identity(config, task.hashes)
    how = config.runtime.engine, config.runtime.graph
    trainer = Trainer(workload, config.training, run, group, console, identity, scalars, *how)
    if checkpoint:
        trainer.resume(checkpoint)
        note(
            console,
            f"resuming in epoch {trainer.at.epoch} after step {trainer.at.step_in_epoch} of {workload.steps_per_epoch}",
        )
    try:
        return trainer.train()
    finally:
        scalars.close()


def _finish(
    config: Config, task: Task, run: RunFolder, model: nn.Module, position: Position, console: Console | None
) -> None:
    """Evaluate the best weights on the test split once; write the final metrics and the model card."""
    saved = load_weights(model, run)
    if saved.get("step") != position.best_step:
        raise RunError(
            f"{run.weights_file}: weights of epoch {saved.get('epoch')}, step {saved.get('step')}, expected the best, "
            f"{position.best_epoch}, step {position.best_step}; the file was replaced during training; train again"
        )
    best = {"best_epoch": position.best_epoch}
    if "step" in position.history[-1]:
        best["best_step"] = position.best_step
    with heartbeat(console, "evaluating on the test split"):
        final: Metrics = {**task.final(model.eval(), run), **best}
    check_figures(final, run)
    write_atomically(run.card_file, model_card(run.path, config, [*position.history, final]))
    run.write_metrics([*position.history, final])


def _all_overrides(data: str | Path | None, overrides: Mapping[str, Any] | None, seed: int | None) -> dict[str, Any]:
    """Merge data and seed into the overrides."""
    merged = dict(overrides or {})
    if data is not None:
        if not os.path.exists(Path(data).expanduser()):
            raise DataError(
                f"{data}: no such file or folder; expected the data of the recipe's task, such as a folder with "
                "*.train.txt, *.valid.txt and *.test.txt for a language-model"
            )
        merged |= _at(data)
    if seed is not None:
        merged["training.seed"] = seed
    return merged


def _at(path: str | Path) -> dict[str, Any]:
    """Return the overrides that make a path the only location of the data."""
    return dict.fromkeys((f"data.{key}" for key in DATA_KEYS), "") | {"data.path": str(path)}


def _with_absolute_paths(config: Config) -> Config:
    """Make the data paths absolute, so that the run can be repeated from any working directory."""
    paths = {key: getattr(config.data, key) for key in DATA_KEYS if key != "builtin"}
    try:
        absolute = {key: str(Path(path).expanduser().resolve()) for key, path in paths.items() if path}
    except (OSError, RuntimeError, ValueError) as problem:  # a symlink loop, a null byte
        raise DataError(f"data: cannot resolve a path ({problem}); expected the path of a file or folder") from None
    return config.model_copy(update={"data": config.data.model_copy(update=absolute)})
