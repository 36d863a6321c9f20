"""``gatewise bench tagger``: the tagger's training step against a PyTorch program of the same model."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatewise.bench.training import batches_of, compare_training, refuse_where_memory_cannot_be_measured
from gatewise.config import Config, load_config
from gatewise.errors import UsageError
from gatewise.tasks.tagging import TaggerTask

RECIPE = "ewt-upos"
COMPARED = {"model.output": "softmax"}
"""Changes to the recipe, as PyTorch has no CRF to compare with."""
SENTENCES = 12_544
_HELD_BACK = 10

# UD English-EWT, training split: the lengths of every twentieth sentence (the longest has 159 words; with 70 the mean
# is right), the number of distinct words with 1, 2, 3 … characters, and the numbers of distinct characters and tags.
_LENGTHS = (1, 2, 3, 4, 6, 7, 9, 10, 11, 13, 14, 15, 17, 19, 20, 22, 25, 28, 32, 39, 70)
_CHARACTERS, _TAGS = 108, 17
_SPELLED = (94, 469, 1221, 2217, 2659, 2838, 2783, 2325, 1744, 1344, 775, 520, 226, 123, 54, 32, 17, 10, 7, 11)


def bench_tagger(
    data: str | Path | None = None,
    *,
    precision: str = "fp32",
    peer_precision: str = "fp32",
    threads: int = 0,
    turns: int = 5,
) -> dict[str, Any]:
    """Check that both programs give the same cost and gradients, then time their training steps in turns.

    Uses the recipe ``ewt-upos``, with a softmax in place of the CRF; both sides get the same batches and, in the check,
    the same dropout masks, drawn from the same seed (with several layers, the check disables dropout).

    Args:
        data: a folder as the recipe reads it; defaults to synthetic sentences with the lengths of UD English-EWT.
        precision: our precision, as in ``training.precision``.
        peer_precision: ``fp32``, ``bf16`` (autocast) or ``bf16 module`` (the module's own weights in 16 bits).
        threads: threads per program; 0 uses PyTorch's default.
        turns: number of timings of each.

    Returns:
        Words per second of each (median), their ratio (median over the turns), and peak memory in MiB.

    Raises:
        OutputsDiffer: the check failed.
        UsageError: the recipe is not one that this benchmark supports.
    """
    refuse_where_memory_cannot_be_measured()
    changed = {**COMPARED, "training.precision": precision}
    timed = {"peer_precision": peer_precision, "threads": threads, "turns": turns}
    if data is not None:
        return _bench(load_config(RECIPE, {**changed, "data.path": str(data)}), timed, "files")
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", SENTENCES), ("valid", _HELD_BACK), ("test", _HELD_BACK)):
            Path(folder, f"{split}.txt").write_text(made_up_sentences(count), encoding="utf-8")
        return _bench(load_config(RECIPE, {**changed, "data.path": folder}), timed, "made-up sentences")


def made_up_sentences(count: int) -> str:
    """Return sentences, one word and tag per line, with lengths, words and spellings distributed as in English-EWT."""
    draw = np.random.default_rng(1)
    lengths = np.interp(draw.random(count), np.linspace(0, 1, len(_LENGTHS)), _LENGTHS).astype(int)
    alphabet = [chr(ord("一") + k) for k in range(_CHARACTERS)]
    sizes = np.repeat(np.arange(1, len(_SPELLED) + 1), _SPELLED)
    sizes = sizes[np.argsort(sizes + draw.normal(0, 3, len(sizes)))]  # frequent words tend to be short
    spellings = ["".join(draw.choice(alphabet, size)) for size in sizes]
    frequency = 1 / np.arange(3, len(spellings) + 3)
    words = draw.choice(len(spellings), lengths.sum(), p=frequency / frequency.sum())
    lines = iter(f"{spellings[word]}\tT{word % _TAGS}\n" for word in words)
    return "\n".join("".join(next(lines) for _ in range(length)) for length in lengths)


def _bench(config: Config, timed: dict[str, Any], what: str) -> dict[str, Any]:
    model_config = config.model
    if model_config.cell != "lstm" or model_config.output != "softmax" or model_config.character_encoder == "none":
        raise UsageError(f"recipe {RECIPE}: this benchmark compares LSTMs that read characters, with a softmax")
    task = TaggerTask(config)
    torch.manual_seed(config.training.seed)
    model = task.make_model()

    def write_data(folder: Path) -> dict[str, Any]:
        forms = task.parts["train"].words
        sentences = {
            "words": [task.words.encode(sentence) for sentence in forms],
            "forms": forms,
            "spellings": {word: task.characters.encode(word) for word in task.seen},
            "tags": [tags.tolist() for tags in task.targets["train"]],
            "batches": batches_of(task, model).tolist(),
        }
        file = folder / "sentences.json"
        file.write_text(json.dumps(sentences), encoding="utf-8")
        return {
            "sentences": str(file),
            "words": len(task.words),
            "unk": task.words.unk_id,
            "characters": len(task.characters),
            "tags": len(task.tags),
        }

    lengths = [len(sentence) for sentence in task.parts["train"].words]
    result = compare_training(
        config,
        model,
        write_data,
        ours="training_ours",
        peer="tagger_pytorch",
        tokens=config.data.batch_size * float(np.mean(lengths)),
        token_name="words",
        **timed,
    )
    return {"bench": "tagger", "recipe": RECIPE, "changed": COMPARED, "data": what, **result}
