"""``gatewise train``."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A built-in recipe, or the path of a TOML file.  [demo]")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The data of the recipe's task, a folder or a file; overrides the recipe's data."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder.  [runs/RECIPE-TIME]")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: --set training.epochs=1. Can be repeated."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out where it stopped.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse labels that do not occur in the training data.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed for initial weights, dropout and sampling.")] = None,
) -> None:
    """Train a model and write a run folder.

    Without a recipe, trains on the language reference bundled with Python: no download, about a minute. Under torchrun,
    the rows of the batch are divided among the processes.
    """
    from gatewise.cli.figures import baseline_line, result_lines
    from gatewise.cli.output import write
    from gatewise.config import parse_override
    from gatewise.tasks.train import train

    overrides = dict(parse_override(assignment) for assignment in set_ or [])
    if strict:
        overrides["data.strict"] = True
    run = train(recipe, data=data, out=out, overrides=overrides, resume=resume, seed=seed, progress=True)
    if not run.metrics:
        return  # one of several processes; only the first one reports
    lines = list(result_lines(run.metrics))
    if worse := baseline_line(run.metrics):
        lines.append(worse)
    if (sample := run.sample) is not None:
        lines.append(f"a sample of text:\n\n{_indent(sample)}\n")
    lines.append(f"run folder: {run.path}")
    with suppress(OSError, ValueError):  # the run is saved; failing to print the report is not a failure
        write("\n".join(lines))


def _indent(text: str) -> str:
    import textwrap

    return "\n".join(
        textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="    ") for line in text.split("\n")
    )
