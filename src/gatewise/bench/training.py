"""What the duels of training steps share: the same weights and settings to both sides, and what must agree."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gatewise.artifact.run_folder import RunFolder
from gatewise.bench.duel import fight
from gatewise.config import Config
from gatewise.errors import GatewiseError, UsageError
from gatewise.tasks.task import Task
from gatewise.training.batches import BatchWorkload
from gatewise.training.distributed import Group

TOLERANCE = {"fp32": 1e-4, "high": 1e-3, "bf16": 6e-2, "bf16 module": 6e-2}
"""Of the largest entry of each gradient: sums of the same numbers in another order, of factors with fewer bits."""

NOWHERE, ALONE = RunFolder("no-run"), Group(0, 1, torch.device("cpu"))
"""Where our contestants write nothing, and the one process that each is."""


class OutputsDiffer(GatewiseError):
    """The two programs do not compute the same; nothing is timed."""


def refuse_where_memory_cannot_be_measured() -> None:
    """Refuse Windows.

    Raises:
        UsageError: this is Windows.
    """
    if os.name == "nt":
        raise UsageError("benchmarks measure peak memory as Linux and macOS report it; run them there")


def compare_training(
    config: Config,
    model: nn.Module,
    write_data: Callable[[Path], dict[str, Any]],
    *,
    ours: str,
    peer: str,
    tokens: float,
    token_name: str,
    threads: int,
    turns: int,
    peer_precision: str = "fp32",
) -> dict[str, Any]:
    """Check that two programs give the same cost and gradients, then time their training steps in turns.

    The check is without dropout, whose masks differ.

    Args:
        config: the run's configuration; both sides are given it.
        model: where both sides start.
        write_data: writes what both read into a folder, and returns the arguments by which they find it.
        ours: our contestant, a module of this package.
        peer: the peer's.
        tokens: in a step, on average.
        token_name: what they are.
        threads: of each program; PyTorch's own choice where 0.
        turns: how often each is timed.
        peer_precision: ``fp32``, ``bf16`` (autocast) or ``bf16 module`` (the module's own weights in 16 bits).

    Returns:
        Tokens a second of each (median), their ratio (median over the turns), and the peaks of memory in MiB.

    Raises:
        OutputsDiffer: the check failed.
    """
    here = __name__.rpartition(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.safetensors")
        save_file(model.state_dict(), weights)
        threads = threads or torch.get_num_threads()
        shared = {
            "config": config.model_dump(),
            "threads": threads,
            "weights": str(weights),
            "peer_precision": peer_precision,
        }
        tolerance = max(TOLERANCE[config.training.precision], TOLERANCE[peer_precision])
        duel = fight(
            f"{here}.{ours}",
            f"{here}.{peer}",
            {**shared, **write_data(Path(folder))},
            lambda a, b: agree(a, b, tolerance),
            turns,
        )
    return {
        "precision": config.training.precision,
        "peer_precision": peer_precision,
        "threads": threads,
        f"ours_{token_name}_per_second": tokens / median(duel.ours_seconds),
        f"pytorch_{token_name}_per_second": tokens / median(duel.peer_seconds),
        **duel.as_json(),
        "torch": torch.__version__,
    }


def batches_of(task: Task, model: nn.Module) -> npt.NDArray[np.int64]:
    """Return the first epoch's batches, (steps, B) places in the training part, for a peer to read."""
    work = task.workload(model, NOWHERE, ALONE)
    assert isinstance(work, BatchWorkload)
    return np.stack([work.batch(step) for step in range(work.steps_per_epoch)])


def agree(ours: Path, peer: Path, tolerance: float) -> None:
    """Compare cost and every gradient by name.

    Raises:
        OutputsDiffer: they differ.
    """
    a, b = load_file(ours), load_file(peer)
    if set(a) != set(b):
        raise OutputsDiffer(f"only one program has {', '.join(sorted(set(a) ^ set(b)))}; nothing is timed")
    for name in sorted(a):
        x, y = a[name].float(), b[name].float()
        difference = float((x - y).abs().max() / y.abs().max().clamp(min=1e-12))
        if not difference <= tolerance:
            raise OutputsDiffer(
                f"{name} differs by {difference:.2e} of its largest entry; expected at most {tolerance}; not timed"
            )
