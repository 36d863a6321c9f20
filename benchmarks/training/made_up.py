"""Synthetic data for the recipes, for where their own is missing; what is timed does not depend on its meaning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.config import Config

VOCABULARY, WINDOWS = 10_000, 50
IMAGES, SENTENCES, HELD_BACK = 20_000, 12_544, 500

# UD English-EWT, training split: the lengths of every twentieth sentence (the longest has 159 words; with 70 the mean
# is right), the number of distinct words with 1, 2, 3 … characters, and the numbers of distinct characters and tags.
_LENGTHS = (1, 2, 3, 4, 6, 7, 9, 10, 11, 13, 14, 15, 17, 19, 20, 22, 25, 28, 32, 39, 70)
_CHARACTERS, _TAGS = 108, 17
_SPELLED = (94, 469, 1221, 2217, 2659, 2838, 2783, 2325, 1744, 1344, 775, 520, 226, 123, 54, 32, 17, 10, 7, 11)


def write_text(config: Config, folder: Path) -> Mapping[str, Any]:
    """Write windows of numbered words with the frequencies of natural text, and each word of the vocabulary once."""
    draw, words = np.random.default_rng(1), VOCABULARY - 2  # <eos> and <unk>
    frequency = 1 / np.arange(2, words + 2)
    count = WINDOWS * config.data.batch_size * config.data.tbptt_length
    drawn = draw.choice(words, count, p=frequency / frequency.sum())
    text = " ".join(f"w{k}" for k in draw.permutation(np.concatenate([drawn, np.arange(words)])))
    for split in ("train", "valid", "test"):
        Path(folder, f"{split}.txt").write_text(text + "\n", encoding="utf-8")
    return {}


def write_images(config: Config, folder: Path) -> Mapping[str, Any]:
    """Write random images of 28 × 28 with ten labels."""
    draw = np.random.default_rng(1)
    x, y = draw.integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8), draw.integers(0, 10, IMAGES)
    np.savez(folder / "train.npz", x=x, y=y)
    return {"data.valid_size": HELD_BACK, "data.test_size": HELD_BACK}


def write_sentences(config: Config, folder: Path) -> Mapping[str, Any]:
    """Write tagged sentences distributed as in English-EWT."""
    for split, count in (("train", SENTENCES), ("valid", 10), ("test", 10)):
        Path(folder, f"{split}.txt").write_text(sentences(count), encoding="utf-8")
    return {}


def sentences(count: int) -> str:
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
