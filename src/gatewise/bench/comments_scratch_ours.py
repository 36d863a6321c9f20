"""Our side of ``comments-scratch``: the training steps of ``gatewise train comments-scratch``, in float32."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from gatewise.bench.runners import serve
from gatewise.scratch import ScratchModel


class Ours:
    """SGD steps on sentences."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.weights = load_file(arguments["weights"])
        self.sentences, self.learning_rate = arguments["sentences"], arguments["learning_rate"]

    def check(self, to: Path) -> None:
        """Write the losses of the first sentences before any step."""
        model = ScratchModel(self.weights)
        save_file({"losses": np.array([model.nll([sentence])[0] for sentence in self.sentences[:5]])}, to)

    def run(self, steps: int) -> float:
        """Do training steps from the initial weights and the first sentence, wrapping around after the last one."""
        model = ScratchModel(self.weights)
        model.step(self.sentences[0], 0.0)
        began = time.perf_counter()
        for step in range(steps):
            model.step(self.sentences[step % len(self.sentences)], self.learning_rate)
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(Ours)
