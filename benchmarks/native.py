"""``python -m benchmarks.native [DATA] [--out FILE]``: the whole table of the native engine on this machine.

The training steps of ``benchmarks.training``, and the layers and single steps of ``gatewise bench native``, one after
the other: half an hour in which nothing else may run.
"""

from pathlib import Path
from typing import Annotated

import typer

from gatewise.cli.bench import AsJson, Out, Threads, Turns, finish


def main(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Argument(help="A folder with mnist and ud_en_ewt; by default, synthetic data.")
    ] = None,
    threads: Threads = 2,
    turns: Turns = 7,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Time training steps, layers and single steps of the native engine against their peers, in turns."""
    from benchmarks.training.table import bench_training
    from gatewise.bench.native import bench_native
    from gatewise.bench.streaming_peers import refuse_without_onnxruntime
    from gatewise.engines.native.module import instructions

    def report(line: str) -> None:
        typer.echo(line, err=as_json)

    refuse_without_onnxruntime()
    training = bench_training(data, threads=threads, turns=turns, report=report)
    result = bench_native(threads=threads, turns=turns, report=report)
    result = {**result, "instructions": instructions()[0], "rows": training["rows"] + result["rows"]}
    if not finish(context, result, out, as_json, "data", "threads", "turns"):
        rates = ", ".join(f"{rate:,.0f} in {precision}" for precision, rate in result["product_rates"].items())
        typer.echo(f"matrix products on this machine, {threads} threads, GFLOP/s: {rates}")


if __name__ == "__main__":
    typer.run(main)
