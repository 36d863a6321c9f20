"""The training loop: step, clip, schedule, validate, save; shared by all tasks, for one or more processes."""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from rich.console import Console
from torch import Tensor, nn

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import TrainingConfig
from gatewise.errors import TrainingStopped
from gatewise.training.checkpoints import Checkpoint, interrupted, kept, save_checkpoint
from gatewise.training.device_step import DeviceStep
from gatewise.training.distributed import Group
from gatewise.training.interrupt import InterruptGuard
from gatewise.training.position import Position, learning_rate
from gatewise.training.progress import EpochProgress, heartbeat, note
from gatewise.training.resumable import prepare_resume
from gatewise.training.scalars import Scalars
from gatewise.training.step import Step


class Workload(Protocol):
    """What a task provides to the loop: the model, and the code of a step, an epoch and a validation."""

    @property
    def model(self) -> nn.Module:
        """The model to train."""

    steps_per_epoch: int
    token_name: str

    def tokens_in(self, step: int) -> int:
        """Return the number of tokens that all processes together read in a step."""

    def begin_epoch(self, epoch: int) -> None:
        """Start an epoch (counted from 1): shuffle the data, reset the carried state."""

    def inputs(self, step: int) -> Any:
        """Return this process's batch of a step on the CPU: tensors, or objects with ``to``, in tuples and mappings."""

    def cost(self, inputs: Any) -> tuple[Tensor, float]:
        """Return the scalar cost of a batch on the device, to differentiate, and the divisor that makes it a mean."""

    def carry_on(self, made: Tensor | None = None) -> None:
        """Keep the state after the last ``cost``; not called if the step was skipped.

        Args:
            made: on a device, whether the step was made, a scalar: the state changes in place, and only if so.
        """

    def carried(self) -> Mapping[str, Tensor]:
        """Return the carried state of all processes, for a checkpoint."""

    def restore(self, carried: Mapping[str, Tensor]) -> None:
        """Restore the carried state from a checkpoint."""

    def describe(self, loss: float) -> tuple[str, float]:
        """Return the name and value of the metric to report for a mean loss, such as ``perplexity``."""

    def validate(self) -> tuple[Metrics, float]:
        """Return the validation metrics, and the value to minimize."""

    def save_best(self, facts: Mapping[str, int]) -> None:
        """Save the weights as the run's best, with the metadata ``epoch`` and ``step``."""


class Trainer:
    """Trains a workload; training can be interrupted and resumed with exactly the same result.

    Args:
        workload: the task.
        settings: the ``[training]`` section.
        run: the folder for checkpoints and metrics.
        group: the processes that train together.
        console: output for progress and notes; None is silent.
        identity: JSON values saved in each checkpoint, which identify the run on resume.
        scalars: TensorBoard writer.
        engine: engine for gradient clipping and the optimizer step.
        graph: whether to capture steps as CUDA graphs on a GPU.
    """

    def __init__(
        self,
        workload: Workload,
        settings: TrainingConfig,
        run: RunFolder,
        group: Group,
        console: Console | None,
        identity: Mapping[str, Any],
        scalars: Scalars,
        engine: str = "auto",
        graph: bool = True,
    ) -> None:
        self.workload, self.settings, self.run, self.group = workload, settings, run, group
        self.console, self.identity, self.scalars = console, identity, scalars
        arguments = (workload, settings, group, console, scalars, engine)
        self.making = DeviceStep(*arguments, graph=graph) if group.runs_ahead else Step(*arguments)
        self.at = Position()
        self._saved_at = time.monotonic()

    def train(self) -> Position:
        """Train from the current position to the end.

        Raises:
            Interrupted: a signal arrived; the step was completed, or the evaluation aborted, and a checkpoint saved.
            TrainingStopped: too many consecutive steps were not finite.
        """
        self._saved_at = time.monotonic()
        with InterruptGuard() as guard:
            while not self._at_end():
                self._train_to_evaluation(guard)
                self._evaluate(guard)
        return self.at

    def _at_end(self) -> bool:
        at, settings = self.at, self.settings
        if not at.since_evaluation and 0 < settings.patience <= at.evaluations_since_best:
            note(self.console, f"no better evaluation in the last {settings.patience}: training ends early")
            return True
        done = at.step >= settings.max_steps and not at.since_evaluation  # the last steps are evaluated, too
        return done if settings.max_steps else at.epoch > settings.epochs

    def _steps_to_evaluation(self) -> int:
        """Return the number of steps to the next evaluation; 0 if one is due."""
        at, settings, epoch = self.at, self.settings, self.workload.steps_per_epoch
        ahead = epoch - at.step_in_epoch
        if settings.eval_every:
            to_end = ahead + epoch * (settings.epochs - at.epoch)
            due = at.since_evaluation and at.step % settings.eval_every == 0
            ahead = 0 if due else settings.eval_every - at.step % settings.eval_every
            ahead = ahead if settings.max_steps else min(ahead, to_end)
        return min(ahead, max(settings.max_steps - at.step, 0)) if settings.max_steps else ahead

    def _learning_rate(self, step: int) -> float:
        return learning_rate(self.settings, self.at, step, self.workload.steps_per_epoch)

    def _begin_epoch(self) -> None:
        self.making.set_learning_rate(self._learning_rate(self.at.step))
        if self.at.step_in_epoch == 0:
            self.workload.begin_epoch(self.at.epoch)

    def _end_epoch(self) -> None:
        if self.at.step_in_epoch == self.workload.steps_per_epoch:
            self.at.epoch, self.at.step_in_epoch = self.at.epoch + 1, 0

    def _title(self, ahead: int = 0) -> str:
        if self.settings.max_steps:
            return f"step {self.at.step + ahead}/{self.settings.max_steps}"
        return f"epoch {self.at.epoch}/{self.settings.epochs}"

    def _train_to_evaluation(self, guard: InterruptGuard) -> None:
        work, at = self.workload, self.at
        ahead, behind = self._steps_to_evaluation(), at.since_evaluation
        self._begin_epoch()
        work.model.train()
        progress = EpochProgress(self.console, self._title(ahead), behind + ahead, behind)
        try:
            for left in reversed(range(ahead)):
                if at.step_in_epoch == work.steps_per_epoch:
                    self._end_epoch()
                    self._begin_epoch()
                stop, save = self.step(guard)
                if self.making.waits or stop or save or not left or progress.is_due(at.since_evaluation):
                    self._read(progress)
                if stop or save:
                    self.save()
                if stop:
                    raise interrupted(self.run, f"in {self._where()}")
        finally:
            progress.close()

    def _where(self) -> str:
        return f"epoch {self.at.epoch}, step {self.at.step_in_epoch} of {self.workload.steps_per_epoch}"

    def _read(self, progress: EpochProgress) -> None:
        """Complete the sums of the steps made so far, and show them.

        Raises:
            TrainingStopped: too many consecutive steps were not finite.
        """
        work, at, began = self.workload, self.at, time.perf_counter()
        in_a_row = self.making.read(at)
        at.seconds += time.perf_counter() - began
        name, value = work.describe(at.cost / at.units if at.units else math.nan)
        speed = at.trained_tokens / max(at.seconds, 1e-9)
        progress.update(at.since_evaluation, f"{name} {self._shown(name, value)}  {speed:,.0f} {work.token_name}/s")
        if in_a_row >= self.settings.max_bad_steps:
            raise TrainingStopped(
                f"{in_a_row} consecutive steps were not finite ({self._where()}); {kept(self.run)}; lower "
                "training.learning_rate or training.max_grad_norm"
            )

    @staticmethod
    def _shown(name: str, value: float) -> str:
        return f"{value:,.2f}" if name == "perplexity" else f"{value:.4g}"

    def step(self, guard: InterruptGuard) -> tuple[bool, bool]:
        """Run one step; return whether to stop and whether to save, the same on every process."""
        work, at, began = self.workload, self.at, time.perf_counter()
        if self.settings.schedule == "cosine":
            self.making.set_learning_rate(self._learning_rate(at.step))
        stop, save = self.making.make(at, lambda: (guard.requested, self._is_due()))
        at.trained_tokens += work.tokens_in(at.step_in_epoch)
        at.step += 1
        at.step_in_epoch += 1
        at.since_evaluation += 1
        at.seconds += time.perf_counter() - began
        return stop, save

    def _is_due(self) -> bool:
        """Return whether it is time to save a checkpoint."""
        return self.group.is_writer and time.monotonic() - self._saved_at >= self.settings.checkpoint_every

    def _validate(self) -> tuple[Metrics, float]:
        """Evaluate the weights and, if there is one, their average; return the better evaluation."""
        figures, to_minimise = self.workload.validate()
        if not self.making.average:
            return figures, to_minimise
        with self.making.average.used():
            averaged, lower = self.workload.validate()
        if lower <= to_minimise or not math.isfinite(to_minimise):
            return {**averaged, "weights": "average"}, lower
        return {**figures, "weights": "last"}, to_minimise

    def _evaluate(self, guard: InterruptGuard) -> None:
        work, at, settings = self.workload, self.at, self.settings
        cost, units = self.group.sum(at.cost, at.units)
        name, trained = work.describe(cost / units if units else math.nan)
        try:
            # A signal aborts it, except with several processes: if one left alone, the others would wait for it.
            alone = self.group.world_size == 1
            with heartbeat(self.console, "evaluating"), guard.raising() if alone else nullcontext():
                figures, to_minimise = self._validate()
        except KeyboardInterrupt:
            self.save()
            raise interrupted(self.run, f"before the evaluation after step {at.step}") from None
        metrics: Metrics = {
            "epoch": at.epoch,
            **({"step": at.step} if settings.eval_every or settings.max_steps else {}),
            f"train_{name}": trained,
            **figures,
            "learning_rate": self._learning_rate(at.step - 1),
            "tokens_per_second": round(at.trained_tokens / max(at.seconds, 1e-9), 1),
            "seconds": round(at.seconds, 2),
        }
        if at.skipped:
            metrics["skipped_steps"] = at.skipped
        at.history.append(metrics)
        if to_minimise < at.best or not at.best_epoch:
            best = to_minimise if math.isfinite(to_minimise) else math.inf  # nothing compares below NaN
            at.best, at.best_epoch, at.best_step = best, at.epoch, at.step
        self.scalars.epoch(at.step, metrics)
        shown = {key: value for key, value in metrics.items() if key.startswith(("train_", "valid_"))}
        note(
            self.console,
            f"{self._title()}  "
            + "  ".join(f"{key.replace('_', ' ')} {self._shown(name, value)}" for key, value in shown.items())
            + (f"  {metrics['weights']} weights" if self.making.average else "")
            + f"  learning rate {metrics['learning_rate']:.4g}  {metrics['tokens_per_second']:,.0f} {work.token_name}/s"
            + f"  {metrics['seconds']:,.0f} s",
        )
        self._end_epoch()
        at.since_evaluation = 0
        at.cost, at.units, at.seconds, at.trained_tokens, at.skipped = 0.0, 0.0, 0.0, 0, 0
        # The checkpoint is written first: it contains the same weights, so a kill right after it loses nothing.
        self.save()
        self.write_results()
        if self.group.any(guard.requested)[0]:
            raise interrupted(self.run, f"after the evaluation of step {at.step}")

    def write_results(self) -> None:
        """Write the metrics, and the best weights if the latest evaluation was the best."""
        if self.group.is_writer:
            self.run.write_metrics(self.at.history)
            if self.at.best_step == self.at.step:
                averaged = self.at.history[-1].get("weights") == "average"
                with self.making.average.used() if averaged else nullcontext():
                    self.workload.save_best({"epoch": self.at.best_epoch, "step": self.at.best_step})
        self.group.wait()

    def save(self) -> None:
        """Save a checkpoint; every process must call this, and rank 0 writes."""
        tensors = {f"carried.{name}": tensor for name, tensor in self.workload.carried().items()}
        own = {"sums": torch.tensor([self.at.cost, self.at.units], dtype=torch.float64)}
        own["generator.cpu"] = torch.get_rng_state()
        if self.group.device.type == "cuda":
            own["generator.cuda"] = torch.cuda.get_rng_state(self.group.device)
        for name, mine in own.items():
            for rank, tensor in enumerate(self.group.gather(mine)):
                tensors[f"{name}.{rank}"] = tensor
        self._saved_at = time.monotonic()
        if not self.group.is_writer:
            return
        tensors |= {f"model.{name}": p.detach() for name, p in self.workload.model.named_parameters()}
        tensors |= {f"average.{index}": weight for index, weight in enumerate(self.making.average.weights)}
        for index, state in self.making.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in state.items() if isinstance(t, Tensor)}
        progress = {
            **vars(self.at),
            "best": self.at.best if math.isfinite(self.at.best) else None,
            "scaler": self.making.scaler.state_dict(),
            "world_size": self.group.world_size,
            "identity": dict(self.identity),
        }
        save_checkpoint(self.run.checkpoints, Checkpoint(progress, tensors))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Restore the exact state of a checkpoint; with another number of processes, approximately, with a note.

        Raises:
            RunError: the checkpoint is not from this run, or the best weights so far are lost; nothing is changed.
        """
        prepare_resume(checkpoint, self.run, self.workload, self.settings, self.group)
        saved, tensors = dict(checkpoint.progress), checkpoint.tensors
        best, scaler, world_size, _ = (saved.pop(key) for key in ("best", "scaler", "world_size", "identity"))
        self.at = Position(**saved, best=math.inf if best is None else best)
        with torch.no_grad():
            for name, parameter in self.workload.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        average = self.making.average.weights
        average[:] = [tensors[f"average.{k}"].to(self.group.device) for k in range(len(average))]
        states: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                states.setdefault(int(index), {})[name] = tensor
        optimizer = self.making.optimizer
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
        if self.making.scaler.is_enabled():
            self.making.scaler.load_state_dict(scaler)
        self.workload.begin_epoch(self.at.epoch)
        if self.at.step_in_epoch:
            self.workload.restore(
                {key.removeprefix("carried."): t for key, t in tensors.items() if key.startswith("carried.")}
            )
        if world_size == self.group.world_size:
            self.at.cost, self.at.units = tensors[f"sums.{self.group.rank}"].tolist()
            torch.set_rng_state(tensors[f"generator.cpu.{self.group.rank}"])
            if self.group.device.type == "cuda":
                torch.cuda.set_rng_state(tensors[f"generator.cuda.{self.group.rank}"], self.group.device)
        else:
            sums = torch.stack([tensors[f"sums.{rank}"] for rank in range(world_size)]).sum(0)
            self.at.cost, self.at.units = (sums if self.group.is_writer else 0 * sums).tolist()
            torch.manual_seed(self.settings.seed + self.at.step + 1_000_003 * self.group.rank)
            note(
                self.console,
                f"the checkpoint was saved with {world_size} processes, this run has {self.group.world_size}: rows and "
                "carried state are redistributed; losses agree up to rounding without dropout, dropout masks differ",
            )
        if not self.at.since_evaluation:
            self.write_results()  # a kill may have occurred between the checkpoint and these writes
