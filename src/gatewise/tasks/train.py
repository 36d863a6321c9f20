"""Training, from a recipe to a finished run folder."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config, load_config
from gatewise.errors import DataError, GatewiseError, RunError, TrainingStopped, UsageError
from gatewise.kernels import why_not
from gatewise.models.language_model import LanguageModel
from gatewise.models.loading import load, load_weights
from gatewise.tasks.card import model_card
from gatewise.tasks.language_modeling import LanguageModelData, LanguageModelling, score_text
from gatewise.tasks.resume import DATA_KEYS, run_identity, take_up
from gatewise.tasks.scratch import check_scratch_config, train_scratch
from gatewise.training.distributed import Group, process_group
from gatewise.training.loop import Trainer
from gatewise.training.precision import check_precision, choose_device, has_fast_bf16, keep_fp32_exact
from gatewise.training.progress import note
from gatewise.training.scalars import Scalars


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder.
        metrics: the last line of ``metrics.jsonl``: test figures and the best epoch (empty in a process that did not
            write it); of a scratch-language-model, which has no test text, what it was trained on.
    """

    path: Path
    metrics: Metrics

    @cached_property
    def model(self) -> LanguageModel:
        """The best model, in eval mode."""
        return load(self.path)

    @property
    def sample(self) -> str:
        """Text drawn from the model with the run's seed."""
        config = RunFolder(self.path).read_config()
        length = 300 if config.data.level == "character" else 60
        return self.model.generate(max_tokens=length, temperature=0.8, seed=config.training.seed).strip()


def train(
    recipe: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    seed: int | None = None,
    console: Console | None = None,
) -> Run:
    """Train a model and leave a run folder.

    Args:
        recipe: a built-in name (see ``gatewise recipes``) or the path of a TOML file; ``demo`` where not given, or,
            with ``resume``, the configuration of the run in ``out``.
        data: the folder of the corpus, or the CSV file of a scratch-language-model; wins over the recipe's.
        out: the run folder; ``runs/RECIPE-TIME`` where not given.
        overrides: dotted keys, such as ``{"training.epochs": 1}``.
        resume: go on with the run in ``out`` where it stopped, exactly.
        seed: wins over ``training.seed``.
        console: where progress goes; silent where not given.

    Raises:
        GatewiseError: of the kind that says whose fault it is.
    """
    if resume and out is None:
        raise UsageError("--resume needs --out: the folder of the run to go on with")
    name = "demo" if recipe is None else Path(recipe).stem
    run = RunFolder(out if out is not None else Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    fault: type[GatewiseError] = UsageError
    if recipe is None and resume and run.config_file.is_file():
        recipe, fault = run.config_file, RunError
    chosen = _all_overrides(data, overrides, seed)
    config = _with_absolute_paths(load_config("demo" if recipe is None else recipe, chosen, error=fault))
    if config.task.name == "scratch-language-model":
        check_scratch_config(config)
        return Run(run.path, train_scratch(config, run, resume, console))
    check_language_model_config(config)
    device = choose_device(config.runtime.device)
    if reason := why_not(config.runtime.engine, device):
        raise UsageError(f"runtime.engine {config.runtime.engine!r} is not available: {reason}; use auto or torch")
    check_precision(config.training.precision, device)
    keep_fp32_exact()
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    with process_group(device) as group:
        if not group.is_writer:
            console = None
        return _train(config, run, group, resume, console)


def check_language_model_config(config: Config) -> None:
    """Check what can be checked before anything is read or written."""
    if not config.model.init_scale:
        raise UsageError("model.init_scale is 0, with which nothing is learnt; expected a number above 0, such as 0.1")
    if config.training.lr_decay_on_rise != 1 or config.data.max_sentences:
        raise UsageError(
            "training.lr_decay_on_rise and data.max_sentences are for a scratch-language-model; leave them out, or "
            "take training.lr_decay"
        )


def _train(config: Config, run: RunFolder, group: Group, resume: bool, console: Console | None) -> Run:
    group.rows(config.data.batch_size)
    if group.is_writer:
        run.check_free(resume=resume)
    data = LanguageModelData.read(config.data)
    torch.manual_seed(config.training.seed)
    model = LanguageModel(config.model, data.vocabulary, engine=config.runtime.engine).to(group.device)
    workload = LanguageModelling(config, data, model, run, group)
    if group.rank:
        torch.manual_seed(config.training.seed + 1_000_003 * group.rank)  # its own dropout masks
    checkpoint, final = take_up(run, config, data.hashes, console) if resume else (None, None)
    if final:
        return Run(run.path, final)
    if group.is_writer:
        run.claim()
        run.write_config(config)
        write_atomically(run.tokenizer_file, data.vocabulary.json)
    texts = data.texts
    note(
        console,
        f"{len(texts['train'].ids):,} {workload.token_name} to train on, vocabulary {len(data.vocabulary):,}, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters, on {group.device}"
        + (f" in {group.world_size} processes" if group.world_size > 1 else "")
        + f"; run folder {run.path}",
    )
    if config.training.precision == "bf16" and not has_fast_bf16(group.device):
        note(console, "this device has no bf16 arithmetic: bf16 is computed by conversion, slower than fp32")
    curves = run.tensorboard if config.logging.tensorboard and group.is_writer else None
    scalars = Scalars(curves, config.logging.tensorboard_every, checkpoint.progress["step"] if checkpoint else 0)
    trainer = Trainer(workload, config.training, run, group, console, run_identity(config, data.hashes), scalars)
    if checkpoint:
        trainer.resume(checkpoint)
        note(
            console,
            f"going on in epoch {trainer.at.epoch} after step {trainer.at.step_in_epoch} of {workload.steps_per_epoch}",
        )
    try:
        position = trainer.train()
    finally:
        scalars.close()
    if group.is_writer:
        _finish(config, run, data, model, position.best_epoch, position.history)
    group.wait()
    return Run(run.path, run.read_metrics()[-1] if group.is_writer else {})


def _finish(
    config: Config,
    run: RunFolder,
    data: LanguageModelData,
    model: LanguageModel,
    best_epoch: int,
    history: list[Metrics],
) -> None:
    """Score the test set once, with the best weights, and write the last line and the card."""
    saved = load_weights(model, run)
    if saved.get("epoch") != best_epoch:
        raise TrainingStopped(
            f"{run.weights_file}: weights of epoch {saved.get('epoch')}, expected the best, {best_epoch}; "
            "the file was replaced while training ran; train again"
        )
    scores = score_text(model, data.texts["test"], data.corpus.test)
    final: Metrics = {
        "test_perplexity": scores["perplexity"],
        "test_tokens": scores["tokens"],
        "test_oov_rate": scores["oov_rate"],
        "test_data_hash": scores["data_hash"],
        "unigram_test_perplexity": data.unigram_perplexity("test"),
        "best_epoch": best_epoch,
    }
    write_atomically(run.card_file, model_card(run.path, config, [*history, final]))
    run.write_metrics([*history, final])


def _all_overrides(data: str | Path | None, overrides: Mapping[str, Any] | None, seed: int | None) -> dict[str, Any]:
    """Put ``--data`` and ``--seed`` among the overrides."""
    merged = dict(overrides or {})
    if data is not None:
        if not Path(data).expanduser().exists():
            raise DataError(
                f"{data}: no such folder; expected one with *.train.txt, *.valid.txt and *.test.txt, or the CSV file "
                "of a scratch-language-model"
            )
        merged |= dict.fromkeys((f"data.{key}" for key in DATA_KEYS), "") | {"data.path": str(data)}
    if seed is not None:
        merged["training.seed"] = seed
    return merged


def _with_absolute_paths(config: Config) -> Config:
    """Let the run folder say where the data lay, wherever the run is repeated from."""
    paths = {key: getattr(config.data, key) for key in DATA_KEYS if key != "builtin"}
    absolute = {key: str(Path(path).expanduser().resolve()) for key, path in paths.items() if path}
    return config.model_copy(update={"data": config.data.model_copy(update=absolute)})
