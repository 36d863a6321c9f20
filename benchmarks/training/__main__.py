"""``python -m benchmarks.training [RECIPE]``."""

from pathlib import Path
from typing import Annotated

import typer

from gatewise.cli.bench import AsJson, Out, Threads, finish


def main(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="A recipe; by default the table of all, each in several precisions.")
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            help="The recipe's data; for the table, a folder with mnist and ud_en_ewt. By default, synthetic data."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="Gatewise's precision: fp32, high or bf16.")] = "fp32",
    peer_precision: Annotated[str, typer.Option(help="PyTorch's: fp32, bf16 (autocast) or 'bf16 module'.")] = "fp32",
    threads: Threads = 2,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 7,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Time training steps of Gatewise and of straightforward PyTorch programs of the same models, in turns."""
    from benchmarks.training.comparison import compare_training
    from benchmarks.training.table import bench_training

    if not recipe:
        result = bench_training(data, threads=threads, turns=turns, report=lambda line: typer.echo(line, err=as_json))
        finish(context, result, out, as_json, "data", "threads", "turns")
        return
    result = compare_training(
        recipe, data, precision=precision, peer_precision=peer_precision, threads=threads, turns=turns
    )
    if finish(context, result, out, as_json, "recipe", "data", "precision", "peer_precision", "threads", "turns"):
        return
    tokens = "images" if "ours_images_per_second" in result else "words"
    typer.echo(f"{recipe}, training step, {precision}, {threads} threads; cost and gradients agree")
    for name, side, memory in (("gatewise", "ours", "ours"), ("PyTorch", "pytorch", "peer")):
        speed, peak = result[f"{side}_{tokens}_per_second"], result[f"{memory}_peak_mib"]
        typer.echo(f"{name:<12}{speed:>10,.0f} {tokens}/s{peak:>12,.0f} MiB peak memory")
    low, high = result["ratio_range"]
    typer.echo(f"ratio {result['ratio']:.3f} (median of {turns} turns, {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    typer.run(main)
