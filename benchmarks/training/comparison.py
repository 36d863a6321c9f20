"""The comparison of training steps: both sides get the same weights, batches and settings, and must agree."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.training import made_up, ours
from benchmarks.training.language_model import LanguageModelPeer
from benchmarks.training.pytorch import Peer
from benchmarks.training.rows import RowsPeer
from benchmarks.training.tagger import TaggerPeer
from gatewise.bench.harness import TOLERANCE, Runner, agree, in_turns, ratios
from gatewise.config import Config, load_config
from gatewise.errors import UsageError
from gatewise.tasks.language_modeling import LanguageModelTask
from gatewise.tasks.sequence_classification import LabelledSequences, SequenceClassifierTask
from gatewise.tasks.tagging import TaggerTask
from gatewise.tasks.task import Task
from gatewise.tasks.train import read_task

SECONDS_A_TURN = 2.0


class Comparison(NamedTuple):
    """How the recipes of one task are compared."""

    peer: type[Peer]
    token_name: str
    made_up: Callable[[Config, Path], Mapping[str, Any]]
    """Writes synthetic data for a recipe into a folder; returns further changes to the configuration."""
    for_peer: Callable[[Any, torch.nn.Module], dict[str, Any]]
    """Returns the data and sizes that the peer needs."""
    tokens: Callable[[Any], float]
    """Returns the mean number of tokens per step."""
    changed: Mapping[str, Any]
    """Changes to the recipe."""
    compared: Callable[[Config], bool]
    """Whether the peer can train a recipe's model."""
    what: str
    """What the peer can train."""


def _of_text(task: LanguageModelTask, model: torch.nn.Module) -> dict[str, Any]:
    return {"ids": np.array(task.data.texts["train"].ids), "vocabulary": len(task.data.vocabulary)}


def _of_images(task: SequenceClassifierTask, model: torch.nn.Module) -> dict[str, Any]:
    train = task.parts["train"]
    assert isinstance(train, LabelledSequences)
    data = {"x": train.part.x, "y": train.targets, "batches": ours.batches_of(task, model)}
    return {**data, "scale": train.part.scale, "labels": len(task.labels)}


def _of_sentences(task: TaggerTask, model: torch.nn.Module) -> dict[str, Any]:
    forms = task.parts["train"].words
    return {
        "words": [task.words.encode(sentence) for sentence in forms],
        "forms": forms,
        "spellings": {word: task.characters.encode(word) for word in task.seen},
        "tags": [tags.tolist() for tags in task.targets["train"]],
        "batches": ours.batches_of(task, model).tolist(),
        "vocabulary": len(task.words),
        "unk": task.words.unk_id,
        "characters": len(task.characters),
        "labels": len(task.tags),
    }


COMPARISONS = {
    "language-model": Comparison(
        LanguageModelPeer,
        "words",
        made_up.write_text,
        _of_text,
        lambda task: task.config.data.batch_size * task.config.data.tbptt_length,
        {"training.learning_rate": 0.01},  # the recipe's own would make the weights diverge on random text
        lambda c: c.model.cell == "lstm" and c.training.optimizer == "sgd" and not c.model.tie_weights,
        "LSTMs trained by SGD, with weights that are not tied",
    ),
    "classifier": Comparison(
        RowsPeer,
        "images",
        made_up.write_images,
        _of_images,
        lambda task: task.config.data.batch_size,
        {},
        lambda c: c.model.cell == "lstm",
        "LSTMs",
    ),
    "tagger": Comparison(
        TaggerPeer,
        "words",
        made_up.write_sentences,
        _of_sentences,
        lambda task: task.config.data.batch_size * np.mean([len(words) for words in task.parts["train"].words]),
        {"model.output": "softmax"},  # PyTorch has no CRF
        lambda c: c.model.cell == "lstm" and c.model.output == "softmax" and c.model.character_encoder != "none",
        "LSTMs that read characters, with a softmax",
    ),
}
"""The comparison of each task whose training steps are compared."""


def compare_training(
    recipe: str,
    data: str | Path | None = None,
    *,
    precision: str = "fp32",
    peer_precision: str = "fp32",
    threads: int = 0,
    turns: int = 5,
) -> dict[str, Any]:
    """Check that both programs give the same cost and gradients, then time their training steps in turns.

    The check disables dropout, as the masks differ. ``ewt-upos`` is compared with a softmax in place of its CRF.

    Args:
        recipe: a recipe for a language model, a classifier or a tagger.
        data: a folder as the recipe reads it; defaults to synthetic data: text with the word frequencies of natural
            language (Zipf) and 10,000 distinct words, random images of 28 × 28, or sentences with the lengths of UD
            English-EWT.
        precision: our precision, as in ``training.precision``.
        peer_precision: ``fp32``, ``bf16`` (autocast) or ``bf16 module`` (the module's own weights in 16 bits).
        threads: threads per program; 0 uses PyTorch's default.
        turns: number of timings of each.

    Returns:
        Tokens per second of each (median), the seconds per step of each in every turn, their ratio (median over the
        turns) and its range, and peak memory in MiB.

    Raises:
        OutputsDiffer: the check failed.
        UsageError: no peer trains the recipe's model.
    """
    task_name = load_config(recipe).task.name
    if task_name not in COMPARISONS:
        raise UsageError(f"recipe {recipe}: a {task_name}; expected one of {', '.join(COMPARISONS)}")
    how = COMPARISONS[task_name]
    changed = {**how.changed, "training.precision": precision}
    config = load_config(recipe, changed)
    if not how.compared(config):
        raise UsageError(f"recipe {recipe}: this benchmark compares {how.what}")
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            changed |= {"data.path": folder, **how.made_up(config, Path(folder))}
        else:
            changed |= {"data.path": str(data)}
        config = load_config(recipe, changed)
        task = read_task(config)
        threads = threads or torch.get_num_threads()
        return _compare(how, task, config, Path(folder), peer_precision, threads, turns)


def _compare(
    how: Comparison, task: Task, config: Config, folder: Path, peer_precision: str, threads: int, turns: int
) -> dict[str, Any]:
    torch.manual_seed(config.training.seed)
    model = task.make_model()
    weights, checked = folder / "weights.safetensors", [folder / "ours.safetensors", folder / "peer.safetensors"]
    save_file(model.state_dict(), weights)
    shared = {"config": config.model_dump(), "threads": threads, "weights": str(weights)}
    for_peer = {**shared, "peer_precision": peer_precision, **how.for_peer(task, model)}
    with Runner(ours.make, shared) as us, Runner(how.peer, for_peer) as them:
        for side, file in zip((us, them), checked, strict=True):
            side.ask("check", file)
        tolerance = max(TOLERANCE[config.training.precision], TOLERANCE[peer_precision])
        agree(load_file(checked[0]), load_file(checked[1]), tolerance)
        steps, seconds = in_turns({"ours": us.run, "pytorch": them.run}, turns, SECONDS_A_TURN)
        peaks = {"ours_peak_mib": us.peak_mib, "peer_peak_mib": them.peak_mib}
    rates = {
        f"{side}_{how.token_name}_per_second": float(how.tokens(task)) / median(taken)
        for side, taken in seconds.items()
    }
    times = {"steps": steps, "ours_seconds": seconds["ours"], "peer_seconds": seconds["pytorch"]}
    return {**rates, **times, **peaks, **ratios(seconds["ours"], seconds["pytorch"])}
