"""``gatewise bench footprint``: peak memory and time to predict many images in one batch, for two networks."""

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gatewise.bench.runners import Runner
from gatewise.bench.training import OutputsDiffer
from gatewise.data.arrays import find_sequences, scaled
from gatewise.errors import DataError, UsageError

NAMES = {
    "footprint_rows": "row reader, 2 LSTM layers of 256",
    "footprint_convolution": "convolutional network, 32 and 64 channels",
}
"""The module of each runner and the name of its network."""

_CHECKED = 256
_TOLERANCE = 1e-5


class Prediction:
    """The work of a runner: predict all images in one batch, with random weights, which no measurement depends on.

    Attributes:
        model: the network, in eval mode.
        images: (N, 28, 28) float32 in 0..1.
    """

    model: nn.Module

    def __init__(self, arguments: dict[str, Any]) -> None:
        torch.set_num_threads(arguments["threads"])
        self.images = torch.from_numpy(np.load(arguments["images"]))

    def predict(self, images: Tensor) -> Tensor:
        """Return the probabilities (N, 10) of one batch."""
        raise NotImplementedError

    def check(self, to: Path) -> None:
        """Write the probabilities of some images, in one batch and one by one, and the number of parameters."""
        some = self.images[:_CHECKED]
        alone = torch.cat([self.predict(part) for part in torch.split(some, _CHECKED // 8)])
        weights = sum(p.numel() for p in self.model.parameters())
        save_file({"batch": self.predict(some), "alone": alone, "weights": torch.tensor(weights)}, to)

    def run(self, steps: int) -> float:
        """Predict all images ``steps`` times."""
        began = time.perf_counter()
        for _ in range(steps):
            self.predict(self.images)
        return time.perf_counter() - began


def bench_footprint(
    data: str | Path | None = None, *, images: int = 10_000, threads: int = 0, turns: int = 5
) -> dict[str, Any]:
    """Check each network's outputs, measure its peak memory, then time both in turns.

    Each network runs in its own process. Its peak resident memory is read before and after the first batch; each turn
    times one batch.

    Args:
        data: a folder with MNIST's IDX files, whose test images are used; defaults to random numbers in 0..1.
        images: number of images, from the start of the data.
        threads: threads per network; 0 uses PyTorch's default.
        turns: number of timings of each.

    Returns:
        For each network: name, parameters, ``start_mib`` and ``peak_mib`` of its process, and the seconds of each
        turn; also ``memory_ratio`` and ``time_ratio``, the other network's value over ours (for time, the median).

    Raises:
        OutputsDiffer: a network's predictions in one batch differ from those image by image.
        DataError: the data is not MNIST, or has too few images.
    """
    if os.name == "nt":
        raise UsageError("benchmarks measure peak memory as reported by Linux and macOS; run them there")
    x, threads = _images(data, images), threads or torch.get_num_threads()
    here = __name__.rpartition(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        file, checked = Path(folder, "images.npy"), Path(folder, "checked.safetensors")
        np.save(file, x)
        arguments = {"images": str(file), "threads": threads}
        with (
            Runner(f"{here}.footprint_rows", arguments, {}) as rows,
            Runner(f"{here}.footprint_convolution", arguments, {}) as convolution,
        ):
            sides = list(zip((rows, convolution), NAMES.values(), strict=True))
            networks = [_measure_memory(side, name, checked) for side, name in sides]
            for turn in range(turns):
                pairs = list(zip((rows, convolution), networks, strict=True))
                for side, figures in pairs if turn % 2 == 0 else reversed(pairs):
                    figures["seconds"].append(side.ask(do="run", steps=1)["seconds"])
    ours, other = networks
    return {
        "bench": "footprint",
        "images": len(x),
        "data": "random" if data is None else "test images",
        "threads": threads,
        "contestants": networks,
        "memory_ratio": other["peak_mib"] / ours["peak_mib"],
        "time_ratio": median(b / a for a, b in zip(ours["seconds"], other["seconds"], strict=True)),
        "torch": torch.__version__,
    }


def _images(data: str | Path | None, count: int) -> npt.NDArray[np.float32]:
    if data is None:
        return np.random.default_rng(1).random((count, 28, 28), dtype=np.float32)
    part = find_sequences(data, 1, 1)["test"]
    if part.x.shape[1:] != (28, 28) or len(part) < count:
        raise DataError(
            f"{data}: {len(part):,} test images of {part.x.shape[1]}x{part.x.shape[2]}; expected {count:,} of 28x28"
        )
    return scaled(part.x[:count], part.scale)


def _measure_memory(side: Runner, name: str, checked: Path) -> dict[str, Any]:
    """Check one runner, and read its peak memory before and after its first batch."""
    side.ask(do="check", to=str(checked))
    found = load_file(checked)
    gap = float((found["batch"] - found["alone"]).abs().max())
    total = float((found["batch"].sum(-1) - 1).abs().max())
    if not max(gap, total) <= _TOLERANCE:
        raise OutputsDiffer(f"{name}: probabilities in one batch differ by {max(gap, total):.2e}; nothing is measured")
    start = side.ask(do="peak")["bytes"]
    side.ask(do="run", steps=1)
    peak = side.ask(do="peak")["bytes"]
    return {
        "name": name,
        "parameters": int(found["weights"]),
        "start_mib": start / 2**20,
        "peak_mib": peak / 2**20,
        "seconds": list[float](),
    }
