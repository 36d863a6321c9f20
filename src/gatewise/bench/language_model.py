"""``gatewise bench language-model``: training step against a straightforward PyTorch program of the same model."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatewise.bench.training import compare_training, refuse_where_memory_cannot_be_measured
from gatewise.config import load_config
from gatewise.errors import UsageError
from gatewise.models.language_model import LanguageModel
from gatewise.runtime.vocabulary import EOS, UNK, Vocabulary

VOCABULARY = 10_000
_WINDOWS = 50


def bench_language_model(
    recipe: str,
    *,
    precision: str = "fp32",
    peer_precision: str = "fp32",
    threads: int = 0,
    turns: int = 5,
) -> dict[str, Any]:
    """Check that both programs give the same cost and gradients, then time their training steps in turns.

    The token ids are random, with the word frequencies of natural text (Zipf), the recipe's sizes and a vocabulary of
    10,000.

    Args:
        recipe: a language model's recipe.
        precision: our precision, as in ``training.precision``.
        peer_precision: ``fp32``, ``bf16`` (autocast) or ``bf16 module`` (the module's own weights in 16 bits).
        threads: threads per program; 0 uses PyTorch's default.
        turns: number of timings of each.

    Returns:
        Words per second of each (median), their ratio (median over the turns), and peak memory in MiB.

    Raises:
        OutputsDiffer: the check failed.
    """
    refuse_where_memory_cannot_be_measured()
    # The recipe's own learning rate would make the weights diverge on random text.
    config = load_config(recipe, {"training.learning_rate": 0.01, "training.precision": precision})
    if config.model.cell != "lstm" or config.training.optimizer != "sgd" or config.model.tie_weights:
        raise UsageError(
            f"recipe {recipe}: this benchmark compares LSTMs trained by SGD, with weights that are not tied"
        )
    words = config.data.batch_size * config.data.tbptt_length

    def write_data(folder: Path) -> dict[str, Any]:
        frequency = 1 / np.arange(2, VOCABULARY + 2)
        drawn = np.random.default_rng(1).choice(
            VOCABULARY, size=words * _WINDOWS + config.data.batch_size, p=frequency / frequency.sum()
        )
        np.save(folder / "ids.npy", drawn.astype(np.uint16))
        return {"ids": str(folder / "ids.npy"), "vocabulary": VOCABULARY}

    model = LanguageModel(config.model, numbered_words(VOCABULARY), torch.Generator().manual_seed(1))
    result = compare_training(
        config,
        model,
        write_data,
        ours="language_model_ours",
        peer="language_model_pytorch",
        tokens=words,
        token_name="words",
        threads=threads,
        turns=turns,
        peer_precision=peer_precision,
    )
    return {"bench": "language-model", "recipe": recipe, **result}


def numbered_words(size: int) -> Vocabulary:
    """Return a vocabulary of a given size, with numbered words."""
    return Vocabulary([EOS, UNK, *(f"w{k}" for k in range(size - 2))])
