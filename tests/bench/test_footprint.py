"""``gatewise bench footprint``: outputs are checked first, and measurements are saved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gatewise.bench import footprint
from gatewise.bench.footprint_convolution import Convolution
from gatewise.bench.footprint_rows import RowReader
from gatewise.bench.training import OutputsDiffer
from gatewise.errors import DataError


@pytest.mark.parametrize("kind", [RowReader, Convolution])
def test_one_batch_says_what_each_image_says(kind: type[footprint.Prediction], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random((40, 28, 28), np.float32))
    side = kind({"images": str(tmp_path / "x.npy"), "threads": torch.get_num_threads()})
    side.check(tmp_path / "c.safetensors")

    class Answers:
        def ask(self, **question: object) -> dict[str, int]:
            if question["do"] == "check":
                assert (tmp_path / "c.safetensors").is_file()
            return {"bytes": 1 << 20}

    answers = Answers()
    found = footprint._measure_memory(answers, "x", tmp_path / "c.safetensors")  # type: ignore[arg-type]
    assert (found["start_mib"], found["peak_mib"]) == (1.0, 1.0)
    honest = side.predict
    side.predict = lambda images: honest(images.flip(0)) if len(images) == 40 else honest(images)  # type: ignore[method-assign]
    side.check(tmp_path / "c.safetensors")
    with pytest.raises(OutputsDiffer, match=r"x: probabilities in one batch differ by .*; nothing is measured"):
        footprint._measure_memory(answers, "x", tmp_path / "c.safetensors")  # type: ignore[arg-type]


def test_other_images(sequences: Path) -> None:
    with pytest.raises(DataError, match="30 test images of 6x4; expected 10 of 28x28"):
        footprint.bench_footprint(sequences, images=10, turns=1)
