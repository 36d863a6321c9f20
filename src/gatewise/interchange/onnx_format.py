"""ONNX: graphs of recurrent stacks and models, one for sequences or one for single steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import DataError
from gatewise.interchange.carried import CarriedRun, read_texts, texts_of
from gatewise.interchange.layouts import LAYOUTS, from_layout
from gatewise.interchange.model import ModelWeights
from gatewise.interchange.onnx_export import stack_facts, stack_graph, write_graph
from gatewise.interchange.onnx_file import OnnxFile
from gatewise.interchange.onnx_import import Reader
from gatewise.interchange.onnx_models import INTERFACE, model_graph
from gatewise.interchange.onnx_verify import gap, output_differences
from gatewise.interchange.stack import StackWeights
from gatewise.models.loading import weights_to_save
from gatewise.nn import Recurrent

_RUN = "gatewise.run/"
"""What the keys of the files of a run begin with."""


def recognises(path: Path) -> bool:
    """Return whether a file is ONNX, by its suffix."""
    return path.suffix.lower() == ".onnx"


def load_stack(path: Path) -> StackWeights:
    """Read the recurrent stack of a graph: LSTM, GRU or RNN nodes, one above the other.

    Raises:
        DataError: the file is missing or damaged, or has no stack that can be represented.
        MissingPackage: onnx is not installed.
    """
    return Reader(OnnxFile.read(path)).read().stack()


def save_stack(weights: StackWeights, path: Path, *, graph: str = "sequence") -> None:
    """Write the graph of a bare stack.

    Args:
        weights: the stack.
        path: the file.
        graph: ``sequence``: ``x`` (T, B, I), ``lengths`` (B,) int32, ``h_0`` and, for an LSTM, ``c_0`` (L·D, B, H) to
            ``y`` (T, B, D·H), ``h_n``, ``c_n``; or ``step``, without T and ``lengths``.

    Raises:
        UsageError: there is no such graph, ONNX cannot hold this stack, or it exceeds 2 GB.
        MissingPackage: onnx is not installed.
    """
    write_graph(path, stack_graph(weights, graph), stack_facts(weights), f"A recurrent stack: its {graph} graph.")


def load_model(path: Path) -> ModelWeights:
    """Read a language model: Gather for the embedding, a stack, and MatMul with Add, or Gemm, for the decoder.

    Raises:
        DataError: as for ``load_stack``, or the graph computes something else.
    """
    return Reader(OnnxFile.read(path)).read().model()


def save_model(model: nn.Module, path: Path, *, graph: str = "sequence") -> None:
    """Write the graph of a model; ``onnx_models.INTERFACE`` says what each task's reads and gives.

    Raises:
        UsageError: as for ``save_stack``.
    """
    write_graph(path, model_graph(model, graph), {}, INTERFACE[type(model)])


def save_run(run: RunFolder, model: nn.Module, path: Path, *, graph: str = "sequence") -> None:
    """Write the graph of a run's model, with the files beside its weights as metadata.

    Raises:
        UsageError: as for ``save_stack``.
    """
    facts = {f"{_RUN}{name}": text for name, text in texts_of(run, model).items()}
    write_graph(path, model_graph(model, graph), facts, INTERFACE[type(model)])


def load_run(path: Path) -> CarriedRun | None:
    """Return the run that ``save_run`` wrote; None if the file is another program's, or of a bare stack.

    The graph must be the one that Gatewise writes for the model: what it computes is known by that.

    Raises:
        DataError: the file is missing, damaged or changed.
    """
    file = OnnxFile.read(path)
    texts = {key.removeprefix(_RUN): text for key, text in file.facts.items() if key.startswith(_RUN)}
    if not texts:
        return None
    carried = read_texts(path, texts, len(file.graph.initializer), lambda model: _weights_of(file, model))
    graph = "sequence" if any(one.name == "lengths" for one in file.graph.input) else "step"
    expected = model_graph(carried.model, graph)
    same = list(file.graph.node) == expected.nodes and list(file.graph.input) == expected.inputs
    same = same and list(file.graph.output) == expected.outputs
    same = same and {one.name for one in file.graph.initializer} == set(expected.arrays)
    if not same or any(not np.array_equal(file.array(name), array) for name, array in expected.arrays.items()):
        raise DataError(
            f"{path}: not the graph that this version of Gatewise writes for the model; expected it unchanged: export "
            "the run again"
        )
    return carried


def _weights_of(file: OnnxFile, model: nn.Module) -> Mapping[str, npt.NDArray[Any]]:
    """Return the arrays of a model by the names of its ``state_dict``."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Recurrent):
            found |= {f"{name}.{key}": array for key, array in _stack_of(file, name, module).items()}
    for name in model.state_dict():
        if name not in found:
            tied = name == "decoder.weight" and not file.holds(name)
            found[name] = file.array("embedding.weight" if tied else name)
    for name, array in found.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise DataError(
                f"{file.path}: {name} has type {array.dtype}, or numbers that are not finite; it is damaged"
            )
    return found


def _stack_of(file: OnnxFile, name: str, module: Recurrent) -> Mapping[str, npt.NDArray[Any]]:
    spec, passes = module.spec, []
    if spec.num_layers > len(file.graph.initializer):
        raise DataError(f"{file.path}: {spec.num_layers} layers, more than the file holds; it is damaged")
    for layer in range(spec.num_layers):
        arrays = [file.array(f"{name}.{kind}_l{layer}") for kind in "WRB"]
        if any(len(array) != spec.num_directions for array in arrays):
            raise DataError(f"{file.path}: {name}: layer {layer} has another number of directions; it is damaged")
        for way in range(spec.num_directions):
            try:
                own = [array[way] for array in arrays]
                passes.append(from_layout(spec.cell, own, LAYOUTS["onnx"][spec.cell], spec.hidden_size))
            except ValueError as problem:
                raise DataError(f"{file.path}: {name}: layer {layer}: {problem}") from None
    return StackWeights.of(spec.cell, passes, bidirectional=spec.bidirectional, source=str(file.path)).arrays()


def differences(model: nn.Module, path: Path) -> dict[str, float]:
    """Run a model and its file on random and ragged input, also with rows of length 0; see ``onnx_verify``.

    ``weights`` is that of all tensors, read back from the file, of which none may differ.

    Raises:
        MissingPackage: ONNX Runtime is not installed.
    """
    found = _weights_of(OnnxFile.read(path), model)
    own = {name: tensor.cpu().numpy() for name, tensor in weights_to_save(model).items()}
    return {"weights": max(gap(found[name], own[name]) for name in own), **output_differences(model, path)}
