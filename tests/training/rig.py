"""A trainer on the small corpus, for tests that drive it step by step."""

from pathlib import Path

import torch

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import load_config
from gatewise.data.configured import open_corpus
from gatewise.models.language_model import LanguageModel
from gatewise.tasks.language_modeling import LanguageModelData, LanguageModelling
from gatewise.training.distributed import Group
from gatewise.training.loop import Trainer
from gatewise.training.scalars import Scalars
from tests.conftest import TINY


def make_trainer(corpus: Path, folder: Path, engine: str = "auto", device: str = "cpu", **overrides: object) -> Trainer:
    """Return a trainer that has not begun."""
    config = load_config("demo", {**TINY, "data.builtin": "", "data.path": str(corpus), **overrides})
    data, group = LanguageModelData.read(open_corpus(config.data).parts, config.data), Group(0, 1, torch.device(device))
    torch.manual_seed(config.training.seed)
    run = RunFolder(folder / "run")
    folder.mkdir(exist_ok=True)
    run.path.mkdir(exist_ok=True)
    model = LanguageModel(config.model, data.vocabulary, engine=engine).to(group.device)
    workload = LanguageModelling(config, data, model, run, group)
    return Trainer(workload, config.training, run, group, None, {}, Scalars(None), engine, config.runtime.graph)
