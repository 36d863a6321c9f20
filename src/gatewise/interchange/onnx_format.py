"""ONNX: graphs of recurrent stacks and models, one for sequences or one for single steps."""

from pathlib import Path

from gatewise.interchange.onnx_export import stack_facts, stack_graph, write_graph
from gatewise.interchange.stack import StackWeights


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


def recognises(path: Path) -> bool:
    """Return whether a file is ONNX, by its suffix."""
    return path.suffix.lower() == ".onnx"
