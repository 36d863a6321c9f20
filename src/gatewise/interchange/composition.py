"""The task of a model between frameworks: its configuration, its model, and the files of its run folder."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gatewise.config import Config, DataConfig, ModelConfig
from gatewise.config.schema import TaskConfig
from gatewise.data.tokenizer_file import vocabulary_json
from gatewise.errors import DataError
from gatewise.interchange.carried import CarriedRun
from gatewise.interchange.model import ModelWeights
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.runtime.vocabulary import Vocabulary


def config_of(weights: ModelWeights, path: Path) -> Config:
    """Return the configuration of the run for a model.

    Raises:
        DataError: there is no task for it.
    """
    spec, embedding, decoder = weights.stack.spec, weights.embedding, weights.decoder_weight
    if embedding is None and decoder is None:
        raise DataError(
            f"{path}: a bare {spec.cell} stack, which has no task; expected a model with an embedding and a decoder; "
            "load a stack in Python, with gatewise.interchange.load_stack"
        )
    if embedding is None and decoder is not None and not weights.per_step:
        return _config_of_sequences(weights, path)
    what = "expected a language model: an embedding, a stack in one direction without a projection, a decoder"
    if embedding is None or decoder is None:
        raise DataError(f"{path}: no {'embedding' if embedding is None else 'decoder'} beside the stack; {what}")
    if spec.bidirectional or spec.proj_size:
        raise DataError(f"{path}: {'a bidirectional stack' if spec.bidirectional else 'a projection'}; {what}")
    if not weights.per_step:
        raise DataError(f"{path}: a decoder that reads one vector for each text, not each step; {what}")
    if len(embedding) != len(decoder):
        raise DataError(f"{path}: {len(embedding):,} words are read and {len(decoder):,} predicted; {what}")
    if (weights.scaling.y_mean, weights.scaling.y_std) != (0.0, 1.0):
        raise DataError(f"{path}: its output is rescaled; {what}")
    model = _model_config(weights)
    sizes = {"embedding_size": 0 if weights.tied else spec.input_size, "tie_weights": weights.tied}
    return Config(data=DataConfig(level="word"), model=model.model_copy(update=sizes))


def _config_of_sequences(weights: ModelWeights, path: Path) -> Config:
    """Return the configuration of a classifier or a regressor of numeric sequences."""
    assert weights.decoder_weight is not None
    outputs, scaled = len(weights.decoder_weight), weights.scaling != type(weights.scaling)()
    classifies = weights.output == "softmax"
    if (outputs < 2 if classifies else outputs > 1) or (classifies and scaled) or weights.stack.spec.proj_size:
        what = " after rescaled numbers" * (classifies and scaled) + " and a projection" * bool(
            weights.stack.spec.proj_size
        )
        raise DataError(
            f"{path}: {outputs} outputs, {weights.output or 'linear'},{what} for each sequence of numbers; expected a "
            "classifier, with a softmax of two or more, or a regressor, with one linear output"
        )
    task = TaskConfig(name="classifier" if classifies else "regressor")
    model = _model_config(weights).model_copy(
        update={"bidirectional": weights.stack.spec.bidirectional, "pooling": weights.pooling}
    )
    return Config(task=task, model=model)


def _model_config(weights: ModelWeights) -> ModelConfig:
    spec = weights.stack.spec
    return ModelConfig(
        cell=spec.cell,  # type: ignore[arg-type]
        hidden_size=spec.hidden_size,
        num_layers=spec.num_layers,
        dropout=0.0,
        forget_bias=0.0,
    )


def compose(weights: ModelWeights, config: Config, words: Vocabulary | None) -> CarriedRun:
    """Return the run of checked weights; biases that are missing are zeros.

    The labels of a classifier are the numbers 0 … C − 1, since files of other frameworks name none.
    """
    size = weights.stack.spec.input_size
    with torch.device("meta"):
        if words is not None:
            model: nn.Module = LanguageModel(config.model, words)
            parts = {"tokenizer.json": vocabulary_json(words)}
        elif config.task.name == "classifier":
            assert weights.decoder_weight is not None
            labels = list(range(len(weights.decoder_weight)))
            model = SequenceClassifier(config.model, size, labels)
            parts = {"labels.json": _lines({"labels": labels, "input_size": size, "steps": None})}
        else:
            model = SequenceRegressor(config.model, size, weights.scaling)
            parts = {"scaling.json": _lines({"input_size": size, **weights.scaling.as_json()})}
    given = {"embedding.weight": weights.embedding, "decoder.weight": weights.decoder_weight}
    given |= {"decoder.bias": weights.decoder_bias}
    given |= {f"rnn.{name}": array for name, array in weights.stack.arrays().items()}
    state = {
        name: torch.zeros(tensor.shape) if (array := given.get(name)) is None else torch.from_numpy(np.array(array))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)
    if isinstance(model, LanguageModel) and config.model.tie_weights:
        model.decoder.weight = model.embedding.weight
    return CarriedRun(config, {name: text.encode() for name, text in parts.items()}, model.eval())


def _lines(facts: dict[str, object]) -> str:
    return json.dumps(facts, indent=1) + "\n"
