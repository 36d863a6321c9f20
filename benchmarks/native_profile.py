"""Profiles the training step of each recipe: ``python benchmarks/native_profile.py DATA [PRECISION]``.

DATA contains the folders ptb, mnist and ud_en_ewt; PRECISION is fp32 (the default), high or bf16. Prints, for each
recipe, the median milliseconds per step and the share of each kind of call into the native engine; the rest is Python,
PyTorch's operations (dropout, embedding, the softmax of a small layer) and reading data.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from gatewise.bench.tagger import COMPARED
from gatewise.bench.training import ALONE, NOWHERE
from gatewise.bench.training_ours import Ours
from gatewise.config import load_config
from gatewise.engines.native import layer, loss, update
from gatewise.tasks.train import read_task

WORK: dict[str, tuple[str, dict[str, Any]]] = {
    "ptb-small": ("ptb", {}),
    "ptb-medium": ("ptb", {}),
    "ptb-large": ("ptb", {}),
    "mnist-rows": ("mnist", {}),
    "ewt-upos": ("ud_en_ewt", COMPARED),
}
PARTS = {
    "forward": "layers forward",
    "backward": "layers backward",
    "linear_loss": "loss",
    "gradient_norm": "norm and update",
    "update": "norm and update",
}
THREADS, SECONDS = 2, 10.0


class Timed:
    """The extension module with timed calls."""

    def __init__(self, module: Any, seconds: dict[str, float]) -> None:
        self.module, self.seconds = module, seconds

    def __getattr__(self, name: str) -> Any:
        found: Callable[..., Any] = getattr(self.module, name)
        if name not in PARTS:
            return found

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = found(*args, **kwargs)
            self.seconds[PARTS[name]] += time.perf_counter() - began
            return result

        return timed


def profile(recipe: str, data: Path, precision: str, seconds: dict[str, float]) -> None:
    """Print one line for a recipe."""
    folder, changed = WORK[recipe]
    config = load_config(recipe, {**changed, "data.path": str(data / folder), "training.precision": precision})
    task = read_task(config)
    torch.manual_seed(config.training.seed)
    work = task.workload(task.make_model(), NOWHERE, ALONE)
    ours, steps = Ours(config, work, {"threads": THREADS}), list[float]()
    ours.run(3)
    seconds.clear()
    while sum(steps) < SECONDS:
        steps.append(ours.run(1))
    parts = ", ".join(f"{name} {taken / sum(steps):.0%}" for name, taken in sorted(seconds.items()))
    rest = 1 - sum(seconds.values()) / sum(steps)
    print(f"{recipe:<11} {1e3 * median(steps):7.1f} ms per step: {parts}, the rest {rest:.0%}", flush=True)


def main(data: Path, precision: str = "fp32") -> None:
    """Profile every recipe with two threads."""
    seconds: dict[str, float] = defaultdict(float)
    for module in (layer, loss, update):
        module.native = Timed(module.native, seconds)
    for recipe in WORK:
        profile(recipe, data, precision, seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
