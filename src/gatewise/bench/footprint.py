"""``gatewise bench footprint``: peak memory and time to predict many images in one batch, for two networks."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from timeit import timeit
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatewise.bench.harness import Runner, agree, in_turns, ratios
from gatewise.config import load_config
from gatewise.data.arrays import find_sequences, scaled
from gatewise.errors import DataError
from gatewise.models.sequence_classifier import SequenceClassifier

_CHECKED = 256
_TOLERANCE = 1e-5


class Prediction:
    """The work of a runner: predict all images in one batch, with random weights, which no measurement depends on.

    Args:
        model: the network.
        probabilities: returns the probabilities (N, 10) of one batch (N, 28, 28).
        images: a file of (N, 28, 28) float32 in 0..1.
        threads: PyTorch's threads.
    """

    def __init__(self, model: nn.Module, probabilities: Callable[[Tensor], Tensor], images: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model, self.predict, self.images = model.eval(), probabilities, torch.from_numpy(np.load(images))

    def parameters(self) -> int:
        """Return the number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def check(self) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]]]:
        """Return the probabilities of some images and their sums, as one batch predicts them and as it should."""
        some = self.images[:_CHECKED]
        alone = torch.cat([self.predict(part) for part in torch.split(some, _CHECKED // 8)]).numpy()
        batch = self.predict(some).numpy()
        ones = np.ones(len(batch), np.float32)
        return {"probability": batch, "sum": batch.sum(1)}, {"probability": alone, "sum": ones}

    def run(self, steps: int) -> float:
        """Predict all images ``steps`` times."""
        return timeit(lambda: self.predict(self.images), number=steps)


def row_reader(arguments: dict[str, Any]) -> Prediction:
    """Make our network: the row reader of ``mnist-rows``, which reads each image as 28 rows of 28 numbers."""
    torch.manual_seed(1)
    reader = SequenceClassifier(load_config("mnist-rows").model, 28, list(range(10)), steps=28)
    return Prediction(reader, lambda images: reader.predict_proba(images, batch_size=len(images)), **arguments)


def convolution(arguments: dict[str, Any]) -> Prediction:
    """Make the other: two convolutions of 5x5, 2x2 pooling after each, 1,024 dense units, as in tutorials."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(7 * 7 * 64, 1024),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(1024, 10),
    )
    predict = torch.no_grad()(lambda images: network(images[:, None]).softmax(-1))
    return Prediction(network, predict, **arguments)


NETWORKS = {
    "row reader, 2 LSTM layers of 256": row_reader,
    "convolutional network, 32 and 64 channels": convolution,
}
"""What makes each network, by its name; ours first."""


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
    x, threads = _images(data, images), threads or torch.get_num_threads()
    runners: dict[str, Runner] = {}
    with ExitStack() as running:
        file = Path(running.enter_context(TemporaryDirectory()), "images.npy")
        np.save(file, x)
        for name, make in NETWORKS.items():
            runners[name] = running.enter_context(Runner(make, {"images": file, "threads": threads}))
        networks = [_measure_memory(runner, name) for name, runner in runners.items()]
        _, seconds = in_turns({name: runner.run for name, runner in runners.items()}, turns, steps=1)
    for network in networks:
        network["seconds"] = seconds[network["name"]]
    ours, other = networks
    return {
        "bench": "footprint",
        "images": len(x),
        "data": "random" if data is None else "test images",
        "threads": threads,
        "contestants": networks,
        "memory_ratio": other["peak_mib"] / ours["peak_mib"],
        "time_ratio": ratios(ours["seconds"], other["seconds"])["ratio"],
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


def _measure_memory(side: Runner, name: str) -> dict[str, Any]:
    """Check one runner, and read its peak memory before and after its first batch."""
    together, expected = side.ask("check")
    agree(together, expected, _TOLERANCE, name)
    start = side.peak_mib
    side.run(1)
    return {"name": name, "parameters": side.ask("parameters"), "start_mib": start, "peak_mib": side.peak_mib}
