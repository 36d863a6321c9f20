"""Training of a scratch model: one sentence per step, in order; the learning rate drops when the loss rises."""

import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from rich.console import Console

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config, TrainingConfig
from gatewise.errors import TrainingStopped
from gatewise.scratch import ScratchModel, weight_shapes
from gatewise.training.checkpoints import (
    Checkpoint,
    Outline,
    check_best_kept,
    interrupted,
    kept,
    save_checkpoint,
    set_aside,
)
from gatewise.training.interrupt import InterruptGuard
from gatewise.training.position import Position
from gatewise.training.progress import EpochProgress, note
from gatewise.training.resumable import check_outline, check_position
from gatewise.training.scalars import Scalars


def learning_rate(settings: TrainingConfig, history: Sequence[Metrics]) -> float:
    """``learning_rate · lr_decay_on_rise^k``, k being the number of epochs in which the training loss rose."""
    losses = [line["train_loss"] for line in history]
    rises: int = sum(after > before for before, after in pairwise(losses))
    rate: float = settings.learning_rate * settings.lr_decay_on_rise**rises
    return rate


class SentenceTrainer:
    """Trains a scratch model; training can be interrupted and resumed with exactly the same result.

    Args:
        model: the model to train.
        sentences: token ids of each sentence: the start token, the words, the end token.
        config: the run's configuration.
        run: the folder for checkpoints, metrics and weights.
        console: output for progress and notes; None is silent.
        identity: JSON values saved in each checkpoint, which identify the run on resume.
        scalars: TensorBoard writer.
    """

    def __init__(
        self,
        model: ScratchModel,
        sentences: Sequence[Sequence[int]],
        config: Config,
        run: RunFolder,
        console: Console | None,
        identity: Mapping[str, Any],
        scalars: Scalars,
    ) -> None:
        self.model, self.sentences, self.config, self.run = model, sentences, config, run
        self.settings = config.training
        self.console, self.identity, self.scalars = console, identity, scalars
        self.at = Position()
        self._saved_at = time.monotonic()

    def train(self) -> Position:
        """Train from the current position to the end of the last epoch.

        Raises:
            Interrupted: a signal arrived; the step was completed, or the evaluation aborted, and a checkpoint saved.
            TrainingStopped: a loss or a weight was not finite.
        """
        self._saved_at = time.monotonic()
        with InterruptGuard() as guard:
            while self.at.epoch <= self.settings.epochs:
                with np.errstate(over="ignore", invalid="ignore"):  # a non-finite loss is reported in one line
                    self._train_epoch(guard)
                self._end_epoch(guard)
        return self.at

    def _train_epoch(self, guard: InterruptGuard) -> None:
        at, total, rate = self.at, len(self.sentences), learning_rate(self.settings, self.at.history)
        progress = EpochProgress(self.console, f"epoch {at.epoch}/{self.settings.epochs}", total, at.step_in_epoch)
        try:
            while at.step_in_epoch < total:
                self._step(self.sentences[at.step_in_epoch], rate)
                speed = at.trained_tokens / max(at.seconds, 1e-9)
                progress.update(at.step_in_epoch, f"loss {at.cost / at.units:.4f}  {speed:,.0f} words/s")
                if guard.requested or time.monotonic() - self._saved_at >= self.settings.checkpoint_every:
                    self.save()
                if guard.requested:
                    raise interrupted(self.run, f"in epoch {at.epoch}, step {at.step_in_epoch} of {total}")
        finally:
            progress.close()

    def _step(self, sentence: Sequence[int], rate: float) -> None:
        at, began, tokens = self.at, time.perf_counter(), len(sentence) - 1
        loss = self.model.step(sentence, rate)
        at.seconds += time.perf_counter() - began
        self._check_finite(loss, "the loss of the next step")
        at.cost += loss
        at.units += tokens
        at.trained_tokens += tokens
        self.scalars.step(at.step, loss / tokens)
        at.step += 1
        at.step_in_epoch += 1

    def _check_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise TrainingStopped(
                f"epoch {self.at.epoch}, step {self.at.step_in_epoch} of {len(self.sentences)}: {what} is {value}; "
                f"{kept(self.run)}; lower training.learning_rate"
            )

    def _end_epoch(self, guard: InterruptGuard) -> None:
        """Evaluate the epoch and save; a signal aborts the evaluation, which is repeated on resume."""
        at = self.at
        try:
            with guard.raising():
                nll, tokens = self.model.nll(self.sentences)
        except KeyboardInterrupt:
            self.save()
            raise interrupted(self.run, f"before the evaluation after epoch {at.epoch}") from None
        self._check_finite(nll, "the training loss")
        metrics: Metrics = {
            "epoch": at.epoch,
            "train_loss": nll / tokens,
            "learning_rate": learning_rate(self.settings, at.history),
            "tokens_per_second": round(at.trained_tokens / max(at.seconds, 1e-9), 1),
            "seconds": round(at.seconds, 2),
        }
        at.history.append(metrics)
        if metrics["train_loss"] < at.best:
            at.best, at.best_epoch = metrics["train_loss"], at.epoch
        self.scalars.epoch(at.step, metrics)
        note(
            self.console,
            f"epoch {at.epoch}/{self.settings.epochs}  train loss {metrics['train_loss']:.4f} nats per token  learning "
            f"rate {metrics['learning_rate']:g}  {metrics['tokens_per_second']:,.0f} words/s  "
            f"{metrics['seconds']:,.0f} s",
        )
        at.epoch += 1
        at.step_in_epoch, at.cost, at.units, at.seconds, at.trained_tokens = 0, 0.0, 0.0, 0.0, 0
        # The checkpoint is written first: it contains the same weights, so a kill right after it loses nothing.
        self.save()
        self._write_results()
        if guard.requested:
            raise interrupted(self.run, f"after epoch {at.epoch - 1}")

    def _write_results(self) -> None:
        """Write the metrics, and the weights if the latest epoch was the best."""
        self.run.write_metrics(self.at.history)
        if self.at.best_epoch == self.at.epoch - 1:
            facts = {"task": "scratch-language-model", "epoch": self.at.best_epoch, "config": self.config.meaning()}
            self.run.write_weights(self.model.weights(), facts)

    def save(self) -> None:
        """Save a checkpoint."""
        self._saved_at = time.monotonic()
        weights = self.model.weights()
        for array in weights.values():
            self._check_finite(float(np.abs(array).max()), "a weight")
        progress = {
            **vars(self.at),
            "best": self.at.best if math.isfinite(self.at.best) else None,
            "identity": dict(self.identity),
        }
        tensors = {f"model.{name}": torch.from_numpy(array) for name, array in weights.items()}
        save_checkpoint(self.run.checkpoints, Checkpoint(progress, tensors))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Restore the exact state of a checkpoint.

        Raises:
            RunError: the checkpoint is not from this run, or the best weights so far are lost; nothing is changed.
        """
        weights = {name.removeprefix("model."): tensor.numpy() for name, tensor in checkpoint.tensors.items()}
        saved = dict(checkpoint.progress)
        best = saved.pop("best")
        saved.pop("identity")
        at = Position(**saved, best=math.inf if best is None else best)
        if at.best_epoch and (at.step_in_epoch or at.best_epoch != at.epoch - 1):  # otherwise, they are rewritten below
            shapes = {name: weight.shape for name, weight in weights.items()}
            check_best_kept(self.run, shapes, "epoch", at.best_epoch, write=True)
        set_aside(checkpoint.passed_over)
        self.at, self.model = at, ScratchModel(weights)
        if not self.at.step_in_epoch:
            self._write_results()  # a kill may have occurred between the checkpoint and these writes


def check_scratch_resumable(
    progress: Mapping[str, Any], outline: Outline, steps_per_epoch: int, vocabulary_size: int, hidden_size: int
) -> None:
    """Check that training can resume from a checkpoint.

    Raises:
        ValueError: it cannot, with a one-line reason.
    """
    check_position(progress, steps_per_epoch, set(), evaluated=False)
    shapes = weight_shapes(vocabulary_size, hidden_size)
    check_outline(outline, {f"model.{name}": ("F32", shape) for name, shape in shapes.items()})
