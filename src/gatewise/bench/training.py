"""Shared code of the training-step comparisons: both sides get the same weights and settings, and must agree."""

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
from gatewise.bench.runners import compare_in_turns
from gatewise.config import Config
from gatewise.errors import GatewiseError, UsageError
from gatewise.tasks.task import Task
from gatewise.training.batches import BatchWorkload
from gatewise.training.distributed import Group

TOLERANCE = {"fp32": 1e-4, "high": 1e-3, "bf16": 6e-2, "bf16 module": 6e-2}
"""Relative to the largest entry of each gradient; the summation order differs, and some factors have fewer bits."""

NOWHERE, ALONE = RunFolder("no-run"), Group(0, 1, torch.device("cpu"))
"""Settings of our runner, which writes no logs and uses a single process."""


class OutputsDiffer(GatewiseError):
    """The two programs do not compute the same result; nothing is timed."""


def refuse_where_memory_cannot_be_measured() -> None:
    """Refuse Windows, which does not report peak memory this way.

    Raises:
        UsageError: this is Windows.
    """
    if os.name == "nt":
        raise UsageError("benchmarks measure peak memory as reported by Linux and macOS; run them there")


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

    The check disables dropout, as the masks differ.

    Args:
        config: the run's configuration, passed to both sides.
        model: the initial model for both sides.
        write_data: writes the data for both sides into a folder, and returns the arguments that locate it.
        ours: our runner, a module of this package.
        peer: the peer's runner.
        tokens: mean number of tokens per step.
        token_name: the name of a token, in the plural.
        threads: threads per program; 0 uses PyTorch's default.
        turns: number of timings of each.
        peer_precision: ``fp32``, ``bf16`` (autocast) or ``bf16 module`` (the module's own weights in 16 bits).

    Returns:
        Tokens per second of each (median), their ratio (median over the turns), and peak memory in MiB.

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
        comparison = compare_in_turns(
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
        f"ours_{token_name}_per_second": tokens / median(comparison.ours_seconds),
        f"pytorch_{token_name}_per_second": tokens / median(comparison.peer_seconds),
        **comparison.as_json(),
        "torch": torch.__version__,
    }


def batches_of(task: Task, model: nn.Module) -> npt.NDArray[np.int64]:
    """Return the batches of the first epoch, (steps, B) indices into the training split, for a peer to read."""
    work = task.workload(model, NOWHERE, ALONE)
    assert isinstance(work, BatchWorkload)
    return np.stack([work.batch(step) for step in range(work.steps_per_epoch)])


def agree(ours: Path, peer: Path, tolerance: float) -> None:
    """Compare the cost and every gradient by name.

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
