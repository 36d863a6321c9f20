"""Our runner: the training loop's own step on a task's workload."""

import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gatewise.bench.runners import serve, write_cost_and_gradients
from gatewise.bench.training import ALONE, NOWHERE
from gatewise.config import Config
from gatewise.tasks.train import read_task
from gatewise.training.interrupt import InterruptGuard
from gatewise.training.loop import Trainer, Workload
from gatewise.training.memory import keep_freed_memory
from gatewise.training.scalars import Scalars


class Ours:
    """The training steps of ``gatewise train``.

    Args:
        config: the run's configuration.
        work: the task's workload.
        arguments: ``threads``, and the file ``weights`` with initial weights; without it, the model is used as it is.
    """

    def __init__(self, config: Config, work: Workload, arguments: dict[str, Any]) -> None:
        torch.set_num_threads(arguments["threads"])
        keep_freed_memory()
        if "weights" in arguments:
            work.model.load_state_dict(load_file(arguments["weights"]))
        self.work = work
        self.trainer = Trainer(work, config.training, NOWHERE, ALONE, None, {}, Scalars(None), config.runtime.engine)
        self.guard = InterruptGuard()

    def check(self, to: Path) -> None:
        """Write the cost and gradients of the first step, before clipping."""
        self.work.model.eval()
        cost, _ = self.work.cost(0)
        write_cost_and_gradients(self.work.model, cost, to)

    def run(self, steps: int) -> float:
        """Do training steps, restarting at the end of the data."""
        self.work.model.train()
        at, began = self.trainer.at, time.perf_counter()
        for _ in range(steps):
            if at.step_in_epoch == self.work.steps_per_epoch:
                at.step_in_epoch = 0
                self.work.begin_epoch(1)
            self.trainer.step(self.guard)
        return time.perf_counter() - began


def make(arguments: dict[str, Any]) -> Ours:
    """Read the data named by the configuration, as ``gatewise train`` does."""
    config = Config.model_validate(arguments["config"])
    task = read_task(config)
    return Ours(config, task.workload(task.make_model(), NOWHERE, ALONE), arguments)


if __name__ == "__main__":
    serve(make)
