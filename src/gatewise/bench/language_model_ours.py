"""Our runner: the training loop's own step on the recipe's model, with token ids from a file."""

from pathlib import Path
from typing import Any

import numpy as np

from gatewise.bench.language_model import numbered_words
from gatewise.bench.runners import serve
from gatewise.bench.training import ALONE, NOWHERE
from gatewise.bench.training_ours import Ours
from gatewise.config import Config
from gatewise.data.text import TextCorpus
from gatewise.data.token_cache import TokenizedText
from gatewise.models.language_model import LanguageModel
from gatewise.tasks.language_modeling import LanguageModelData, LanguageModelling


def make(arguments: dict[str, Any]) -> Ours:
    """Create the workload of a text given as token ids."""
    config = Config.model_validate(arguments["config"])
    vocabulary = numbered_words(arguments["vocabulary"])
    text = TokenizedText(np.load(arguments["ids"], mmap_mode="r"), 0, "")
    nowhere = Path(arguments["ids"])
    data = LanguageModelData(
        vocabulary, dict.fromkeys(("train", "valid", "test"), text), TextCorpus(nowhere, nowhere, nowhere)
    )
    work = LanguageModelling(config, data, LanguageModel(config.model, vocabulary), NOWHERE, ALONE)
    return Ours(config, work, arguments)


if __name__ == "__main__":
    serve(make)
