"""``gatewise bench footprint``: outputs are checked first, and measurements are saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.bench import footprint
from gatewise.bench.harness import OutputsDiffer
from gatewise.errors import DataError


@pytest.mark.parametrize("make", footprint.NETWORKS.values())
def test_one_batch_says_what_each_image_says(
    make: Callable[[dict[str, Any]], footprint.Prediction], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random((40, 28, 28), np.float32))
    side = make({"images": tmp_path / "x.npy", "threads": torch.get_num_threads()})

    class Answers:
        peak_mib = 1.0

        def ask(self, method: str) -> Any:
            return getattr(side, method)()

        def run(self, steps: int) -> float:
            return side.run(steps)

    answers: Any = Answers()
    found = footprint._measure_memory(answers, "x")
    assert (found["start_mib"], found["peak_mib"]) == (1.0, 1.0)
    honest = side.predict
    side.predict = lambda images: honest(images.flip(0)) if len(images) == 40 else honest(images)
    with pytest.raises(OutputsDiffer, match=r"x: probability differs by .*; nothing is timed"):
        footprint._measure_memory(answers, "x")
    side.predict = lambda images: 1.01 * honest(images)
    with pytest.raises(OutputsDiffer, match=r"x: sum differs by .*; nothing is timed"):
        footprint._measure_memory(answers, "x")


def test_other_images(sequences: Path) -> None:
    with pytest.raises(DataError, match="30 test images of 6x4; expected 10 of 28x28"):
        footprint.bench_footprint(sequences, images=10, turns=1)
