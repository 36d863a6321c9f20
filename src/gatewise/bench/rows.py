"""``gatewise bench rows``: the row reader's training step against a PyTorch program of the same model."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatewise.bench.training import batches_of, compare_training, refuse_where_memory_cannot_be_measured
from gatewise.config import Config, load_config
from gatewise.tasks.sequence_classification import LabelledSequences, SequenceClassifierTask

RECIPE = "mnist-rows"
_IMAGES, _HELD_BACK = 20_000, 500


def bench_rows(
    data: str | Path | None = None,
    *,
    precision: str = "fp32",
    peer_precision: str = "fp32",
    threads: int = 0,
    turns: int = 5,
) -> dict[str, Any]:
    """Check that both programs give the same cost and gradients, then time their training steps in turns.

    Uses the recipe ``mnist-rows``; both sides get the same batches and, in the check, the same dropout masks.

    Args:
        data: a folder as the recipe reads it; defaults to random images of 28 × 28.
        precision: our precision, as in ``training.precision``.
        peer_precision: ``fp32``, ``bf16`` (autocast) or ``bf16 module`` (the module's own weights in 16 bits).
        threads: threads per program; 0 uses PyTorch's default.
        turns: number of timings of each.

    Returns:
        Images per second of each (median), their ratio (median over the turns), and peak memory in MiB.

    Raises:
        OutputsDiffer: the check failed.
    """
    refuse_where_memory_cannot_be_measured()
    changed = {"training.precision": precision}
    timed = {"peer_precision": peer_precision, "threads": threads, "turns": turns}
    if data is not None:
        return _bench(load_config(RECIPE, {"data.path": str(data), **changed}), timed, "files")
    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(1)
        x, y = draw.integers(0, 256, (_IMAGES, 28, 28), dtype=np.uint8), draw.integers(0, 10, _IMAGES)
        np.savez(Path(folder, "train.npz"), x=x, y=y)
        sizes = {"data.valid_size": _HELD_BACK, "data.test_size": _HELD_BACK}
        return _bench(load_config(RECIPE, {"data.path": folder, **sizes, **changed}), timed, "random images")


def _bench(config: Config, timed: dict[str, Any], what: str) -> dict[str, Any]:
    task = SequenceClassifierTask(config)
    torch.manual_seed(config.training.seed)
    model = task.make_model()

    def write_data(folder: Path) -> dict[str, Any]:
        part = task.parts["train"]
        assert isinstance(part, LabelledSequences)
        np.savez(folder / "arrays.npz", x=part.part.x, y=part.targets, batches=batches_of(task, model))
        return {"arrays": str(folder / "arrays.npz"), "scale": part.part.scale, "labels": len(task.labels)}

    result = compare_training(
        config,
        model,
        write_data,
        ours="training_ours",
        peer="rows_pytorch",
        tokens=config.data.batch_size,
        token_name="images",
        **timed,
    )
    return {"bench": "rows", "recipe": RECIPE, "data": what, **result}
