"""The architecture of a Keras model: the chain of its layers, from the input to the output.

Configurations are those of Keras 3, 2 and 1 from 2.0 on, of ``Sequential`` and of functional models in which each
layer reads the output of one other. What is not known is refused: a layer whose configuration lacks a key that decides
what it computes, too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gatewise.errors import DataError

CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}
"""Our cells of Keras' recurrent layers; of an RNN, the activation completes the name."""
IDLE = {
    *("InputLayer", "Masking", "ActivityRegularization", "Dropout", "SpatialDropout1D"),
    *("AlphaDropout", "GaussianDropout", "GaussianNoise"),
}
"""Layers that only act in training, or set a mask."""
POOLING: Mapping[str, Literal["mean", "max"]] = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}
_MASKS = {"NotEqual", "Any"}
"""Operations that make a mask, nodes of their own in functional models of Keras 3."""
_KERAS = re.compile(r"(tf_)?keras(\..*)?")
"""The modules of Keras' own layers."""


@dataclass(frozen=True)
class Layer:
    """A layer of the chain.

    Attributes:
        path: the file.
        kind: its class.
        config: its configuration.
        group: its place in ``.keras``: the class in snake case, and a counter from the second one on.
    """

    path: Path
    kind: str
    config: Mapping[str, Any]
    group: str = ""

    @property
    def name(self) -> str:
        """Its name, which errors give."""
        return str(self.config.get("name", self.kind))

    def wrong(self, what: str) -> DataError:
        """Return the error for this layer."""
        return DataError(f"{self.path}: layer {self.name!r:.100} ({self.kind:.40}) {what}")

    def flag(self, key: str, usual: bool | None = None) -> bool:
        """Return a boolean of the configuration; one without ``usual`` must be there."""
        found = self.config.get(key, usual)
        if type(found) is not bool:
            raise self.wrong(f"has {key} {found!r:.40}; expected true or false")
        return found

    def size(self, *keys: str) -> int:
        """Return a positive integer of the configuration, under the first of some keys that is there."""
        found = next((self.config[key] for key in keys if key in self.config), None)
        if type(found) is not int or not 0 < found < 2**31:
            raise self.wrong(f"has {keys[0]} {found!r:.40}; expected a positive integer")
        return found

    def activation(self, key: str, *expected: str) -> str:
        """Return the name of an activation, which must be one of some."""
        found = self.config.get(key)
        if found not in expected:
            what = found if isinstance(found, str) else "its own function" if found is not None else "missing"
            raise self.wrong(f"has {key} {what:.60}; expected {' or '.join(expected)}")
        return str(found)

    def inner(self, key: str) -> "Layer | None":
        """Return the layer that this one wraps."""
        found = self.config.get(key)
        return None if found is None else _layer(self.path, found)


def chain_of(path: Path, config: Any) -> list[Layer]:
    """Return the layers of a model, in the order of the computation.

    Raises:
        DataError: it is no sequence of layers, each of which reads the output of one other.
    """
    top = _layer(path, config)
    if top.kind not in ("Sequential", "Functional", "Model"):
        raise DataError(
            f"{path}: a model of the class {top.kind!r:.60}; expected Sequential, or a functional model, in which each "
            "layer reads the output of one other"
        )
    given = config["config"] if isinstance(config["config"], list) else top.config.get("layers")
    if not isinstance(given, list) or not given:
        raise DataError(f"{path}: a model without layers")
    found, counts = [], dict[str, int]()
    for one in given:
        layer = _layer(path, one)
        count = counts[layer.kind] = counts.get(layer.kind, -1) + 1
        snake = _snake_case(layer.kind)
        found.append(Layer(path, layer.kind, layer.config, f"{snake}_{count}" if count else snake))
    return found if top.kind == "Sequential" else _followed(path, top, found, given)


def _layer(path: Path, given: Any) -> Layer:
    kind = given.get("class_name") if isinstance(given, dict) else None
    config = given.get("config") if isinstance(given, dict) else None
    if not isinstance(kind, str) or not isinstance(config, dict | list):
        raise DataError(f"{path}: its configuration has a layer without a class; expected what Keras writes")
    layer = Layer(path, kind, config if isinstance(config, dict) else {})
    own, module = given.get("registered_name"), given.get("module")
    if (own is not None and own != kind) or (module is not None and _KERAS.fullmatch(str(module)) is None):
        raise layer.wrong(f"is a custom layer ({own or module!r:.60}), which is not read")
    return layer


def _snake_case(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _followed(path: Path, top: Layer, layers: list[Layer], given: list[Any]) -> list[Layer]:
    """Return the layers between the output and the input of a functional model."""
    named = {layer.name: (layer, one.get("inbound_nodes")) for layer, one in zip(layers, given, strict=True)}
    if len(named) < len(layers):
        raise DataError(f"{path}: two layers have one name")
    outputs = top.config.get("output_layers")
    if isinstance(outputs, list) and len(outputs) == 1 and isinstance(outputs[0], list):
        outputs = outputs[0]
    if not isinstance(outputs, list) or len(outputs) != 3 or outputs[1:] != [0, 0]:
        raise DataError(
            f"{path}: a model with several outputs, or whose output is a state or a layer that is called twice; "
            "expected the first output of one layer"
        )
    name, chain, used = outputs[0], list[Layer](), set[str]()
    while True:
        if not isinstance(name, str) or name not in named or name in used:
            raise DataError(f"{path}: a graph in which {name!r:.60} is missing or reads its own output")
        used.add(name)
        layer, nodes = named[name]
        chain.insert(0, layer)
        if layer.kind == "InputLayer":
            break
        name = _source(layer, nodes, named, used)
    if left := next((layer for layer in layers if layer.name not in used), None):
        raise left.wrong("is not between the input and the output; expected a chain of layers")
    return chain


def _source(layer: Layer, nodes: Any, named: Mapping[str, tuple[Layer, Any]], used: set[str]) -> str:
    """Return the name of the layer whose output a layer reads; what makes its mask is added to ``used``."""
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise layer.wrong("is called more than once or not at all; expected a chain of layers")
    node = nodes[0]
    args, kwargs = (node.get("args"), node.get("kwargs", {})) if isinstance(node, dict) else (node, {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise layer.wrong("has an input that cannot be followed")
    inputs = [_history(one) for one in args]
    if layer.kind not in _MASKS and (len(inputs) != 1 or inputs[0] is None):
        raise layer.wrong(
            "reads several inputs; expected a chain of layers, without initial states or masks of its own"
        )
    if inputs[0] is not None and inputs[0][1] != 0:
        raise layer.wrong(f"reads {inputs[0][0]!r:.60}, which is called more than once; expected a chain of layers")
    if inputs[0] is None or inputs[0][2] != 0:
        raise layer.wrong("reads the state or another output of a layer; expected its first output")
    for key, value in kwargs.items():
        source = _history(value)
        if value is None or (isinstance(value, bool | int) and (key == "training" or layer.kind in _MASKS)):
            continue
        if key != "mask" or source is None:
            raise layer.wrong(f"is called with {key!r:.40}, which cannot be followed")
        mask, seen = source[0], set[str]()
        while mask not in seen and mask in named and named[mask][0].kind in _MASKS:
            seen.add(mask)
            mask = _source(*named[mask], named, used)
        if not seen or mask in seen:
            raise layer.wrong("has a mask of its own; expected that of Embedding or Masking")
        used |= seen
    return str(inputs[0][0])


def _history(given: Any) -> list[Any] | None:
    """Return layer, node and tensor of an input; None for what is no tensor."""
    if isinstance(given, list) and len(given) in (3, 4) and isinstance(given[0], str):
        called_with = given[3] if len(given) == 4 and isinstance(given[3], dict) else {}
        return None if any(v is not None for key, v in called_with.items() if key != "training") else given
    config = given.get("config") if isinstance(given, dict) else None
    found = config.get("keras_history") if isinstance(config, dict) else None
    return found if isinstance(found, list) and len(found) == 3 and isinstance(found[0], str) else None
