"""Running a file in Keras 3, beside our model."""

import importlib
import math
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.errors import MissingPackage
from gatewise.interchange.formats import why_unverified
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_reader import SequenceReader
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.nn import Recurrent, pool

STEPS, ROWS = 17, 5
"""The random input: T and B."""


def differences(model: nn.Module, path: Path) -> dict[str, float]:
    """Load a file in Keras, and return the largest differences from a model.

    The model runs on random input: whole, from the zero state; and layer by layer with a mask, lengths that differ, and
    a random first state, where also the last states are compared. Each difference is relative to the largest output,
    but at least to 1; of a classifier, logarithms of probabilities are compared.

    Raises:
        MissingPackage: Keras 3 is not installed.
    """
    keras = import_keras()
    peer = keras.saving.load_model(path, compile=False)
    rnn = model if isinstance(model, Recurrent) else model.rnn
    assert isinstance(rnn, Recurrent)
    generator = torch.Generator().manual_seed(0)
    given, x = _drawn(model, rnn, generator)
    lengths = torch.randint(1, STEPS + 1, (ROWS,), generator=generator)
    lengths[0] = STEPS
    first = [torch.randn(part.shape, generator=generator) for part in rnn.initial_state(ROWS)]
    with torch.no_grad():
        theirs = _tensor(keras, peer(given.numpy()))
        gaps = {"outputs": _gap(_compared(model, theirs), _called(model, given))}
        y, state = rnn(x, tuple(first) if len(first) > 1 else first[0], lengths=lengths)
        after = [state] if isinstance(state, Tensor) else list(state)
        their_y, their_after = _layer_by_layer(keras, peer, given, lengths, first)
        gaps["outputs of ragged input"] = _gap(_compared(model, their_y), _headed(model, y, after[0], lengths))
        gaps["states of ragged input"] = max(_gap(t, o) for t, o in zip(their_after, after, strict=True))
    return gaps


def import_keras() -> ModuleType:
    """Import Keras; unless the user chose another backend, it runs on PyTorch.

    Raises:
        MissingPackage: it is not installed, is older than 3, or lacks its backend.
    """
    if reason := why_unverified("keras"):
        raise MissingPackage(f"running the file needs Keras 3, and {reason}")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        return importlib.import_module("keras")
    except (ImportError, ValueError) as problem:  # ValueError: a backend that Keras does not know
        backend = os.environ["KERAS_BACKEND"]
        raise MissingPackage(
            f"running the file needs Keras, which cannot be imported with KERAS_BACKEND={backend} ({problem})"
        ) from None


def _drawn(model: nn.Module, rnn: Recurrent, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random input of a model, batch first, and what its recurrent layers read of it, time first."""
    if isinstance(model, LanguageModel):
        ids = torch.randint(len(model.vocabulary), (ROWS, STEPS), generator=generator)
        return ids, model.embedding(ids).detach().transpose(0, 1)
    given = torch.randn(ROWS, STEPS, rnn.input_size, generator=generator)
    if not isinstance(model, SequenceReader):
        return given, given.transpose(0, 1)
    if isinstance(model, SequenceRegressor) and model.scaling.x_mean:
        given = given * torch.tensor(model.scaling.x_std) + torch.tensor(model.scaling.x_mean)
    return given, model.standardised(given).transpose(0, 1)


def _called(model: nn.Module, given: Tensor) -> Tensor:
    """Return the outputs of a model, batch first, as they are compared."""
    if isinstance(model, LanguageModel):
        return model(given.T, model.initial_state(ROWS))[0].transpose(0, 1)  # type: ignore[no-any-return]
    if isinstance(model, SequenceReader):
        found: Tensor = model(given)
        return found.log_softmax(-1) if isinstance(model, SequenceClassifier) else found.reshape(ROWS, -1)
    return model(given.transpose(0, 1))[0].transpose(0, 1)  # type: ignore[no-any-return]


def _headed(model: nn.Module, y: Tensor, h_n: Tensor, lengths: Tensor) -> Tensor:
    """Return the same of the outputs of its recurrent layers and their last state."""
    if isinstance(model, LanguageModel):
        return model.decoder(y).transpose(0, 1)  # type: ignore[no-any-return]
    if not isinstance(model, SequenceReader):
        return y.transpose(0, 1)
    z: Tensor = model.decoder(pool(model.config.pooling, y, h_n, model.rnn.spec.num_directions, lengths))
    if isinstance(model, SequenceRegressor):
        return z.double() * model.scaling.y_std + model.scaling.y_mean
    return z.log_softmax(-1)


def _compared(model: nn.Module, outputs: Tensor) -> Tensor:
    return outputs.log() if isinstance(model, SequenceClassifier) else outputs


def _layer_by_layer(
    keras: ModuleType, peer: Any, given: Tensor, lengths: Tensor, first: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return the outputs and the last states of a model with a mask, from a first state."""
    mask = (torch.arange(STEPS) < lengths[:, None]).numpy()
    found: Any = given.numpy()
    after = list[list[Tensor]]()
    for layer in peer.layers:
        ways = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
        if not hasattr(ways[0], "cell"):
            found = layer(found, mask=mask) if "Pooling" in type(layer).__name__ else layer(found)
            continue
        for one in {layer, *ways}:
            one.return_state = True
        before = [part[len(after) + way].numpy() for way in range(len(ways)) for part in first]
        found, *states = layer(found, initial_state=before, mask=mask)
        parts = [_tensor(keras, state) for state in states]
        after += [parts[len(first) * way :][: len(first)] for way in range(len(ways))]
    return _tensor(keras, found), [torch.stack(each) for each in zip(*after, strict=True)]


def _tensor(keras: ModuleType, found: Any) -> Tensor:
    return torch.from_numpy(np.array(keras.ops.convert_to_numpy(found)))


def _gap(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest entry, but at least to 1; infinity if it is not finite."""
    if found.shape != expected.shape:
        return math.inf
    gap = float((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1))
    return gap if math.isfinite(gap) else math.inf
