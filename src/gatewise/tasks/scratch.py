"""The scratch language model, in NumPy: training from a CSV file of comments, and evaluation."""

import math
import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.card import model_card
from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config
from gatewise.data.comments import Sentences, find_csv, read_sentences
from gatewise.data.tokenizer_file import vocabulary_json
from gatewise.errors import DataError, RunError, UsageError
from gatewise.files import file_hash
from gatewise.runtime.vocabulary import Vocabulary
from gatewise.scratch import ScratchModel, initial_weights, weight_shapes
from gatewise.tasks.resume import find_resume_point, hold, run_identity
from gatewise.training.checkpoints import Checkpoint
from gatewise.training.progress import note
from gatewise.training.scalars import Scalars
from gatewise.training.sentences import SentenceTrainer, check_scratch_resumable
from gatewise.wording import for_finished_run, option

_NEEDED = {
    "data.level": "prose",
    "data.batch_size": 1,
    "model.cell": "lstm",
    "model.num_layers": 1,
    "model.one_hot": True,
    "model.init_scale": 0.0,
    "training.optimizer": "sgd",
    "training.max_grad_norm": 0.0,
}
"""The fixed settings of the task; the recipe states them, so that a run folder does too."""


def check_scratch_config(config: Config) -> None:
    """Check everything that can be checked before reading or writing.

    Raises:
        UsageError: a setting has a value that this task does not support.
    """
    settings = config.model_dump()
    for key, expected in _NEEDED.items():
        section, _, name = key.partition(".")
        if (found := settings[section][name]) != expected:
            raise UsageError(
                f"{key} is {found!r}; a scratch-language-model supports only {expected!r}: keep the value that the "
                "recipe comments-scratch has"
            )
    if not config.training.epochs:
        raise UsageError("training.epochs is 'auto'; a scratch-language-model needs a number")
    if config.runtime.device not in ("auto", "cpu"):
        raise UsageError(f"device {config.runtime.device!r} is not available: NumPy runs on the cpu; use auto")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("a scratch-language-model is trained in one process; start it without torchrun")
    if not config.data.path:
        raise UsageError(
            f"data: the recipe names no data; add {option('data', 'FILE.csv')}, a file with the comments in one column"
        )


@dataclass(frozen=True)
class ScratchData:
    """The training sentences, and the vocabulary of all sentences in their file."""

    vocabulary: Vocabulary
    train: Sentences

    @classmethod
    def read(cls, config: Config) -> "ScratchData":
        """Read the CSV file named by a configuration."""
        settings = config.data
        path = find_csv(settings.path)
        texts = read_sentences(path, settings.column)
        vocabulary = Vocabulary.from_lines(texts, settings.level, settings.vocabulary_size, start=True)
        return cls(vocabulary, Sentences.encode(texts[: settings.max_sentences or None], vocabulary, path))

    def unigram_loss(self) -> float:
        """The loss of a unigram model: the entropy of the predicted tokens, in nats per token."""
        counts = Counter(word for sentence in self.train.ids for word in sentence[1:])
        total = counts.total()
        return -sum(count / total * math.log(count / total) for count in counts.values())


def train_scratch(config: Config, run: RunFolder, resume: bool, console: Console | None) -> Metrics:
    """Train a model in a run folder; return the final metrics."""
    run.check_free(resume=resume)
    data = ScratchData.read(config)
    hashes = {"train": data.train.data_hash}
    check = partial(
        check_scratch_resumable,
        steps_per_epoch=len(data.train.ids),
        vocabulary_size=len(data.vocabulary),
        hidden_size=config.model.hidden_size,
    )
    with hold(run, resume, console):
        checkpoint, final = find_resume_point(run, config, hashes, console, check) if resume else (None, None)
        return final or _train(config, data, hashes, run, checkpoint, console)


def _train(
    config: Config,
    data: ScratchData,
    hashes: dict[str, str],
    run: RunFolder,
    checkpoint: Checkpoint | None,
    console: Console | None,
) -> Metrics:
    """Train in a locked run folder, from a checkpoint if there is one; return the final metrics."""
    run.write_config(config)
    write_atomically(run.tokenizer_file, vocabulary_json(data.vocabulary))
    weights = initial_weights(len(data.vocabulary), config.model.hidden_size, config.training.seed)
    note(
        console,
        f"{len(data.train.ids):,} sentences, {data.train.tokens:,} words to train on, vocabulary "
        f"{len(data.vocabulary):,}, {sum(w.size for w in weights.values()):,} parameters, on cpu (NumPy), fp32; run "
        f"folder {run.path}",
    )
    curves = run.tensorboard if config.logging.tensorboard else None
    scalars = Scalars(curves, config.logging.tensorboard_every, checkpoint.progress["step"] if checkpoint else 0)
    identity = run_identity(config, hashes)
    trainer = SentenceTrainer(ScratchModel(weights), data.train.ids, config, run, console, identity, scalars)
    if checkpoint:
        trainer.resume(checkpoint)
        at = trainer.at
        note(console, f"resuming in epoch {at.epoch} after step {at.step_in_epoch} of {len(data.train.ids)}")
    try:
        position = trainer.train()
    finally:
        scalars.close()
    _, facts = run.read_weights({name: weight.shape for name, weight in weights.items()})
    best = next(line for line in position.history if line["epoch"] == position.best_epoch)
    figures: Metrics = {
        "train_loss": best["train_loss"],
        "unigram_train_loss": data.unigram_loss(),
        "train_sentences": len(data.train.ids),
        "train_tokens": data.train.tokens,
        "train_oov_rate": data.train.oov_rate,
        "train_data_hash": data.train.data_hash,
        "best_epoch": position.best_epoch,
    }
    if (saved := facts.get("epoch")) != position.best_epoch:
        raise RunError(
            f"{run.weights_file}: weights of epoch {saved}, expected those of the best epoch, {position.best_epoch}; "
            "the file was replaced during training; train again"
        )
    write_atomically(run.card_file, model_card(run.path, config, [*position.history, figures]))
    run.write_metrics([*position.history, figures])
    return figures


def evaluate_scratch(run: RunFolder, config: Config, data: str | Path | None, split: str | None) -> dict[str, Any]:
    """Score each sentence of a CSV file after its start token, in fp32.

    The training file is recognised by its hash, and reported as the ``train`` split.

    Args:
        run: the run folder.
        config: its configuration.
        data: a CSV file, or a folder with one; defaults to the run's own data.
        split: the split to report. Defaults to ``train`` for the run's own data, otherwise to ``test``.

    Returns:
        ``task, split, perplexity, nll`` (nats per token), ``tokens`` (words and end tokens), ``oov_rate, data_hash``.

    Raises:
        RunError: the run folder is invalid.
        DataError: the data is invalid, or the requested split does not exist.
    """
    header = run.open_weights(config.meaning())
    vocabulary = Vocabulary.load(run.tokenizer_file, config.data.level)
    if vocabulary.bos_id is None:
        raise RunError(f"{run.tokenizer_file}: has no start token; expected the vocabulary of {config.task.name}")
    if data is None and split in ("valid", "test"):
        raise DataError(
            f"{run.path}: this run was trained without a {split} text; give one with {option('data', 'OTHER.csv')}, or "
            f"omit {option('split')} to score the training sentences"
        )
    shapes = weight_shapes(len(vocabulary), config.model.hidden_size)
    model = ScratchModel(run.read_weights(shapes, header)[0])
    try:
        path = find_csv(config.data.path if data is None else data)
    except DataError as problem:
        where = (
            f" (where this run was trained; set the current path with {option('data', 'PATH')})" if data is None else ""
        )
        raise DataError(f"{problem}{where}") from None
    trained = (run.read_history(config.task.name).final or {}).get("train_data_hash")
    same = file_hash(path) == trained
    if split == "train" if not same and data is not None else split in ("valid", "test") and same:
        raise DataError(
            f"{path}: {'' if same else 'not '}the file that this run was trained on, so it is not a {split} text; omit "
            f"{option('split')}, or give another file"
        )
    if data is None and trained and not same:
        raise DataError(f"{path}: not the text that this run was trained on; name a file with {option('data', 'PATH')}")
    with for_finished_run():
        texts = read_sentences(path, config.data.column)
    if data is None or same:
        split, texts = "train", texts[: config.data.max_sentences or None]
    sentences = Sentences.encode(texts, vocabulary, path)
    nll, tokens = model.nll(sentences.ids)
    return {
        "task": config.task.name,
        "split": split or "test",
        "perplexity": math.exp(nll / tokens) if nll / tokens < 700 else math.inf,
        "nll": nll / tokens,
        "tokens": tokens,
        "oov_rate": sentences.oov_rate,
        "data_hash": sentences.data_hash,
    }
