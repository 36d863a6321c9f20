"""Keras: ``.keras``, ``.weights.h5`` and the older ``.h5``, of versions 2 and 3; written as ``.keras`` of Keras 3.

Keras is batch first, (B, T, I), and its stacks read and give that; ours are time first. Masked steps repeat the last
output in Keras, unless a layer has ``zero_output_for_mask``, as those that are written have; ours are zeros. An id that
is a mask (``mask_zero``) stays an id like others, and lengths say where a sequence ends.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from gatewise.interchange.keras_file import KerasFile, open_file
from gatewise.interchange.keras_file import recognises as recognises
from gatewise.interchange.keras_layers import CELLS, IDLE, POOLING, Layer, chain_of
from gatewise.interchange.keras_peer import differences as differences
from gatewise.interchange.keras_writer import save_model as save_model
from gatewise.interchange.keras_writer import save_stack as save_stack
from gatewise.interchange.layouts import LAYOUTS, Array, PassWeights, from_layout
from gatewise.interchange.model import ModelWeights
from gatewise.interchange.stack import StackWeights
from gatewise.runtime.parts import Scaling
from gatewise.spec import CELLS as OURS

_WRAPPERS = {"Bidirectional", "TimeDistributed"}
_EPSILON = 1e-7
"""The least standard deviation by which Keras divides."""


def load_stack(path: Path, *, architecture: str | Path | None = None) -> StackWeights:
    """Read a recurrent stack; an embedding before it and a Dense layer after it are left out.

    Args:
        path: ``.keras``, ``.weights.h5`` or ``.h5``.
        architecture: a file with what ``model.to_json()`` returns; needed if ``path`` holds weights alone.

    Raises:
        DataError: the file is missing or damaged, or has a layer that cannot be represented.
        UsageError: h5py is not installed.
    """
    return load_model(path, architecture=architecture).stack


def load_model(path: Path, *, architecture: str | Path | None = None) -> ModelWeights:
    """Read a model: an embedding or numeric input, recurrent layers, and a Dense layer; see ``load_stack``.

    Dropout is left out. Before the recurrent layers, there may be ``Normalization``; after them, pooling over time; at
    the end, ``Rescaling``.

    Raises:
        DataError: as for ``load_stack``.
        UsageError: as for ``load_stack``.
    """
    where = None if architecture is None else Path(architecture).expanduser()
    with open_file(path, where) as file:
        return _Reader(file).read()


class _Reader:
    """Reads the layers of a chain in turn, and what they hold."""

    def __init__(self, file: KerasFile) -> None:
        self.file = file
        self.embedding: Array | None = None
        self.x_mean: list[float] = []
        self.x_std: list[float] = []
        self.y_std, self.y_mean = 1.0, 0.0
        self.layers = list[Layer]()
        self.passes = list[PassWeights]()
        self.cell, self.both, self.units = "", False, 0
        self.per_step = True
        self.pooling: Literal["last", "mean", "max"] = "last"
        self.dense: tuple[Array, Array | None] | None = None
        self.output: Literal["", "linear", "softmax"] = ""
        self.rescaled = False

    def read(self) -> ModelWeights:
        path = self.file.path
        for layer in chain_of(path, self.file.config):
            self._next(layer)
        if not self.layers:
            raise layer.wrong("is the last layer, and none is recurrent; expected LSTM, GRU or SimpleRNN")
        weight, bias = self.dense or (None, None)
        weights = ModelWeights(
            StackWeights.of(self.cell, self.passes, bidirectional=self.both, source=str(path)),
            self.embedding,
            weight,
            bias,
            per_step=self.per_step,
            pooling=self.pooling,
            output=self.output,
            scaling=Scaling(self.x_mean, self.x_std, self.y_mean, self.y_std),
        )
        weights.check(str(path))
        return weights

    def _next(self, layer: Layer) -> None:
        """Read the next layer of the chain."""
        before, kind = not self.layers, layer.kind
        inner = layer.inner("layer") if kind in _WRAPPERS else None
        if kind in IDLE:
            return
        if kind in CELLS or (kind == "Bidirectional" and inner is not None and inner.kind in CELLS):
            self._recurrent(layer, inner)
        elif kind == "Embedding" and before and self.embedding is None and not self.x_mean:
            shape = (layer.size("input_dim"), layer.size("output_dim"))
            (self.embedding,) = self._arrays(layer, ["vars/0"], [shape])
        elif kind == "Normalization" and before and self.embedding is None and not self.x_mean:
            self._normalization(layer)
        elif kind in POOLING and not before and self.per_step and self.dense is None:
            if layer.config.get("keepdims", False):
                raise layer.wrong("has keepdims; expected one vector for each sequence")
            self.per_step, self.pooling = False, POOLING[kind]
        elif not before and self.dense is None and kind == "Dense":
            self._dense(layer, layer, "vars/")
        elif not before and self.dense is None and kind == "TimeDistributed" and inner and inner.kind == "Dense":
            self._dense(layer, inner, "layer/vars/")
        elif kind == "Activation" and self.dense is not None and self.output == "linear" and not self.rescaled:
            self.output = "softmax" if layer.activation("activation", "softmax", "linear") == "softmax" else "linear"
        elif kind == "Rescaling" and self.output == "linear" and not self.rescaled:
            self.rescaled, self.y_std, self.y_mean = True, *(self._number(layer, key) for key in ("scale", "offset"))
        else:
            raise layer.wrong(
                "has no counterpart at this place; expected an Embedding, recurrent layers, pooling over time, and a "
                "Dense layer, in this order"
            )

    def _arrays(self, layer: Layer, paths: Sequence[str], shapes: Sequence[tuple[int | None, ...]]) -> list[Array]:
        return self.file.arrays(layer.name, layer.group, paths, shapes)

    def _number(self, layer: Layer, key: str) -> float:
        found = layer.config.get(key)
        if (
            not isinstance(found, int | float)
            or isinstance(found, bool)
            or not np.isfinite(found)
            or (key == "scale" and found <= 0)
        ):
            raise layer.wrong(f"has {key} {found!r:.40}; expected a number, and a scale above 0")
        return float(found)

    def _recurrent(self, layer: Layer, inner: Layer | None) -> None:
        if self.dense is not None or not self.per_step:
            raise layer.wrong("follows a layer that does not give a sequence; expected recurrent layers in a row")
        own = inner or layer
        facts = _facts_of(own)
        if inner is not None:
            if layer.config.get("merge_mode") != "concat":
                raise layer.wrong(f"has merge_mode {layer.config.get('merge_mode')!r:.20}; expected concat")
            other = layer.inner("backward_layer")
            if other is not None and (other.kind not in CELLS or _facts_of(other, backwards=True) != facts):
                raise layer.wrong("has two directions that differ; expected layers of the same configuration")
        if self.layers and facts[0] != self.cell:
            raise layer.wrong(f"is another cell than layer {self.layers[0].name!r:.60}; expected one in a stack")
        if self.layers and ((inner is not None) != self.both or own.size("units") != self.units):
            raise layer.wrong(
                f"has another width or other directions than layer {self.layers[0].name!r:.60}; expected a stack of "
                "equal layers"
            )
        self.cell, self.both, self.units = facts[0], inner is not None, own.size("units")
        self.per_step = own.flag("return_sequences")
        self.layers.append(layer)
        H, gates = self.units, len(OURS[self.cell].gates)
        shapes: list[tuple[int | None, ...]] = [(None, gates * H), (H, gates * H)]
        bias = _bias_of(own)
        if bias:
            shapes.append({"two": (2 * gates * H,), "stacked": (2, gates * H)}.get(bias, (gates * H,)))
        ways = ["forward_layer/", "backward_layer/"] if inner else [""]
        paths = [f"{way}cell/vars/{k}" for way in ways for k in range(len(shapes))]
        arrays = self._arrays(layer, paths, shapes * len(ways))
        for start in range(0, len(arrays), len(shapes)):
            given = arrays[start : start + len(shapes)]
            given = _from_cudnn(given, gates) if own.kind.startswith("CuDNN") else given
            self.passes.append(from_layout(self.cell, given, LAYOUTS["keras"][self.cell], H))

    def _dense(self, layer: Layer, own: Layer, where: str) -> None:
        self.output = "softmax" if own.activation("activation", "softmax", "linear") == "softmax" else "linear"
        units, biased = own.size("units"), own.flag("use_bias")
        width = self.units * (2 if self.both else 1)
        shapes: list[tuple[int | None, ...]] = [(width, units), *([(units,)] if biased else [])]
        arrays = self._arrays(layer, [f"{where}{k}" for k in range(len(shapes))], shapes)
        self.dense = np.ascontiguousarray(arrays[0].T), arrays[1] if biased else None

    def _normalization(self, layer: Layer) -> None:
        found = [layer.config.get(key) for key in ("mean", "variance")]
        if layer.config.get("axis") not in (-1, [-1], 2, [2]) or layer.flag("invert", False):
            raise layer.wrong("has another axis than the last, or is inverted; expected one mean for each feature")
        for values in found:
            while isinstance(values, list) and len(values) == 1 and isinstance(values[0], list):
                values = values[0]
            if not isinstance(values, list) or not values or any(type(one) not in (int, float) for one in values):
                raise layer.wrong("has no list of means and variances in its configuration; expected numbers there")
            if self.x_mean:
                self.x_std = [max(float(np.sqrt(one)), _EPSILON) if one >= 0 else 0.0 for one in values]
            else:
                self.x_mean = [float(one) for one in values]
        if len(self.x_mean) != len(self.x_std) or not all(0 < one < np.inf for one in self.x_std):
            raise layer.wrong(
                "has variances that are negative or not finite, or another number of means; expected one each"
            )


def _facts_of(layer: Layer, backwards: bool = False) -> tuple[str, int, bool, str]:
    """Return the cell of a recurrent layer, its units, whether it gives sequences, and which bias it has.

    Raises:
        DataError: it is no cell of ours.
    """
    if layer.flag("go_backwards", False) != backwards:
        raise layer.wrong("has go_backwards; expected a layer that reads from the start, or Bidirectional")
    cell = CELLS[layer.kind]
    if not layer.kind.startswith("CuDNN"):
        activation = layer.activation("activation", *(("tanh", "relu") if cell == "rnn" else ("tanh",)))
        if cell == "rnn":
            cell = f"rnn_{activation}"
        else:
            layer.activation("recurrent_activation", "sigmoid")
        if cell == "gru" and not layer.flag("reset_after", False):
            raise layer.wrong(
                "has reset_after false: its gate resets before the product, which is another cell; expected true"
            )
    return cell, layer.size("units"), layer.flag("return_sequences"), _bias_of(layer)


def _bias_of(layer: Layer) -> str:
    """Return how a recurrent layer stores its bias; nothing if it has none."""
    if layer.kind.startswith("CuDNN"):
        return "two"
    if not layer.flag("use_bias"):
        return ""
    return "stacked" if CELLS[layer.kind] == "gru" else "one"


def _from_cudnn(arrays: Sequence[Array], gates: int) -> list[Array]:
    """Return kernels and bias as those of the layer without cuDNN.

    cuDNN reads the numbers of each gate's kernel as (H, I) and (H, H), row by row. Its two biases are one after the
    other: an LSTM has their sum, a GRU both.
    """
    found = []
    for kernel in arrays[:2]:
        blocks = [block.reshape(block.shape[::-1]).T for block in np.split(kernel, gates, 1)]
        found.append(np.concatenate(blocks, 1))
    pair = arrays[2].reshape(2, -1)
    return [*found, pair if gates == 3 else pair[0] + pair[1]]
