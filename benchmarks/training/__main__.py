"""``python -m benchmarks.training [RECIPE...]``."""

from pathlib import Path
from typing import Annotated

import typer

from gatewise.cli.bench import AsJson, Out, Threads, Turns, finish


def main(
    context: typer.Context,
    recipes: Annotated[list[str] | None, typer.Argument(metavar="RECIPE...", help="Recipes; by default all.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder with mnist and ud_en_ewt; by default, synthetic data.")
    ] = None,
    threads: Threads = 2,
    turns: Turns = 7,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Time training steps of Gatewise, in each precision, and of PyTorch programs of the same models, in turns."""
    from benchmarks.training.table import TARGETS, bench_training

    result = bench_training(
        data,
        recipes=recipes or list(TARGETS),
        threads=threads,
        turns=turns,
        report=lambda line: typer.echo(line, err=as_json),
    )
    finish(context, result, out, as_json, "recipes", "data", "threads", "turns")


if __name__ == "__main__":
    typer.run(main)
