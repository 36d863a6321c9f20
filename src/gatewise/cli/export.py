"""``gatewise export``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    framework: Annotated[str, typer.Option("--to", metavar="FORMAT", help="torch or onnx.")],
    out: Annotated[Path, typer.Option(help="The file to write; an existing one is replaced.")],
    graph: Annotated[
        str | None, typer.Option(metavar="GRAPH", help="Of ONNX: sequence or step, for streams.  [sequence]")
    ] = None,
) -> None:
    """Write a run's model as a file of another framework, and compare both.

    Both sides run on random and ragged input, and the largest differences are printed, relative to the largest output,
    but at least to 1. If one exceeds 1e-05, no file is kept. For PyTorch, the file is a state_dict in safetensors or,
    with a name in .pt, .pth or .bin, as torch.save writes it. For ONNX, the file also holds the run's settings, labels
    and words, so that gatewise import makes a run of it again.
    """
    from gatewise.cli.output import write
    from gatewise.interchange.runs import export_run

    differences, reason = export_run(run, out, framework, graph=graph)
    write(f"wrote {out}")
    for name, difference in differences.items():
        write(f"largest difference of {name}: {difference:.1e}")
    if reason:
        write(f"unverified: {reason}; install it and export again")
