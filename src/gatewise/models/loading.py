"""From a run folder to a model."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.data.lexicon import Lexicon
from gatewise.data.vocabulary import Vocabulary
from gatewise.errors import RunError, UsageError
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_regressor import Scaling, SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.models.text_classifier import TextClassifier

M = TypeVar("M", bound=nn.Module)


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Any:
    """Load the best model of a run, in eval mode.

    Args:
        path: the run folder.
        device: where the weights go.

    Returns:
        A ``LanguageModel``, ``Tagger``, ``SequenceClassifier``, ``TextClassifier`` or ``SequenceRegressor``.

    Raises:
        RunError: something in the folder is missing or wrong.
    """
    run = RunFolder.existing(path)
    config = run.read_config()
    model = _MAKERS[config.task.name](run, config)
    load_weights(model, run)
    return model.to(device).eval()


def load_as(kind: type[M], path: str | Path, *, device: str | torch.device = "cpu") -> M:
    """Load a model of a kind.

    Raises:
        UsageError: the run is of another task.
        RunError: something in the folder is missing or wrong.
    """
    model = load(path, device=device)
    if not isinstance(model, kind):
        task = RunFolder.existing(path).read_config().task.name
        raise UsageError(
            f"{path}: a {task}'s run, which gives a {type(model).__name__}; expected one that gives a {kind.__name__}"
        )
    return model


def _language_model(run: RunFolder, config: Config) -> LanguageModel:
    return LanguageModel(config.model, Vocabulary.load(run.tokenizer_file, config.data.level))


def _classifier(run: RunFolder, config: Config) -> SequenceClassifier:
    facts = run.read_json(run.labels_file, {"labels": list, "input_size": int})
    return SequenceClassifier(config.model, facts["input_size"], facts["labels"], steps=facts.get("steps"))


def _text_classifier(run: RunFolder, config: Config) -> TextClassifier:
    words, characters = Lexicon.load(run.tokenizer_file), Lexicon.load(run.characters_file)
    labels = run.read_json(run.labels_file, {"labels": list})["labels"]
    return TextClassifier(config.model, words, characters, labels, config.data.level)


def _tagger(run: RunFolder, config: Config) -> Tagger:
    facts = run.read_json(run.labels_file, {"labels": list})
    words, characters = Lexicon.load(run.tokenizer_file), Lexicon.load(run.characters_file)
    return Tagger(config.model, words, characters, facts["labels"])


def _regressor(run: RunFolder, config: Config) -> SequenceRegressor:
    facts = run.read_json(run.scaling_file, {"input_size": int, "x_mean": list, "x_std": list})
    size = facts.pop("input_size")
    try:
        scaling = Scaling(**facts)
    except TypeError as problem:
        raise RunError(f"{run.scaling_file}: {problem}; expected what training wrote there, train again") from None
    return SequenceRegressor(config.model, size, scaling)


_MAKERS: dict[str, Callable[[RunFolder, Config], nn.Module]] = {
    "language-model": _language_model,
    "scratch-language-model": _language_model,
    "tagger": _tagger,
    "classifier": _classifier,
    "text-classifier": _text_classifier,
    "regressor": _regressor,
    "memory-task": _regressor,
}


def load_weights(model: nn.Module, run: RunFolder) -> dict[str, Any]:
    """Fill a model from ``model.safetensors``; return the facts that were saved with it.

    Raises:
        RunError: the file does not fit the model.
    """
    own = model.state_dict()
    arrays, metadata = run.read_weights({name: tensor.shape for name, tensor in own.items()})
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(arrays[name]))
    try:
        return dict(json.loads(metadata.get("gatewise", "{}")))
    except (ValueError, TypeError):
        raise RunError(f"{run.weights_file}: its metadata is no JSON object; train again") from None


def save_weights(model: nn.Module, run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` in one piece, the facts as one JSON string in its metadata."""
    run.write_weights({name: tensor.cpu().numpy() for name, tensor in weights_to_save(model).items()}, facts)


def weights_to_save(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every weight by its name in the contract; a decoder tied to the embedding is written out as its copy."""
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if len({tensor.data_ptr() for tensor in weights.values()}) < len(weights):
        weights["decoder.weight"] = weights["decoder.weight"].clone()
    return weights
