"""``python -m benchmarks.sixteen_bits DATA``: what 16 bits cost in quality.

DATA contains Penn Treebank in the folder ptb. Trains ``ptb-small`` for one epoch from the same initial weights, with
two threads: by Gatewise in bf16, and by the PyTorch program of ``benchmarks.training`` as a module of 16 bits and in
fp32. Prints the perplexity of the test text, computed in fp32. Takes seven minutes.
"""

import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.training import ours
from benchmarks.training.language_model import LanguageModelPeer
from gatewise.config import load_config
from gatewise.tasks.train import read_task


def main(data: Path) -> None:
    """Print one line for each way to train."""
    config = load_config("ptb-small", {"data.path": str(data / "ptb"), "training.precision": "bf16"})
    task: Any = read_task(config)
    torch.manual_seed(config.training.seed)
    model, texts = task.make_model(), task.data.texts
    steps = (len(texts["train"].ids) // config.data.batch_size - 1) // config.data.tbptt_length
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, weights)
        arguments: dict[str, Any] = {"config": config.model_dump(), "threads": 2, "weights": weights}

        def report(name: str, trained: nn.Module) -> None:
            model.load_state_dict({key: weight.float() for key, weight in trained.state_dict().items()})
            nll, tokens = model.score(texts["test"].ids)
            print(f"{name:<20} test perplexity {math.exp(nll / tokens):.2f}", flush=True)

        us = ours.make(arguments)
        us.run(us.work.steps_per_epoch)
        report("Gatewise bf16", us.work.model)
        for precision in ("bf16 module", "fp32"):
            own = {"ids": texts["train"].ids.copy(), "vocabulary": len(model.vocabulary), "peer_precision": precision}
            peer = LanguageModelPeer(arguments | own)
            peer.run(steps)
            report(f"PyTorch {precision}", peer.model)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
