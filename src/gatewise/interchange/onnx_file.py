"""Reading an ONNX file: its nodes and arrays, with every size compared with what the file holds."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError
from gatewise.files import LARGEST_PART, check_memory, check_regular, open_regular, size
from gatewise.interchange.onnx_export import SEAL, SEAL_SIZE
from gatewise.interchange.onnx_graph import onnx_module

EXPECTED = "an ONNX file"
OPSETS = range(7, 23)
_LARGEST = 2**31 - 1
_FLOAT, _INT32, _INT64, _FLOAT16, _DOUBLE, _BFLOAT16, _BOOL = 1, 6, 7, 10, 11, 16, 9
_STORED: Mapping[int, tuple[str, str]] = {
    _FLOAT: ("<f4", "float_data"),
    _DOUBLE: ("<f8", "double_data"),
    _FLOAT16: ("<u2", "int32_data"),
    _BFLOAT16: ("<u2", "int32_data"),
    _INT32: ("<i4", "int32_data"),
    _INT64: ("<i8", "int64_data"),
    _BOOL: ("|b1", "int32_data"),
}
"""By element type: how raw numbers are stored, and the field of those that are not raw."""


@dataclass
class OnnxFile:
    """A parsed file.

    Attributes:
        path: the file.
        graph: its ``GraphProto``.
        opset: the version of ONNX's operators.
        facts: the metadata.
        sealed: whether Gatewise wrote it, and its hash is right.
    """

    path: Path
    graph: Any
    opset: int
    facts: Mapping[str, str]
    sealed: bool
    _tensors: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> "OnnxFile":
        """Read and check a file.

        Raises:
            DataError: it is missing, damaged, of an unknown opset, or needs functions or operators of others.
            MissingPackage: onnx is not installed.
        """
        model, content = _parsed(path)
        facts = {entry.key: entry.value for entry in model.metadata_props}
        ours = model.producer_name == "gatewise" or any(key.startswith("gatewise.") for key in facts)
        if ours:
            end = hashlib.sha256(memoryview(content)[:-SEAL_SIZE]).hexdigest()
            if facts.get(SEAL) != end or content[-SEAL_SIZE:] != end.encode():
                raise DataError(f"{path}: changed since Gatewise wrote it, or damaged; expected the file as written")
        versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        if len(versions) != 1 or versions[0] not in OPSETS:
            found = f"opset {versions[0]}" if len(versions) == 1 else f"{len(versions)} opsets of ONNX"
            raise DataError(f"{path}: {found}; expected one from {OPSETS[0]} to {OPSETS[-1]}")
        tensors = dict[str, Any]()
        for tensor in model.graph.initializer:
            if not tensor.name or tensor.name in tensors:
                raise DataError(f"{path}: initializer {tensor.name!r:.100} has no name of its own; it is damaged")
            tensors[tensor.name] = tensor
        return cls(path, model.graph, versions[0], facts, ours, tensors)

    def holds(self, name: str) -> bool:
        """Return whether there is an initializer of this name."""
        return name in self._tensors

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return an initializer; 16-bit floating point as float32.

        Raises:
            DataError: it is missing, of another type, or its size is not that of its shape.
        """
        if name not in self._tensors:
            raise DataError(f"{self.path}: no initializer {name!r:.100}; it is damaged")
        return self.values(self._tensors[name], f"initializer {name!r:.100}")

    def values(self, tensor: Any, what: str) -> npt.NDArray[Any]:
        """Return the numbers of a ``TensorProto``; ``what`` names it in the message of an error."""
        if tensor.data_type not in _STORED:
            kinds = onnx_module().TensorProto.DataType
            kind = kinds.Name(tensor.data_type) if tensor.data_type in kinds.values() else tensor.data_type
            raise DataError(f"{self.path}: {what} is {kind}; expected float32, or 16 bits, which fit into it")
        stored, data_field = _STORED[tensor.data_type]
        shape, width = tuple(tensor.dims), np.dtype(stored).itemsize
        if any(length < 0 for length in shape):
            raise DataError(f"{self.path}: {what} has shape {shape}; it is damaged")
        count = math.prod(shape)
        raw = b""
        if tensor.data_location:
            raw = self._external(tensor, what, count * width)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
        numbers = getattr(tensor, data_field)
        held = len(raw) if raw else len(numbers) * width
        if held != count * width:
            raise DataError(
                f"{self.path}: {what} claims the shape {shape}, {count * width:,} bytes, and holds {held:,}; it is "
                "damaged"
            )
        if raw:
            found = np.frombuffer(raw, stored)
        elif width == 2:
            found = np.array(numbers, np.int64).astype("<u2")
        else:
            found = np.array(numbers, stored)
        if tensor.data_type == _FLOAT16:
            found = found.view("<f2").astype(np.float32)
        elif tensor.data_type == _BFLOAT16:
            found = (found.astype(np.uint32) << 16).view(np.float32)
        array: npt.NDArray[Any] = found.astype(found.dtype.newbyteorder("=")).reshape(shape)
        return array

    def _external(self, tensor: Any, what: str, needed: int) -> bytes:
        """Read numbers that are in another file of the same folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        beside = Path(location)
        if not location or beside.is_absolute() or len(beside.parts) != 1 or location in (".", ".."):
            raise DataError(f"{self.path}: {what} is in the file {location!r:.100}; expected a name in the same folder")
        beside = self.path.parent / location
        if beside.is_symlink():
            raise DataError(f"{beside}: a link, not a regular file; expected the numbers of {self.path.name}")
        expected = f"the numbers of {self.path.name}, which was written with it"
        there = check_regular(beside, expected)
        try:
            start, length = int(entries.get("offset", "0")), int(entries.get("length", str(needed)))
        except ValueError:
            raise DataError(f"{self.path}: {what} has a damaged place in {location}; it is damaged") from None
        if start < 0 or length != needed or start + length > there:
            raise DataError(
                f"{self.path}: {what} has {needed:,} bytes at {start:,} of {location}, which holds {there:,}; one of "
                "the two files is damaged"
            )
        check_memory(str(beside), length)
        with open_regular(beside, expected) as file:
            file.seek(start)
            return file.read(length)


def _texts(model: Any) -> Iterator[Any]:
    """Yield every text that is read later; protobuf gives bytes for one that is not UTF-8, or raises an error."""
    yield model.producer_name
    for entry in (*model.metadata_props, *(one for tensor in model.graph.initializer for one in tensor.external_data)):
        yield from (entry.key, entry.value)
    yield from (one.name for one in (*model.graph.initializer, *model.graph.input, *model.graph.output))
    yield from (entry.domain for entry in model.opset_import)
    for node in model.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            yield from (text for one in attribute.t.external_data for text in (one.key, one.value))


def _parsed(path: Path) -> tuple[Any, bytes]:
    onnx, there = onnx_module(), check_regular(path, EXPECTED)
    if there > _LARGEST:
        raise DataError(f"{path}: {size(there)}; an ONNX file has at most {size(_LARGEST)}; expected {EXPECTED}")
    check_memory(str(path), 2 * there)
    with open_regular(path, EXPECTED) as file:
        content = file.read(_LARGEST)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as problem:  # the class depends on the version of protobuf
        if type(problem).__name__ != "DecodeError":
            raise
        raise DataError(f"{path}: damaged or truncated, or no ONNX file ({problem}); expected {EXPECTED}") from None
    try:
        readable = all(isinstance(text, str) for text in _texts(model))
    except UnicodeDecodeError:
        readable = False
    if not readable:
        raise DataError(f"{path}: a name in it is not UTF-8, so it is damaged; expected {EXPECTED}")
    if not len(model.graph.node):
        raise DataError(f"{path}: no graph with nodes; damaged or truncated; expected {EXPECTED}")
    if len(model.functions) or len(model.training_info):
        what = "functions" if len(model.functions) else "training steps"
        raise DataError(f"{path}: the model has {what} of its own; expected a graph of ONNX's operators alone")
    if sum(len(entry.value) for entry in model.metadata_props) > 4 * LARGEST_PART:
        raise DataError(f"{path}: more than {size(4 * LARGEST_PART)} of metadata; expected {EXPECTED}")
    return model, content
