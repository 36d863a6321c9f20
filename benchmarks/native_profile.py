"""``python -m benchmarks.native_profile DATA [PRECISION]``: where each recipe's training step spends its time.

DATA contains the folders ptb, mnist and ud_en_ewt; PRECISION is fp32 (the default), high or bf16. Prints, for each
recipe, the median milliseconds per step and the share of each kind of call into the native engine; the rest is Python,
PyTorch's operations (dropout, embedding, the softmax of a small layer) and reading data.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.training import ours
from benchmarks.training.comparison import COMPARISONS
from benchmarks.training.table import FOLDERS, TARGETS
from gatewise.config import load_config
from gatewise.engines.native.module import native

PARTS = {
    "forward": "layers forward",
    "backward": "layers backward",
    "linear_loss": "loss",
    "gradient_norm": "norm and update",
    "update": "norm and update",
}
THREADS, SECONDS = 2, 10.0


def timed(call: Callable[..., Any], part: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """Return a call that adds its time to that of its part."""

    @wraps(call)
    def measured(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        result = call(*arguments, **named)
        seconds[part] += time.perf_counter() - began
        return result

    return measured


def main(data: Path, precision: str = "fp32") -> None:
    """Print one line for each recipe, with two threads."""
    seconds: dict[str, float] = defaultdict(float)
    for name, part in PARTS.items():
        setattr(native, name, timed(getattr(native, name), part, seconds))
    for recipe in TARGETS:
        changed = COMPARISONS[load_config(recipe).task.name].changed
        folder = str(data / FOLDERS.get(recipe, "ptb"))
        config = load_config(recipe, {**changed, "data.path": folder, "training.precision": precision})
        torch.manual_seed(config.training.seed)
        work = ours.make({"config": config.model_dump(), "threads": THREADS})
        work.run(3)
        seconds.clear()
        steps = list[float]()
        while sum(steps) < SECONDS:
            steps.append(work.run(1))
        parts = ", ".join(f"{name} {taken / sum(steps):.0%}" for name, taken in sorted(seconds.items()))
        rest = 1 - sum(seconds.values()) / sum(steps)
        print(f"{recipe:<11} {1e3 * median(steps):7.1f} ms per step: {parts}, the rest {rest:.0%}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
