"""``gatewise export``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    framework: Annotated[str, typer.Option("--to", metavar="FORMAT", help="runtime, torch, keras, onnx or tf1.")],
    out: Annotated[Path, typer.Option(help="The file to write; an existing one is replaced.")],
    weights: Annotated[
        str | None, typer.Option(metavar="KIND", help="Of runtime: fp32, bf16 or int8, for small files.  [fp32]")
    ] = None,
    graph: Annotated[
        str | None, typer.Option(metavar="GRAPH", help="Of ONNX: sequence or step, for streams.  [sequence]")
    ] = None,
    forget_bias: Annotated[
        float | None,
        typer.Option(metavar="X", help="What the cells that will read tf1 add; it is subtracted.  [0]"),
    ] = None,
) -> None:
    """Write a run's model as one file for gatewise.runtime, or as a file of another framework, and compare both.

    Both sides run on random and ragged input, and the largest differences are printed, relative to the largest output,
    but at least to 1. If one exceeds 1e-05, no file is kept.

    For gatewise.runtime, which needs no PyTorch, the file holds a whole model of any task: Python, C and the browser
    read it. With bf16 or int8, its outputs are compared with those of a model of the same rounded weights (int8: up to
    0.001, since activations are rounded, too), and what rounding costs is printed.

    For PyTorch, the file is a state_dict in safetensors or,
    with a name in .pt, .pth or .bin, as torch.save writes it. For Keras 3, it is a Sequential model, .keras, batch
    first: ids to logits, numbers to probabilities or to a number. For ONNX, it also holds the run's settings, labels
    and words, so that gatewise import makes a run of it again.

    tf1 is a checkpoint of TensorFlow 1, of a language model, under the names of the PTB tutorial; --out is its prefix.
    """
    from gatewise.cli.output import write
    from gatewise.interchange.runs import export_run

    differences, reason = export_run(run, out, framework, weights=weights, graph=graph, forget_bias=forget_bias)
    write(f"wrote {out}")
    for name, difference in differences.items():
        write(f"largest difference of {name}: {difference:.1e}")
    if reason:
        write(f"unverified: {reason}; install it and export again")
