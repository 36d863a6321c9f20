"""Small model files with random weights, of every task: what the C library's tests read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.runtime.model_file import VERSION, shapes_of, tensors_of
from gatewise.runtime.sealed import compose

WORDS = ["<unk>", "<eos>", "the", "cat", "sees", "a", "dog", "éclair", "貓"]
TAGS = ["DET", "NOUN", "VERB"]
_BASE: dict[str, Any] = {
    "cell": "lstm", "hidden_size": 13, "num_layers": 2, "bidirectional": False, "pooling": "last", "one_hot": False,
    "tied": False, "crf": False, "inputs": 0, "window": 0, "start": False, "level": "word", "embedding_size": 0,
    "character_encoder": "none", "character_embedding_size": 0, "character_hidden_size": 0,
}  # fmt: skip
_WORDY = {"tokens": WORDS, "lowercase": False, "embedding_size": 7}
_SCALING = {
    "columns": ["x", "y"], "target": "y", "horizon": 3, "relative": False,
    "x_mean": [1.0, -2.0], "x_std": [2.0, 0.5], "y_mean": -2.0, "y_std": 0.5,
}  # fmt: skip
_SPELLED = {"characters": ["<unk>", *"abcdeghlnost"], "characters_lowercase": True}

MODELS: dict[str, dict[str, Any]] = {
    "language": {"task": "language-model", **_WORDY},
    "language-gru-int8": {"task": "language-model", **_WORDY, "cell": "gru", "weights": "int8"},
    "language-characters": {
        "task": "language-model", "tokens": ["<unk>", "<eos>", *"abc de"], "lowercase": False, "one_hot": True,
        "level": "character", "weights": "bf16",
    },
    "language-sentences": {
        "task": "language-model", **_WORDY, "tokens": [*WORDS, "<bos>"], "start": True, "embedding_size": 13,
        "tied": True,
    },
    "tagger": {"task": "tagger", **_WORDY, "labels": TAGS, "lowercase": True},
    "tagger-crf": {
        "task": "tagger", **_WORDY, "labels": TAGS, "crf": True, "bidirectional": True, **_SPELLED,
        "character_encoder": "cnn", "character_embedding_size": 5, "character_hidden_size": 4,
    },
    "tagger-int8": {
        "task": "tagger", **_WORDY, "labels": TAGS, "weights": "int8", **_SPELLED, "character_encoder": "lstm",
        "character_embedding_size": 5, "character_hidden_size": 4,
    },
    "text": {
        "task": "text-classifier", **_WORDY, "labels": ["no", "yes"], "pooling": "mean", "cell": "rnn_tanh",
        "level": "prose",
    },
    "rows": {"task": "classifier", "inputs": 2, "labels": [0, 1, 2], "pooling": "max", "cell": "rnn_relu"},
    "forecast": {"task": "regressor", "inputs": 2, "window": 4, "scaling": {"input_size": 2, **_SCALING}},
    "forecast-relative": {
        "task": "regressor", "inputs": 2, "window": 4, "bidirectional": True,
        "scaling": {"input_size": 2, **_SCALING, "relative": True},
    },
}  # fmt: skip
"""What each says about itself, beyond the defaults above."""


def content(name: str, seed: int = 0, **facts: Any) -> bytes:
    """Return the content of a model file: one of ``MODELS``, with other facts."""
    about = {"version": VERSION, "weights": "fp32", **_BASE, **MODELS[name], "model": f"{name} {seed}", **facts}
    random, tensors = np.random.default_rng(seed), dict[str, Any]()
    for part, shape in shapes_of(about).items():
        if part == "decoder.weight" and about["tied"]:
            continue
        array = random.uniform(-0.7, 0.7, shape).astype(np.float32)
        by_column = about["one_hot"] and part == "rnn.weight_ih_l0"
        tensors |= tensors_of(part, array, "fp32" if part.startswith("crf.") else about["weights"], by_column)
    return b"".join(compose(tensors, {"runtime": about}))


def write(folder: Path, names: Sequence[str] = tuple(MODELS), **facts: Any) -> list[Path]:
    """Write model files NAME.gatewise into a folder, and return their paths."""
    paths = [folder / f"{name}.gatewise" for name in names]
    for name, path in zip(names, paths, strict=True):
        path.write_bytes(content(name, **facts))
    return paths
