"""``gatewise export``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    framework: Annotated[str, typer.Option("--to", metavar="FORMAT", help="torch.")],
    out: Annotated[Path, typer.Option(help="The file to write; an existing one is replaced.")],
) -> None:
    """Write a run's model as a file of another framework, and compare both.

    Both sides run on random and ragged input, and the largest differences are printed, relative to the largest output,
    but at least to 1. If one exceeds 1e-05, no file is kept. For PyTorch, the file is a state_dict in safetensors or,
    with a name in .pt, .pth or .bin, as torch.save writes it.
    """
    from gatewise.cli.output import write
    from gatewise.interchange.runs import export_run

    differences, reason = export_run(run, out, framework)
    write(f"wrote {out}")
    for name, difference in differences.items():
        write(f"largest difference of {name}: {difference:.1e}")
    if reason:
        write(f"unverified: {reason}; install it and export again")
