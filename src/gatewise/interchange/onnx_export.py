"""ONNX files of recurrent stacks and models: their graphs, metadata and seal.

Every graph takes time first: ``x`` (T, B, I) or ids (T, B). A *sequence* graph also takes ``lengths`` (B,) int32, from
0 to T, and ignores what stands past them. A *step* graph reads one step of each row and has neither T nor ``lengths``.
States are inputs ``h_0`` and ``c_0``, and outputs ``h_n`` and ``c_n``, (L·D, B, H).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from gatewise.artifact.atomic import write_atomically
from gatewise.errors import UsageError
from gatewise.files import size
from gatewise.interchange.onnx_graph import IR, OPSET, Graph, add_stack, joined, onnx_module
from gatewise.interchange.stack import StackWeights
from gatewise.wording import option

GRAPHS = ("sequence", "step")
LARGEST = 2**31 - 2**20
"""The most bytes of weights in one file: protobuf's limit, less what else the file holds."""
SEAL, SEAL_SIZE = "gatewise.sha256", 64
"""The key of the last metadata, the SHA-256 of all bytes before it: the last 64 bytes of the file."""


def stack_graph(weights: StackWeights, graph: str) -> Graph:
    """Return the graph of a bare stack: ``x (, lengths), h_0 (, c_0)`` to ``y, h_n (, c_n)``.

    Raises:
        UsageError: there is no such graph, or ONNX cannot hold this stack.
    """
    check_graph(weights, graph)
    made, size_of_x = Graph(), weights.spec.input_size
    if graph == "step":
        x, lengths = made.unsqueezed(made.input("x", "FLOAT", "B", size_of_x), 0), None
    else:
        x, lengths = made.input("x", "FLOAT", "T", "B", size_of_x), made.input("lengths", "INT32", "B")
    y, after = stateful(made, weights, x, lengths)
    width = weights.spec.num_directions * weights.spec.hidden_size
    if graph == "step":
        made.output("y", made.squeezed(y, 0), "FLOAT", "B", width)
    else:
        made.output("y", y, "FLOAT", "T", "B", width)
    state_outputs(made, weights, after)
    return made


def check_graph(weights: StackWeights, graph: str) -> None:
    """Check that there is a graph of this name for a stack.

    Raises:
        UsageError: there is none.
    """
    if graph not in GRAPHS:
        raise UsageError(f"{option('graph', graph)}: no such graph; expected one of {', '.join(GRAPHS)}")
    if graph == "step" and weights.spec.bidirectional:
        raise UsageError(
            f"{option('graph', graph)}: the stack is bidirectional and reads from the end of a sequence; use "
            f"{option('graph', 'sequence')}"
        )


def stateful(graph: Graph, weights: StackWeights, x: str, lengths: str | None) -> tuple[str, list[list[str]]]:
    """Add a stack whose initial state is an input."""
    passes = weights.spec.num_layers * weights.spec.num_directions
    before = [graph.input(f"{part}_0", "FLOAT", passes, "B", weights.spec.hidden_size) for part in _states(weights)]
    return add_stack(graph, "rnn", weights, x, lengths, before)


def state_outputs(graph: Graph, weights: StackWeights, after: list[list[str]]) -> None:
    """Add the final states as outputs."""
    passes = weights.spec.num_layers * weights.spec.num_directions
    for part, values in zip(_states(weights), after, strict=True):
        graph.output(f"{part}_n", joined(graph, values), "FLOAT", passes, "B", weights.spec.hidden_size)


def _states(weights: StackWeights) -> tuple[str, ...]:
    return weights.spec.about.states


def stack_facts(weights: StackWeights) -> dict[str, str]:
    """Return the metadata of a bare stack."""
    return {"gatewise.stack": json.dumps(asdict(weights.spec))}


def write_graph(path: Path, graph: Graph, facts: Mapping[str, str], description: str) -> None:
    """Write a file after ONNX's own checks, sealed with its hash.

    Args:
        path: the file.
        graph: its graph.
        facts: the metadata, texts by name.
        description: what the file is, for its readers.

    Raises:
        UsageError: it is too large for one file, or its name, by which it is recognized, does not end in ``.onnx``.
    """
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path}: expected a name that ends in .onnx")
    total = sum(array.nbytes for array in graph.arrays.values()) + sum(len(text.encode()) for text in facts.values())
    if total > LARGEST:
        raise UsageError(f"{path}: {size(total)}; an ONNX file holds at most {size(LARGEST)}: expected a smaller model")
    helper, onnx = graph.helper, onnx_module()
    arrays = [onnx_module("onnx.numpy_helper").from_array(array, name) for name, array in graph.arrays.items()]
    made = helper.make_graph(graph.nodes, "gatewise", graph.inputs, graph.outputs, arrays)
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="gatewise",
        producer_version=version("gatewise"),
        doc_string=description,
    )
    helper.set_model_props(model, {**facts, SEAL: "0" * SEAL_SIZE})
    onnx.checker.check_model(model, full_check=True)
    content = memoryview(model.SerializeToString(deterministic=True))
    if content[-SEAL_SIZE:] != b"0" * SEAL_SIZE:
        raise RuntimeError(f"{path}: the metadata are not at the end of the file")
    covered = content[:-SEAL_SIZE]
    write_atomically(path, [covered, hashlib.sha256(covered).hexdigest().encode()])
