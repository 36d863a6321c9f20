"""Emitting an ONNX graph: nodes, initializers and small constants, and recurrent stacks made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import UsageError
from gatewise.extras import import_extra
from gatewise.interchange.layouts import LAYOUTS, to_layout
from gatewise.interchange.stack import StackWeights

OPSET, IR = 17, 8
NODES: Mapping[str, str] = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
"""The operator of each cell."""


def onnx_module(name: str = "onnx") -> Any:
    """Import the package ``onnx``, or a module of it.

    Raises:
        MissingPackage: it is not installed.
    """
    return import_extra(name, "onnx", "reading and writing ONNX files", "onnx")


class Graph:
    """A graph that grows; each method returns the name of the value that it adds."""

    def __init__(self) -> None:
        self.helper, self.types = onnx_module("onnx.helper"), onnx_module().TensorProto
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self._names = set[str]()

    def input(self, name: str, kind: str, *shape: str | int) -> str:
        """Add an input; ``kind`` is ``FLOAT``, ``DOUBLE``, ``INT32`` or ``INT64``; axes that are texts are symbolic."""
        self.inputs.append(self.helper.make_tensor_value_info(name, getattr(self.types, kind), shape))
        self._names.add(name)
        return name

    def output(self, name: str, value: str, kind: str, *shape: str | int) -> None:
        """Make a value an output of this name."""
        self.outputs.append(self.helper.make_tensor_value_info(name, getattr(self.types, kind), shape))
        self._names.add(name)
        self.nodes.append(self.helper.make_node("Identity", [value], [name], name=f"{name}/Identity"))

    def weight(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an initializer; the same name again is the same array."""
        self.arrays.setdefault(name, np.asarray(array, order="C"))
        self._names.add(name)
        return name

    def constant(self, value: Any, kind: Any = np.int64) -> str:
        """Add a small constant; equal constants are one."""
        array = np.asarray(value, kind)
        shown = "_".join(map(str, array.reshape(-1).tolist()))
        return self.weight(f"constant/{array.dtype}/{'x'.join(map(str, array.shape))}/{shown}", array)

    def add(self, kind: str, *inputs: str, outputs: int = 1, name: str = "", **attributes: Any) -> str:
        """Add a node and return its first output; the others have the same name with a number."""
        stem = name or f"{kind}"
        label, number = stem, 1
        while label in self._names:
            label, number = f"{stem}_{number}", number + 1
        values = [label, *(f"{label}/{k}" for k in range(1, outputs))]
        self._names.update(values)
        self.nodes.append(self.helper.make_node(kind, list(inputs), values, name=label, **attributes))
        return label

    def squeezed(self, value: str, axis: int) -> str:
        """Remove an axis of size 1."""
        return self.add("Squeeze", value, self.constant([axis]))

    def unsqueezed(self, value: str, axis: int) -> str:
        """Insert an axis of size 1."""
        return self.add("Unsqueeze", value, self.constant([axis]))

    def inside(self, x: str, lengths: str) -> str:
        """Return whether each step (T, B) of x (T, …) is within the length of its row."""
        steps = self.add("Cast", self.squeezed(self.add("Shape", x, start=0, end=1), 0), to=self.types.INT32)
        time = self.add("Range", self.constant(0, np.int32), steps, self.constant(1, np.int32))
        return self.add("Less", self.unsqueezed(time, 1), lengths)

    def linear(self, x: str, name: str, weight: npt.NDArray[Any], bias: npt.NDArray[Any], shared: str = "") -> str:
        """Apply a linear layer, whose weight (outputs, inputs) stays as it is, to the last axis.

        Args:
            x: (…, inputs).
            name: the layer's.
            weight: (outputs, inputs).
            bias: (outputs,).
            shared: the initializer that already holds the weight, if there is one.
        """
        stored = shared or self.weight(f"{name}.weight", weight)
        turned = self.add("Transpose", stored, perm=[1, 0], name=f"{name}/Transpose")
        product = self.add("MatMul", x, turned, name=f"{name}/MatMul")
        return self.add("Add", product, self.weight(f"{name}.bias", bias), name=f"{name}/Add")


def add_stack(
    graph: Graph,
    name: str,
    weights: StackWeights,
    x: str,
    lengths: str | None = None,
    before: Sequence[str] | None = None,
) -> tuple[str, list[list[str]]]:
    """Add a recurrent stack.

    ONNX leaves the final state of a row of length 0 undefined, so it is taken from the initial state.

    Args:
        graph: the graph.
        name: what the names of its nodes begin with.
        weights: the stack.
        x: (T, B, I).
        lengths: (B,) int32; T for every row if there are none.
        before: the initial state: each part (L·D, B, H); zeros by default.

    Returns:
        The outputs (T, B, D·H), and for each part of the state its final value in each layer, (D, B, H).

    Raises:
        UsageError: ONNX cannot hold this stack.
    """
    spec, layout = weights.spec, LAYOUTS["onnx"][weights.spec.cell]
    if spec.proj_size:
        raise UsageError(
            f"a projection (proj_size {spec.proj_size}): the node LSTM of ONNX has none; expected a stack without"
        )
    D, parts = spec.num_directions, len(spec.about.states)
    firsts = [_split(graph, part, spec.num_layers, D) for part in before or ()]
    after: list[list[str]] = [[] for _ in range(parts)]
    some = None
    if lengths is not None:
        some = graph.add("Greater", lengths, graph.constant(0, np.int32), name=f"{name}/any_step")
        some = graph.add("Unsqueeze", some, graph.constant([0, 2]))
    attributes: dict[str, Any] = {"hidden_size": spec.hidden_size, "direction": ("forward", "bidirectional")[D - 1]}
    if spec.cell == "gru":
        attributes["linear_before_reset"] = 1
    if spec.cell == "rnn_relu":
        attributes["activations"] = ["Relu"] * D
    for layer in range(spec.num_layers):
        own = [to_layout(spec.cell, one, layout) for one in weights.passes[layer * D : (layer + 1) * D]]
        names = [
            graph.weight(f"{name}.{kind}_l{layer}", np.stack(arrays))
            for kind, arrays in zip("WRB", zip(*own, strict=True), strict=False)
        ]
        first = [part[layer] for part in firsts]
        inputs = [x, *names, *([""] if not spec.bias else ()), lengths or "", *first]
        while not inputs[-1]:
            inputs.pop()
        y = graph.add(NODES[spec.cell], *inputs, outputs=1 + parts, name=f"{name}/l{layer}", **attributes)
        for k in range(parts):
            found = f"{y}/{k + 1}"
            if some is not None:
                found = graph.add("Where", some, found, first[k] if first else graph.constant(0, np.float32))
            after[k].append(found)
        if D == 1:
            x = graph.squeezed(y, 1)
        else:
            x = graph.add("Reshape", graph.add("Transpose", y, perm=[0, 2, 1, 3]), graph.constant([0, 0, -1]))
    return x, after


def _split(graph: Graph, part: str, layers: int, directions: int) -> list[str]:
    """Return the layers' parts of a state."""
    if layers == 1:
        return [part]
    first = graph.add("Split", part, graph.constant([directions] * layers), outputs=layers, axis=0)
    return [first, *(f"{first}/{k}" for k in range(1, layers))]


def joined(graph: Graph, values: Sequence[str], axis: int = 0) -> str:
    """Concatenate values; a single one stays as it is."""
    return values[0] if len(values) == 1 else graph.add("Concat", *values, axis=axis)
