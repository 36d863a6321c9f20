"""Writing ``.keras`` of Keras 3, without Keras: a zip with the configuration, and the weights in HDF5."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from gatewise.errors import UsageError
from gatewise.extras import import_extra
from gatewise.interchange.layouts import LAYOUTS, Array, to_layout
from gatewise.interchange.stack import StackWeights
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_reader import SequenceReader
from gatewise.models.sequence_regressor import SequenceRegressor

_LAYERS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "SimpleRNN", "rnn_relu": "SimpleRNN"}
_GROUPS = {"SimpleRNN": "simple_rnn"}
"""The groups of classes that are not the class in lower case."""


def save_stack(weights: StackWeights, path: Path) -> None:
    """Write a stack as a ``Sequential`` model that reads and gives sequences, (B, T, I) and (B, T, D·H).

    Masked steps give zeros.

    Raises:
        UsageError: the name does not end in ``.keras``, or the stack has projections; h5py is not installed.
    """
    writer = _Writer(path)
    writer.add("InputLayer", {"batch_shape": [None, None, weights.spec.input_size]})
    writer.add_stack(weights, sequences=True)
    writer.write()


def save_model(model: nn.Module, path: Path) -> None:
    """Write a language model, a classifier or a regressor of numeric sequences as a ``Sequential`` model.

    A language model reads ids (B, T) and gives logits (B, T, V); a classifier reads (B, T, I) and gives probabilities
    (B, C); a regressor reads and gives numbers in the units of its data, (B, T, I) and (B, H). Dropout is left out.

    Raises:
        UsageError: as for ``save_stack``, or Keras has no layers for this model.
    """
    writer = _Writer(path)
    if isinstance(model, LanguageModel):
        if model.config.one_hot:
            raise UsageError(f"{path}: a model that reads one-hot vectors; expected one with an embedding")
        table = _numbers(model.embedding.weight)
        writer.add("InputLayer", {"batch_shape": [None, None], "dtype": "int32"})
        sizes = {"input_dim": len(table), "output_dim": table.shape[1], "mask_zero": False}
        writer.add("Embedding", sizes, {"vars/0": table})
    elif isinstance(model, SequenceReader):
        writer.add("InputLayer", {"batch_shape": [None, None, model.rnn.input_size]})
        _add_scaling(writer, model, path)
    else:
        raise UsageError(
            f"{path}: a {type(model).__name__}, for which Keras has no layers; expected a language model, or a "
            "classifier or regressor of numeric sequences"
        )
    pooling = model.config.pooling if isinstance(model, SequenceReader) else ""
    if pooling == "max":
        raise UsageError(f"{path}: pooling is max, and Keras' maximum over time includes masked steps")
    writer.add_stack(StackWeights.from_module(model.rnn), sequences=pooling != "last")
    if pooling == "mean":
        writer.add("GlobalAveragePooling1D", {"keepdims": False})
    kernel, activation = _numbers(model.decoder.weight).T, "softmax" * isinstance(model, SequenceClassifier) or "linear"
    dense = {"units": kernel.shape[1], "activation": activation, "use_bias": True}
    writer.add("Dense", dense, {"vars/0": kernel, "vars/1": _numbers(model.decoder.bias)})
    if isinstance(model, SequenceRegressor) and (model.scaling.y_mean, model.scaling.y_std) != (0.0, 1.0):
        writer.add("Rescaling", {"scale": model.scaling.y_std, "offset": model.scaling.y_mean})
    writer.write()


def _add_scaling(writer: "_Writer", model: SequenceReader, path: Path) -> None:
    """Add the standardization of the input."""
    if not isinstance(model, SequenceRegressor):
        return
    if model.scaling.relative:
        raise UsageError(
            f"{path}: a model whose target is relative to the last value; expected one with absolute values"
        )
    if model.scaling.x_mean:
        variance = [std**2 for std in model.scaling.x_std]
        writer.add("Normalization", {"axis": -1, "mean": model.scaling.x_mean, "variance": variance, "invert": False})


def _numbers(tensor: Tensor) -> Array:
    found: Array = tensor.detach().cpu().float().numpy()
    return found


class _Writer:
    """Collects layers and their weights.

    Args:
        path: the file to write.

    Raises:
        UsageError: its name does not end in ``.keras``, by which Keras recognizes it; h5py is not installed.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".keras":
            raise UsageError(f"{path}: expected a name that ends in .keras")
        self.path, self._h5py = path, import_extra("h5py", "h5py", "a file of Keras", "keras")
        self._layers, self._counts = list[dict[str, Any]](), dict[str, int]()
        self._arrays = dict[str, Array]()

    def add(self, kind: str, config: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
        """Add a layer, and its weights by their place in its group."""
        count = self._counts[kind] = self._counts.get(kind, -1) + 1
        group = _GROUPS.get(kind, kind.lower()) + (f"_{count}" if count else "")
        self._layers.append(_layer(kind, group, config))
        self._arrays |= {f"layers/{group}/{where}": array for where, array in (arrays or {}).items()}

    def add_stack(self, weights: StackWeights, *, sequences: bool) -> None:
        """Add recurrent layers; the last one gives sequences, or the state after the last step."""
        spec, passes = weights.spec, weights.passes
        if spec.proj_size:
            raise UsageError(f"{self.path}: an LSTM with projections, which Keras does not have; expected proj_size 0")
        ways = spec.num_directions
        for number in range(spec.num_layers):
            config = self._config(weights, sequences or number < spec.num_layers - 1)
            own = [to_layout(spec.cell, one, LAYOUTS["keras"][spec.cell]) for one in passes[ways * number :][:ways]]
            if ways == 1:
                self.add(_LAYERS[spec.cell], config, _of_a_cell("", own[0]))
                continue
            names = ("forward_layer", "backward_layer")
            inner = [
                _layer(_LAYERS[spec.cell], f"{name[:-6]}_{number}", config | {"go_backwards": name != names[0]})
                for name in names
            ]
            arrays = _of_a_cell("forward_layer/", own[0]) | _of_a_cell("backward_layer/", own[1])
            both = {"merge_mode": "concat", "layer": inner[0], "backward_layer": inner[1]}
            self.add("Bidirectional", both, arrays)

    def _config(self, weights: StackWeights, sequences: bool) -> dict[str, Any]:
        spec = weights.spec
        config: dict[str, Any] = {
            "units": spec.hidden_size,
            "activation": "relu" if spec.cell == "rnn_relu" else "tanh",
            "use_bias": spec.bias,
            "return_sequences": sequences,
            "return_state": False,
            "go_backwards": False,
            "zero_output_for_mask": sequences,
        }
        if not spec.cell.startswith("rnn"):
            config["recurrent_activation"] = "sigmoid"
        if spec.cell == "gru":
            config["reset_after"] = True
        return config

    def write(self) -> None:
        """Write the file."""
        model = _layer("Sequential", "sequential", {"layers": self._layers}, module="keras")
        content = io.BytesIO()
        with self._h5py.File(content, "w") as h5:
            for name, array in self._arrays.items():
                h5.create_dataset(name, data=np.ascontiguousarray(array, "<f4"))
        entries: Sequence[tuple[str, str | bytes]] = (
            ("metadata.json", json.dumps({"keras_version": "3.0.0"})),
            ("config.json", json.dumps(model)),
            ("model.weights.h5", content.getvalue()),
        )
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, data in entries:
                archive.writestr(zipfile.ZipInfo(name), data)


def _layer(kind: str, name: str, config: Mapping[str, Any], module: str = "keras.layers") -> dict[str, Any]:
    config = {"name": name, **({} if "layers" in config else {"dtype": "float32"}), **config}
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def _of_a_cell(where: str, arrays: Sequence[Array]) -> dict[str, Array]:
    return {f"{where}cell/vars/{k}": array for k, array in enumerate(arrays)}
