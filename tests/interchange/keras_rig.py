"""Keras on the torch backend, as a peer, and files of its older versions, written with h5py."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.interchange.rig import T

h5py = pytest.importorskip("h5py", reason="Keras' files need the extra keras: pip install h5py")

Weights = Sequence[tuple[str, np.ndarray[Any, Any]]]


def keras_3() -> Any:
    """Import Keras on the torch backend, or skip."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_HOME", f"{os.environ['GATEWISE_CACHE']}/keras")  # not the user's settings
    keras = pytest.importorskip("keras", reason="Keras is a peer: pip install --group peers")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend (KERAS_BACKEND); expected torch", allow_module_level=True)
    return keras


def write_legacy(
    path: Path,
    config: Any,
    weights: Mapping[str, Weights],
    pieces: int = 0,
    group: str = "model_weights",
) -> Path:
    """Write ``.h5`` as Keras 2 does.

    Args:
        path: the file.
        config: the architecture; None for a file of weights alone.
        weights: the arrays of each layer with their names, in the order of ``layer.weights``.
        pieces: into how many attributes the names are cut, as those of many weights are.
        group: where the weights are.
    """
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
            file.attrs["keras_version"] = b"2.2.4"
            file.attrs["backend"] = b"tensorflow"
        top = file if config is None else file.create_group(group)
        top.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, arrays in weights.items():
            own = top.create_group(layer)
            names = np.array([name.encode() for name, _ in arrays]) if arrays else np.zeros(0)
            if pieces and arrays:
                for number, piece in enumerate(np.array_split(names, pieces)):
                    own.attrs[f"weight_names{number}"] = piece
            else:
                own.attrs["weight_names"] = names
            for name, array in arrays:
                own.create_dataset(name, data=array)
    return path


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    """A layer's configuration in Keras 2."""
    return {"class_name": kind, "config": {"name": name, "trainable": True, **config}}


def sequential(*layers: dict[str, Any], listed: bool = False) -> dict[str, Any]:
    """A model's configuration in Keras 2; until 2.2.2, it is the list of the layers."""
    return {"class_name": "Sequential", "config": list(layers) if listed else {"name": "s", "layers": list(layers)}}


LSTM = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "return_sequences": True}
LSTM |= {"unit_forget_bias": True, "implementation": 1, "go_backwards": False, "stateful": False, "unroll": False}
"""What decides about an LSTM, and some that does not."""


@torch.no_grad()
def keras_called(
    keras: Any, model: Any, x: Tensor, first: Sequence[Tensor], lengths: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """Call the recurrent layers of a model from a first state; return outputs, time first, and the last states."""
    found, after = np.ascontiguousarray(x.transpose(0, 1).numpy()), list[list[Any]]()
    mask = None if lengths is None else np.arange(T) < np.array(lengths)[:, None]
    for one in model.layers:
        ways = [one.forward_layer, one.backward_layer] if hasattr(one, "forward_layer") else [one]
        for each in {one, *ways}:
            each.return_state = True
        before = [part[len(after) + way].numpy() for way in range(len(ways)) for part in first]
        found, *states = one(found, initial_state=before, mask=mask)
        after += [states[len(first) * way :][: len(first)] for way in range(len(ways))]
    numbers = keras.ops.convert_to_numpy
    stacked = [torch.tensor(np.stack([numbers(one) for one in each])) for each in zip(*after, strict=True)]
    y = torch.tensor(numbers(found)).transpose(0, 1)
    return {"y": y, **dict(zip(("h_n", "c_n"), stacked, strict=False))}
