"""Run folders of every task with drawn weights, and input for them; nothing is trained."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.data.tokenizer_file import lexicon_json, vocabulary_json
from gatewise.models.loading import MAKERS, save_weights
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.parts import Scaling
from gatewise.runtime.vocabulary import BOS, EOS, UNK, Vocabulary

WORDS = ["the", "dog", "ate", "New York", "ΣΑΣ", "中文", "it", "book", "read", "!"]
SCALING: dict[str, Any] = {"x_mean": [1000.0, 2.0, -3.0], "x_std": [1.0, 0.1, 3.0], "y_mean": 50.0, "y_std": 7.0}
SERIES: dict[str, Any] = {**SCALING, "columns": ["a", "b"], "target": "b", "known": ["a"]}
I = 3


@dataclass(frozen=True)
class Case:
    """A model to draw.

    Attributes:
        task: its task.
        model: settings of ``[model]``.
        level: ``data.level``.
        start: whether a language model reads sentences.
        scaling: of a regressor.
        lowercase: whether words are looked up in lower case.
    """

    task: str
    model: dict[str, Any] = field(default_factory=dict)
    level: str = "word"
    start: bool = False
    scaling: dict[str, Any] = field(default_factory=dict)
    lowercase: bool = False


LM, TAGGER, TEXT = "language-model", "tagger", "text-classifier"
SPELLED = {"character_embedding_size": 5, "character_hidden_size": 7}
CASES: dict[str, Case] = {
    "lm lstm": Case(LM, {"num_layers": 2, "embedding_size": 7}),
    "lm gru tied characters": Case(LM, {"cell": "gru", "num_layers": 3, "tie_weights": True}, level="character"),
    "lm rnn_tanh prose": Case(LM, {"cell": "rnn_tanh"}, level="prose", start=True),
    "lm rnn_relu": Case(LM, {"cell": "rnn_relu", "num_layers": 2}),
    "lm one-hot gru": Case(LM, {"cell": "gru", "one_hot": True, "num_layers": 2}),
    "scratch": Case("scratch-language-model", {"one_hot": True, "num_layers": 1}, level="prose", start=True),
    "tagger": Case(TAGGER, {"num_layers": 2, "embedding_size": 4}),
    "tagger both lstm crf": Case(
        TAGGER,
        {"bidirectional": True, "output": "crf", "character_encoder": "lstm", "num_layers": 2, **SPELLED},
        lowercase=True,
    ),
    "tagger cnn crf": Case(TAGGER, {"cell": "gru", "output": "crf", "character_encoder": "cnn", **SPELLED}),
    "text last": Case(TEXT, {"num_layers": 2}, lowercase=True),
    "text both mean cnn": Case(
        TEXT, {"bidirectional": True, "pooling": "mean", "character_encoder": "cnn", **SPELLED}, level="prose"
    ),
    "text max lstm": Case(TEXT, {"cell": "gru", "pooling": "max", "character_encoder": "lstm", **SPELLED}),
    "text characters": Case(TEXT, {"pooling": "mean"}, level="character"),
    "classifier last": Case("classifier", {"num_layers": 2}),
    "classifier mean": Case("classifier", {"cell": "gru", "pooling": "mean"}),
    "classifier max": Case("classifier", {"cell": "rnn_tanh", "pooling": "max"}),
    "classifier both last": Case("classifier", {"bidirectional": True, "num_layers": 2}),
    "classifier both mean": Case("classifier", {"cell": "gru", "bidirectional": True, "pooling": "mean"}),
    "classifier both max": Case("classifier", {"cell": "rnn_relu", "bidirectional": True, "pooling": "max"}),
    "regressor bare": Case("regressor", {"num_layers": 2}),
    "regressor": Case("regressor", {"cell": "gru", "pooling": "mean"}, scaling=SCALING),
    "regressor horizon": Case("regressor", scaling={**SERIES, "horizon": 4}),
    "regressor relative": Case("regressor", scaling={**SERIES, "horizon": 2, "relative": True}),
    "regressor both": Case("regressor", {"bidirectional": True}, scaling=SCALING),
    "memory-task": Case("memory-task"),
}
"""Every task, cell, pooling, character encoder and level, in one direction and two."""


def of_task(*tasks: str) -> list[str]:
    """The names of the cases of some tasks."""
    return [name for name, case in CASES.items() if case.task in tasks]


LANGUAGE = of_task(LM, "scratch-language-model")
NUMERIC = of_task("classifier", "regressor", "memory-task")
STREAMED = [
    name for name, case in CASES.items() if not case.model.get("bidirectional") and not case.scaling.get("relative")
]


def drawn_run(folder: Path, case: Case, seed: int = 3, **model: Any) -> Path:
    """Write a run folder with weights of both signs."""
    sizes = {"hidden_size": 6, "num_layers": 1, **case.model, **model}
    data: dict[str, Any] = {"level": case.level}
    if case.scaling.get("columns"):
        data |= {"window": 5, "horizon": case.scaling.get("horizon", 1)}
    config = Config(task={"name": case.task}, data=data, model=sizes)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder)
    if case.task in (LM, "scratch-language-model"):
        own = [word for word in WORDS if " " not in word] if case.level != "character" else sorted(set("".join(WORDS)))
        tokens = [*own[:3], EOS, *([BOS] if case.start else []), *own[3:], UNK]
        run.tokenizer_file.write_text(vocabulary_json(Vocabulary(tokens, case.level, case.start)), encoding="utf-8")
    elif case.task in (TAGGER, TEXT):
        letters = sorted(set("".join(WORDS)))
        known = letters if case.level == "character" else [w.lower() if case.lowercase else w for w in WORDS]
        run.tokenizer_file.write_text(lexicon_json(Lexicon([*known[:4], UNK, *known[4:]], case.lowercase)), "utf-8")
        run.characters_file.write_text(lexicon_json(Lexicon([*letters[:9], UNK, *letters[9:]])), "utf-8")
        run.labels_file.write_text(json.dumps({"labels": ["NN", "V", "a b"], "seen_words": []}))
    elif case.task == "classifier":
        run.labels_file.write_text(json.dumps({"labels": [3, 5, 8, 13], "input_size": I, "steps": None}))
    else:
        run.scaling_file.write_text(json.dumps({"input_size": I, **Scaling(**case.scaling).as_json()}))
    made: Any = MAKERS[case.task](run, config)()  # type: ignore[index]
    generator = torch.Generator().manual_seed(seed)
    width = (1 if sizes.get("cell") == "rnn_relu" else 2) / sizes["hidden_size"] ** 0.5  # relu: does not grow forever
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-width, width, generator=generator)
        made.decoder.weight.mul_(3)  # so that more depends on what was read than on the bias
        made.decoder.bias.mul_(0.1)
    save_weights(made, run, config, {})
    run.write_config(config)
    return folder


def numbers(count: int, steps: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Sequences (count, steps, I) in the units of ``SCALING``."""
    x = np.random.default_rng(seed).standard_normal((count, steps, I))
    found: np.ndarray[Any, np.dtype[np.float64]] = x * np.array(SCALING["x_std"]) + np.array(SCALING["x_mean"])
    return found


def plain(count: int, steps: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Sequences (count, steps, I) of a model without a scale."""
    return np.random.default_rng(seed).standard_normal((count, steps, I))


def sentences(lengths: list[int], seed: int = 1) -> list[list[str]]:
    """Words, some of which are unknown, of other case, or empty."""
    draw, words = np.random.default_rng(seed), [*WORDS, "xyzzy", "The", "σας", "İt", "dog's", "\U0001f600", "", "中"]
    return [[words[k] for k in draw.integers(0, len(words), length)] for length in lengths]


def inputs_of(case: Case, steps: int, seed: int = 1, size: int = 1) -> Any:
    """The inputs of ``steps`` steps of one sequence."""
    if case.task in (LM, "scratch-language-model"):
        return np.random.default_rng(seed).integers(0, 10, steps)
    if case.task in (TAGGER, TEXT):
        return sentences([steps], seed)[0]
    return (numbers if case.scaling else plain)(1, steps, seed)[0]
