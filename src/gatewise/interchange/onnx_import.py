"""What an ONNX graph computes, as far as it is a recurrent stack with an embedding before and a decoder after.

The graph is run on descriptions of its values instead of numbers: which axes a value has, and which layer gives it. A
node that is not understood gives a value that no layer may read.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError
from gatewise.interchange.layouts import LAYOUTS, PassWeights, from_layout
from gatewise.interchange.model import ModelWeights
from gatewise.interchange.onnx_file import OnnxFile
from gatewise.interchange.onnx_plumbing import STEPS, B, D, F, Plumbing, T, Value, all_zeros, with_widths
from gatewise.interchange.stack import StackWeights


class Reader(Plumbing):
    """Reads the graph of a file, node by node.

    Args:
        file: the file.
    """

    def __init__(self, file: OnnxFile) -> None:
        super().__init__(file)
        self.values: dict[str, Value] = {}
        for one in file.graph.input:
            if not file.holds(one.name):
                sizes = tuple(axis.dim_value for axis in one.type.tensor_type.shape.dim)
                self.values[one.name] = Value("input", by=f"input {one.name!r:.100}", sizes=sizes)

    def read(self) -> "Reader":
        """Follow all nodes.

        Raises:
            DataError: a recurrent node is none of ours, or reads what is not understood.
        """
        for node in self.file.graph.node:
            by = f"{node.op_type} node {node.name or (node.output[0] if node.output else '')!r:.100}"
            method = getattr(self, f"_{node.op_type.lower()}", None) if node.domain in ("", "ai.onnx") else None
            given = [self.value(name) for name in node.input]
            if method is None:
                found = [Value("unknown", by=by)]
            else:
                attributes = {one.name: self._attribute(one, by) for one in node.attribute}
                found = method(by, given, attributes, node)
            for k, name in enumerate(node.output):
                if name in self.values or self.file.holds(name):
                    raise DataError(f"{self.file.path}: {by}: its output {name!r:.100} exists already; it is damaged")
                if name:
                    known = found[k] if k < len(found) else Value("unknown", by=by)
                    self.values[name] = replace(known, by=by if known.kind == "sequence" else known.by or by)
        if not self.found.passes:
            raise DataError(f"{self.file.path}: no LSTM, GRU or RNN node; expected a graph with recurrent layers")
        return self

    def stack(self) -> StackWeights:
        """Return the recurrent stack."""
        passes = [own for layer in self.found.passes for own in layer]
        bidirectional = len(self.found.passes[0]) == 2
        if uneven := next((k for k, own in enumerate(self.found.passes) if len(own) != 1 + bidirectional), 0):
            raise DataError(
                f"{self.file.path}: layer {uneven} has {len(self.found.passes[uneven])} directions, the first one "
                f"{1 + bidirectional}; expected the same number in all layers"
            )
        return StackWeights.of(self.found.cell, passes, bidirectional=bidirectional, source=str(self.file.path))

    def model(self) -> ModelWeights:
        """Return the stack and the layers around it.

        Raises:
            DataError: no output of the graph is that of the last layer.
        """
        stack, last = self.stack(), len(self.found.passes)
        outputs = [self.value(output.name) for output in self.file.graph.output]
        decoded = self.found.decoder_weight is not None
        if not any(one.kind == "sequence" and one.layer == last and bool(one.decoded) == decoded for one in outputs):
            by = next((one.by for one in outputs if one.kind == "unknown"), "none of its outputs is that of a decoder")
            raise DataError(
                f"{self.file.path}: {by}: not a layer of a language model; expected an embedding, a recurrent stack, "
                "and a linear decoder as an output"
            )
        found = self.found
        weights = ModelWeights(stack, found.embedding, found.decoder_weight, found.decoder_bias)
        weights.check(str(self.file.path))
        return weights

    def value(self, name: str) -> Value:
        """Return what is known of a value; an initializer is read."""
        if name and name not in self.values and self.file.holds(name):
            self.values[name] = Value("number", array=self.file.array(name), by=f"initializer {name!r:.100}")
        return self.values.get(name, Value("missing" if not name else "unknown", by=f"value {name!r:.100}"))

    # Recurrent layers.

    def _lstm(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        if len(given) > 7 and given[7].kind != "missing":
            raise self.refuse(by, "has peepholes; expected an LSTM without")
        if attributes.get("input_forget", 0):
            raise self.refuse(by, "input_forget couples two gates; expected separate gates (0)")
        return self._recurrent(by, given, attributes, "lstm", ["sigmoid", "tanh", "tanh"])

    def _gru(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        if attributes.get("linear_before_reset", 0) != 1:
            raise self.refuse(
                by, "resets before the product (linear_before_reset=0), another cell than ours; expected 1"
            )
        return self._recurrent(by, given, attributes, "gru", ["sigmoid", "tanh"])

    def _rnn(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        activations = {name.lower() for name in attributes.get("activations", ["tanh"])}
        usual = "relu" if activations == {"relu"} else "tanh"
        return self._recurrent(by, given, attributes, f"rnn_{usual}", [usual])

    def _recurrent(
        self, by: str, given: list[Value], attributes: Mapping[str, Any], cell: str, usual: list[str]
    ) -> list[Value]:
        direction = attributes.get("direction", "forward")
        if direction not in ("forward", "reverse", "bidirectional"):
            raise self.refuse(by, f"direction is {direction!r:.50}; expected forward, reverse or bidirectional")
        ways = 2 if direction == "bidirectional" else 1
        activations = [name.lower() for name in attributes.get("activations", usual * ways)]
        if activations != usual * ways:
            raise self.refuse(by, f"activations are {', '.join(activations)!r:.100}; expected {', '.join(usual)}")
        for name, expected in (("clip", 0.0), ("layout", 0)):
            if attributes.get(name, expected) != expected:
                raise self.refuse(by, f"{name} is {attributes[name]}; expected {expected}")
        for name in ("activation_alpha", "activation_beta"):
            if attributes.get(name):
                raise self.refuse(by, f"{name} is set; expected the usual activations")
        if self.found.cell not in ("", cell):
            raise self.refuse(by, f"a {cell} above a {self.found.cell}; expected layers of one cell")
        x, *others = [*given, *[Value("missing")] * 8][:8]
        W, R, bias, lengths, *states = others
        if x.kind == "input":
            x = Value("sequence", STEPS, 0, sizes=x.sizes)
        if x.kind != "sequence" or with_widths(x.axes) != STEPS or x.decoded:
            raise self.refuse(by, f"reads the output of {x.by}; expected the input, an embedding, or the layer below")
        layer = len(self.found.passes)
        again = direction == "reverse" and layer > 0 and x.layer == layer - 1
        if x.layer != layer and not again:
            raise self.refuse(by, f"reads layer {x.layer}, not layer {layer}; expected one stack of layers")
        if x.way and len(self.found.passes[x.layer - 1]) > 1:
            raise self.refuse(by, f"reads only the {x.way} direction of the layer below; expected both")
        if lengths.kind == "number":
            raise self.refuse(by, "sequence_lens is a constant, so the graph fits one batch; expected an input")
        if lengths.kind == "unknown":
            raise self.refuse(by, f"sequence_lens comes from {lengths.by}; expected an input")
        for state in states[: 1 + (cell == "lstm")]:
            if state.kind not in ("missing", "input", "state") and not (state.kind == "number" and all_zeros(state)):
                what = "constants other than 0" if state.kind == "number" else f"the output of {state.by}"
                raise self.refuse(by, f"its initial state is {what}; expected an input, or zeros")
        weights = self._weights(by, cell, [W, R, bias], ways, attributes.get("hidden_size"))
        if again:
            if len(self.found.passes[-1]) != 1:
                raise self.refuse(by, "a second reverse direction of one layer; expected one")
            self.found.passes[-1] = (*self.found.passes[-1], *weights)
            layer -= 1
        elif direction == "reverse":
            raise self.refuse(by, "runs in reverse alone; expected forward, or both directions")
        else:
            self.found.passes.append(weights)
        self.found.cell = cell
        way = "" if ways == 2 else direction
        state = Value("state", by=by)
        return [Value("sequence", ((T,), (D,), (B,), (F,)), layer + 1, way=way, sizes=x.sizes, by=by), state, state]

    def _weights(self, by: str, cell: str, given: list[Value], ways: int, hidden: Any) -> tuple[PassWeights, ...]:
        arrays = []
        for name, value in zip("WRB", given, strict=True):
            if value.kind == "missing" and name == "B":
                continue
            if value.array is None:
                raise self.refuse(by, f"its {name} comes from {value.by}; expected an initializer")
            if value.array.dtype != np.float32 or value.array.ndim != (2 if name == "B" else 3):
                kind = f"type {value.array.dtype}, shape {value.array.shape}"
                raise self.refuse(by, f"its {name} has {kind}; expected float32 with {2 if name == 'B' else 3} axes")
            if len(value.array) != ways:
                raise self.refuse(by, f"its {name} has shape {value.array.shape}; expected {ways} direction(s)")
            arrays.append(value.array)
        H = arrays[1].shape[2]
        if hidden is not None and hidden != H:
            raise self.refuse(by, f"hidden_size is {hidden}, but its R has shape {arrays[1].shape}")
        try:
            layout = LAYOUTS["onnx"][cell]
            return tuple(from_layout(cell, [array[k] for array in arrays], layout, H) for k in range(ways))
        except ValueError as problem:
            raise self.refuse(by, str(problem)) from None

    # Layers around them.

    def _gather(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        table, ids = [*given, Value("missing"), Value("missing")][:2]
        if table.kind in ("state", "input"):
            return [Value("state", by=by)]
        array = table.array
        if array is None or array.dtype != np.float32 or ids.kind != "input" or attributes.get("axis", 0):
            return self._nothing(by, given)
        if self.found.embedding is not None:
            return [Value("unknown", by=f"{by}, a second embedding")]
        self.found.embedding = array
        return [Value("sequence", STEPS, 0, sizes=ids.sizes, by=by)]

    def _matmul(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        x, weight = [*given, Value("missing"), Value("missing")][:2]
        return self._decoder(by, x, weight.array, None)

    def _gemm(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        x, weight, bias = [*given, *[Value("missing")] * 3][:3]
        if attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1 or attributes.get("transA", 0):
            return [Value("unknown", by=f"{by}, which is scaled or transposed")]
        array = weight.array
        if array is not None and attributes.get("transB", 0):
            array = array.T
        return self._decoder(by, x, array, bias)

    def _decoder(self, by: str, x: Value, weight: npt.NDArray[Any] | None, bias: Value | None) -> list[Value]:
        if x.kind != "sequence" or not x.layer or x.decoded:
            return [Value("unknown", by=by)]
        if x.way and len(self.found.passes[x.layer - 1]) > 1:
            return [Value("unknown", by=f"{by}, which reads one of two directions")]
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32 or x.axes[-1:] not in (((F,),), ((D, F),)):
            return [Value("unknown", by=by)]
        if self.found.decoder_weight is not None:
            return [Value("unknown", by=f"{by}, a second decoder")]
        if x.layer != len(self.found.passes):
            return [Value("unknown", by=f"{by}, a decoder below the last layer")]
        self.found.decoder_weight = np.ascontiguousarray(weight.T)
        found = replace(x, decoded="product" if bias is None else "logits", by=by)
        if bias is not None and bias.kind != "missing":
            if bias.array is None or bias.array.ndim != 1:
                return [Value("unknown", by=by)]
            self.found.decoder_bias = bias.array
        return [found]

    def _logsoftmax(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        x, usual = given[0], -1 if self.file.opset >= 13 else 1
        last = x.kind == "sequence" and x.decoded and x.axes[-1:] in (((F,),), ((D, F),))
        if last and attributes.get("axis", usual) in (-1, len(x.axes) - 1):
            return [replace(x, decoded="probabilities", by=by)]
        return self._nothing(by, given)

    _softmax = _logsoftmax

    def _add(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        if len(given) == 2:
            for x, bias in (given, given[::-1]):
                if x.kind == "sequence" and x.decoded == "product" and bias.array is not None and bias.array.ndim == 1:
                    self.found.decoder_bias = bias.array
                    return [replace(x, decoded="logits", by=by)]
        return self._nothing(by, given)
