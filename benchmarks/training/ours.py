"""Our runner: the training loop's own step on a task's workload."""

import gc
from pathlib import Path
from timeit import timeit
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.training.pytorch import write_cost_and_gradients
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.tasks.task import Task
from gatewise.tasks.train import read_task
from gatewise.training.batches import BatchWorkload
from gatewise.training.distributed import Group
from gatewise.training.interrupt import InterruptGuard
from gatewise.training.loop import Trainer, Workload
from gatewise.training.memory import keep_freed_memory
from gatewise.training.scalars import Scalars

NOWHERE, ALONE = RunFolder("no-run"), Group(0, 1, torch.device("cpu"))
"""Settings of our runner, which writes no logs and uses a single process."""


class Ours:
    """The training steps of ``gatewise train``.

    Args:
        config: the run's configuration.
        work: the task's workload.
        arguments: ``threads``; the file ``weights`` with initial weights, without which the model is used as it is;
            ``group``, the process and its device, by default ``ALONE``.
    """

    def __init__(self, config: Config, work: Workload, arguments: dict[str, Any]) -> None:
        torch.set_num_threads(arguments["threads"])
        keep_freed_memory()
        if "weights" in arguments:
            work.model.load_state_dict(load_file(arguments["weights"]))
        self.work = work
        group = arguments.get("group", ALONE)
        self.trainer = Trainer(work, config.training, NOWHERE, group, None, {}, Scalars(None), config.runtime.engine)
        self.guard = InterruptGuard()

    def check(self, to: Path) -> None:
        """Write the cost and gradients of the first step, before clipping."""
        self.work.model.eval()
        cost, _ = self.work.cost(self.work.inputs(0))
        write_cost_and_gradients(self.work.model, cost, to)

    def run(self, steps: int) -> float:
        """Do training steps, restarting at the end of the data; return their seconds."""
        self.work.model.train()
        return timeit(self.step, gc.enable, number=steps)

    def step(self) -> None:
        """Do one training step."""
        at = self.trainer.at
        if at.step_in_epoch == self.work.steps_per_epoch:
            at.step_in_epoch = 0
            self.work.begin_epoch(1)
        self.trainer.step(self.guard)


def make(arguments: dict[str, Any]) -> Ours:
    """Read the data named by the configuration, as ``gatewise train`` does."""
    config = Config.model_validate(arguments["config"])
    task = read_task(config)
    return Ours(config, task.workload(task.make_model(), NOWHERE, ALONE), arguments)


def batches_of(task: Task, model: nn.Module) -> npt.NDArray[np.int64]:
    """Return the batches of the first epoch, (steps, B) indices into the training split, for a peer to read."""
    work = task.workload(model, NOWHERE, ALONE)
    assert isinstance(work, BatchWorkload)
    return np.stack([work.chosen(step) for step in range(work.steps_per_epoch)])
