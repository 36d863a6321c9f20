"""``gatewise bench language-model``: our training step against a straightforward PyTorch program of the same model."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from gatewise.bench.duel import fight
from gatewise.config import load_config
from gatewise.data.vocabulary import EOS, UNK, Vocabulary
from gatewise.errors import GatewiseError, UsageError
from gatewise.models.language_model import LanguageModel

VOCABULARY = 10_000
_WINDOWS = 50
# fp32 sums of the same numbers in another order: of the largest entry of each gradient.
_TOLERANCE = 1e-4


class OutputsDiffer(GatewiseError):
    """The two programs do not compute the same; nothing is timed."""


def bench_language_model(recipe: str, *, threads: int = 0, turns: int = 5) -> dict[str, Any]:
    """Check that both programs give the same cost and gradients, then time their training steps in turns.

    The token ids are random, drawn with the frequencies of a natural text (Zipf), with the recipe's sizes and a
    vocabulary of 10,000; the dropout masks of the check are equal, drawn from the same seed.

    Args:
        recipe: a language model's recipe; precision fp32.
        threads: of each program; PyTorch's own choice where 0.
        turns: how often each is timed.

    Returns:
        Words a second of each (median), their ratio (median over the turns), and the peaks of memory in MiB.

    Raises:
        OutputsDiffer: the check failed.
    """
    if os.name == "nt":
        raise UsageError("benchmarks measure peak memory as Linux and macOS report it; run them there")
    config = load_config(recipe)
    if config.model.cell != "lstm" or config.training.optimizer != "sgd" or config.model.tie_weights:
        raise UsageError(
            f"recipe {recipe}: this benchmark compares LSTMs trained by SGD, with weights that are not tied"
        )
    words = config.data.batch_size * config.data.tbptt_length
    with tempfile.TemporaryDirectory() as folder:
        ids, weights = Path(folder, "ids.npy"), Path(folder, "weights.safetensors")
        frequency = 1 / np.arange(2, VOCABULARY + 2)
        drawn = np.random.default_rng(1).choice(
            VOCABULARY, size=words * _WINDOWS + config.data.batch_size, p=frequency / frequency.sum()
        )
        np.save(ids, drawn.astype(np.uint16))
        model = LanguageModel(config.model, numbered_words(VOCABULARY), torch.Generator().manual_seed(1))
        save_file(model.state_dict(), weights)
        arguments = {
            "config": config.model_dump(),
            "threads": threads or torch.get_num_threads(),
            "vocabulary": VOCABULARY,
            "ids": str(ids),
            "weights": str(weights),
            "learning_rate": 0.01,  # of an early epoch the random text would make the weights grow without end
        }
        here = __name__.rpartition(".")[0]
        duel = fight(f"{here}.language_model_ours", f"{here}.language_model_pytorch", arguments, _agree, turns)
    return {
        "bench": "language-model",
        "recipe": recipe,
        "precision": config.training.precision,
        "threads": arguments["threads"],
        "ours_words_per_second": words / float(np.median(duel.ours_seconds)),
        "pytorch_words_per_second": words / float(np.median(duel.peer_seconds)),
        **duel.as_json(),
        "torch": torch.__version__,
    }


def numbered_words(size: int) -> Vocabulary:
    """Return a vocabulary of a given size, its words told apart by numbers."""
    return Vocabulary([EOS, UNK, *(f"w{k}" for k in range(size - 2))])


def _agree(ours: Path, peer: Path) -> None:
    """Compare cost and every gradient by name."""
    a, b = load_file(ours), load_file(peer)
    if set(a) != set(b):
        raise OutputsDiffer(f"only one program has {', '.join(sorted(set(a) ^ set(b)))}; nothing is timed")
    for name in sorted(a):
        difference = float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1e-12))
        if not difference <= _TOLERANCE:
            raise OutputsDiffer(
                f"{name} differs by {difference:.2e} of its largest entry; expected at most {_TOLERANCE}; not timed"
            )
