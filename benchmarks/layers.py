"""``python -m benchmarks.layers``: recurrent layers of any engine against PyTorch's modules."""

from typing import Annotated

import typer

from gatewise.cli.bench import AsJson, Out, Threads, Turns, finish


def main(
    context: typer.Context,
    engine: Annotated[str, typer.Option(help="Gatewise's engine: auto, native or torch.")] = "torch",
    threads: Threads = 2,
    turns: Turns = 5,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Time recurrent layers on full and ragged batches, traced passes, the loss, and prompts."""
    from gatewise.bench.layers import bench_layers

    rows = bench_layers(engine, threads, turns, report=lambda line: typer.echo(line, err=as_json))
    finish(context, {"bench": "layers", "threads": threads, "rows": rows}, out, as_json, "engine", "threads", "turns")


if __name__ == "__main__":
    typer.run(main)
