"""The contestant that is ours: the training loop's own step on the recipe's model."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from gatewise.artifact.run_folder import RunFolder
from gatewise.bench.duel import serve, write_cost_and_gradients
from gatewise.bench.language_model import numbered_words
from gatewise.config import Config
from gatewise.data.text import TextCorpus
from gatewise.data.token_cache import TokenizedText
from gatewise.models.language_model import LanguageModel
from gatewise.tasks.language_modeling import LanguageModelData, LanguageModelling
from gatewise.training.distributed import Group
from gatewise.training.interrupt import InterruptGuard
from gatewise.training.loop import Trainer
from gatewise.training.scalars import Scalars


class Ours:
    """Training steps of ``gatewise train``, on the token ids of a file."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        config = Config.model_validate(arguments["config"])
        torch.set_num_threads(arguments["threads"])
        vocabulary = numbered_words(arguments["vocabulary"])
        text = TokenizedText(np.load(arguments["ids"], mmap_mode="r"), 0, "")
        nowhere = Path(arguments["ids"])
        data = LanguageModelData(
            vocabulary, dict.fromkeys(("train", "valid", "test"), text), TextCorpus(nowhere, nowhere, nowhere)
        )
        self.model = LanguageModel(config.model, vocabulary)
        self.model.load_state_dict(load_file(arguments["weights"]))
        group, run = Group(0, 1, torch.device("cpu")), RunFolder(nowhere.parent / "no-run")
        self.work = LanguageModelling(config, data, self.model, run, group)
        self.trainer = Trainer(self.work, config.training, run, group, None, {}, Scalars(None))
        self.guard = InterruptGuard()
        self.trainer.optimizer.param_groups[0]["lr"] = arguments["learning_rate"]
        self.model.train()

    def check(self, to: Path) -> None:
        """Write cost and gradients, before clipping, of the first window."""
        torch.manual_seed(0)
        cost, _ = self.work.cost(0)
        write_cost_and_gradients(self.model, cost, to)

    def run(self, steps: int) -> float:
        """Do training steps, wrapping around at the end of the text."""
        began = time.perf_counter()
        for _ in range(steps):
            if self.trainer.at.step_in_epoch == self.work.steps_per_epoch:
                self.trainer.at.step_in_epoch = 0
                self.work.begin_epoch(1)
            self.trainer.step(self.guard)
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(Ours)
