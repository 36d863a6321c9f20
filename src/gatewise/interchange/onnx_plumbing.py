"""What is known of the values of an ONNX graph, and the nodes that move numbers without changing them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError
from gatewise.interchange.layouts import Array, PassWeights
from gatewise.interchange.onnx_file import OnnxFile

T, B, D, F = "T", "B", "D", "F"
Axes = tuple[tuple[str, ...], ...]
STEPS: Axes = ((T,), (B,), (F,))
"""The axes of what a layer reads: time, batch, features."""


@dataclass(frozen=True)
class Value:
    """What is known of a value.

    Attributes:
        kind: ``number`` (constant), ``input``, ``sequence`` (features of steps), ``state`` (derived from an input or
            zeros), ``shape`` (sizes of axes of a sequence), or ``unknown``.
        axes: of a sequence or a shape, the axes; merged ones are together.
        layer: of a sequence, the last layer: 0 for what the first one reads, then 1, 2, …
        array: of a constant.
        by: the node that gives it, for messages.
        way: of a sequence from one direction of a layer, ``forward`` or ``reverse``.
        sizes: of an input or a sequence, the sizes of its first axes that the graph states; 0 where it states none.
        decoded: of a sequence, whether the decoder was applied: ``""``, ``product``, ``logits`` or, after
            a softmax or its logarithm, ``probabilities``.
    """

    kind: str
    axes: Axes = ()
    layer: int = 0
    array: npt.NDArray[Any] | None = None
    by: str = ""
    way: str = ""
    sizes: tuple[int, ...] = ()
    decoded: str = ""


@dataclass
class Found:
    """What the graph was found to hold."""

    cell: str = ""
    passes: list[tuple[PassWeights, ...]] = field(default_factory=list)
    embedding: Array | None = None
    decoder_weight: Array | None = None
    decoder_bias: Array | None = None


class Plumbing:
    """Follows values through the nodes that move them; each method returns what is known of a node's outputs.

    Args:
        file: the file.
    """

    def __init__(self, file: OnnxFile) -> None:
        self.file, self.found = file, Found()

    def refuse(self, by: str, what: str) -> DataError:
        """Return the error for a node."""
        return DataError(f"{self.file.path}: {by}: {what}")

    def _attribute(self, one: Any, by: str) -> Any:
        kinds = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}
        if one.type not in kinds:
            raise self.refuse(by, f"its attribute {one.name!r:.100} has type {one.type}; expected a number or a text")
        value = getattr(one, kinds[one.type])
        if one.type == 3:
            return value.decode(errors="replace")
        if one.type == 8:
            return [text.decode(errors="replace") for text in value]
        return list(value) if one.type in (6, 7) else value

    def _numbers(self, value: Value) -> list[int] | None:
        """Return a constant list of integers, or None."""
        array = value.array
        if array is None or array.dtype.kind not in "iu" or array.size > 8:
            return None
        return [int(one) for one in array.reshape(-1)]

    def _transpose(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        x, order = given[0], attributes.get("perm")
        if x.array is not None:
            order = order or list(range(x.array.ndim))[::-1]
            if sorted(order) != list(range(x.array.ndim)):
                raise self.refuse(by, f"perm is {order}; expected an order of {x.array.ndim} axes")
            return [replace(x, array=x.array.transpose(order))]
        if x.kind == "sequence" and not x.layer and x.axes == STEPS and order == [1, 0, 2]:
            # Which axis of an embedding is time is settled by the first layer.
            return [replace(x, sizes=x.sizes[1::-1])]
        if x.kind == "sequence" and order and sorted(order) == list(range(len(x.axes))):
            return [replace(x, axes=tuple(x.axes[k] for k in order))]
        if x.kind == "input":
            known = order if order and sorted(order) == list(range(len(x.sizes))) else []
            return [replace(x, sizes=tuple(x.sizes[k] for k in known))]
        return [x if x.kind == "state" else Value("unknown", by=by)]

    def _squeeze(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        axes = attributes.get("axes") if len(given) < 2 else self._numbers(given[1])
        x = given[0]
        if x.kind == "sequence":
            if axes is None or len(axes) != 1 or not -len(x.axes) <= axes[0] < len(x.axes):
                return [Value("unknown", by=by)]
            at = axes[0] % len(x.axes)
            if x.axes[at] != (D,) or not x.way:
                return [Value("unknown", by=f"{by}, which removes another axis than that of one direction")]
            return [replace(x, axes=x.axes[:at] + x.axes[at + 1 :])]
        return self._same(by, given, attributes, node)

    def _reshape(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        x, shape = given[0], self._numbers(given[1]) if len(given) > 1 else attributes.get("shape")
        if x.kind == "shape" and shape == [-1]:
            return [x]
        if x.kind != "sequence":
            return self._same(by, given, attributes, node)
        if len(given) > 1 and given[1].kind == "shape" and sum(given[1].axes, ()) == sum(x.axes, ()):
            return [replace(x, axes=given[1].axes)]
        if shape is None or attributes.get("allowzero", 0):
            return [Value("unknown", by=f"{by}, whose shape is not a constant")]
        decoder = self.found.decoder_weight
        if x.decoded and decoder is not None and shape == [-1, len(decoder)]:
            return [replace(x, axes=(sum(x.axes[:-1], ()), x.axes[-1]))]
        count = len(shape)
        width = self._width(x)
        stated = [*x.sizes, 0, 0]
        keeps = count == 3 and shape.count(-1) < 2
        keeps = keeps and all(one in (0, -1) or one == size for one, size in zip(shape[:2], stated, strict=False))
        if keeps and x.axes == ((T,), (B,), (D,), (F,)) and shape[2] in (-1, width):
            return [replace(x, axes=((T,), (B,), (F,)) if x.way else ((T,), (B,), (D, F)))]
        return [Value("unknown", by=f"{by} to {shape}")]

    def _width(self, x: Value) -> int:
        own = self.found.passes[x.layer - 1] if x.layer else ()
        return sum(one.weight_hh.shape[1] for one in own[: 1 if x.way else 2])

    def _concat(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        if len(given) == 2 and all(one.kind == "sequence" for one in given):
            first, second = given
            last = attributes.get("axis", 1) in (-1, len(first.axes) - 1)
            ways = (first.way, second.way) == ("forward", "reverse") and first.layer == second.layer
            if last and ways and first.axes == second.axes == STEPS:
                return [replace(first, axes=((T,), (B,), (D, F)), way="")]
        if given and all(one.kind == "shape" for one in given):
            return [replace(given[0], axes=sum((one.axes for one in given), ()))]
        if all(one.kind in ("input", "state") or all_zeros(one) for one in given):
            return [Value("state", by=by)]
        return self._nothing(by, given)

    def _identity(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        return given[:1] or [Value("unknown", by=by)]

    def _dropout(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        training = given[2] if len(given) > 2 else Value("missing")
        if training.kind != "missing" and (training.array is None or training.array.any()):
            return [Value("unknown", by=f"{by} in training mode")]
        return given[:1] or [Value("unknown", by=by)]

    def _constant(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        for name, kind in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
            if name in attributes:
                return [Value("number", array=np.asarray(attributes[name], kind), by=by)]
        if "value" not in attributes:
            return [Value("unknown", by=by)]
        return [Value("number", array=self.file.values(attributes["value"], by), by=by)]

    def _constantofshape(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        value = attributes.get("value")
        zero = value is None or not self.file.values(value, by).any()
        return [Value("state" if zero else "unknown", by=by)]

    def _same(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        """Return what a node that moves numbers about gives: an input or a state stays one."""
        x = given[0] if given else Value("unknown")
        if x.kind == "number":
            return [Value("state" if all_zeros(x) else "unknown", by=by)]
        found = replace(x, sizes=()) if x.kind == "input" and node.op_type != "Cast" else x
        if x.kind == "input" and node.op_type in ("Slice", "Split", "Expand", "Reshape"):  # in part or reordered
            found = Value("state", by=by)
        return [found if x.kind in ("input", "state") else Value("unknown", by=by)] * len(node.output)

    def _shape(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        axes = given[0].axes if given and given[0].kind == "sequence" else ()
        if attributes.get("start", 0) or "end" in attributes:
            return self._nothing(by, given)
        return [Value("shape" if axes else "unknown", axes=axes, by=by)]

    def _mul(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        if len(given) == 2 and all(one.kind == "shape" and len(one.axes) == 1 for one in given):
            return [replace(given[0], axes=(given[0].axes[0] + given[1].axes[0],))]
        return self._nothing(by, given)

    def _slice(self, by: str, given: list[Value], attributes: Mapping[str, Any], node: Any) -> list[Value]:
        if given and given[0].kind == "shape":
            start, end = (self._numbers(one) for one in given[1:3]) if len(given) == 3 else (None, None)
            if start is None or end is None or len(start) != 1 or len(end) != 1:
                return self._nothing(by, given)
            return [replace(given[0], axes=given[0].axes[start[0] : end[0]])]
        return self._same(by, given, attributes, node)

    _split = _unsqueeze = _expand = _cast = _same

    def _nothing(self, by: str, given: list[Value], *_: Any) -> list[Value]:
        return [Value("unknown", by=by)]


def all_zeros(value: Value) -> bool:
    """Return whether a value is a constant of zeros."""
    return value.array is not None and value.array.dtype.kind == "f" and not value.array.any()


def with_widths(axes: Axes) -> Axes:
    """Return axes with both directions of a layer as its features."""
    return tuple((F,) if axis == (D, F) else axis for axis in axes)
