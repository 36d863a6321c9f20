"""``gatewise bench``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Compare speed and memory with other libraries.", rich_markup_mode=None)

Threads = Annotated[int, typer.Option(min=1, help="Threads per side.")]
Turns = Annotated[int, typer.Option(min=1, help="Number of timings of each.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Out = Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")]


@app.callback()
def _group() -> None:
    """Compare speed and memory with other libraries: the same work in turns, timed only after checking outputs."""


@app.command("native")
def native_command(
    context: typer.Context, threads: Threads = 2, turns: Turns = 7, as_json: AsJson = False, out: Out = None
) -> None:
    """Time the native engine's layers, its loss, and single steps.

    Compares Gatewise with PyTorch and ONNX Runtime, in turns, on full and ragged batches; also times traced passes,
    threads, and evaluation.
    """
    from gatewise.bench.native import bench_native

    result = bench_native(threads=threads, turns=turns, report=lambda line: typer.echo(line, err=as_json))
    if not finish(context, result, out, as_json, "threads", "turns"):
        rates = ", ".join(f"{rate:,.0f} in {precision}" for precision, rate in result["product_rates"].items())
        typer.echo(f"matrix products on this machine, {threads} threads, GFLOP/s: {rates}")
        typer.echo(_COLUMNS)


@app.command("streaming")
def streaming_command(
    context: typer.Context, threads: Threads = 2, turns: Turns = 5, as_json: AsJson = False, out: Out = None
) -> None:
    """Time one step of a language model at batch size 1.

    Compares Gatewise with ONNX Runtime and PyTorch, in turns. Each side uses one thread or all, whichever is faster.
    """
    from gatewise.bench.streaming import bench_streaming

    result = bench_streaming(threads=threads, turns=turns, report=lambda line: typer.echo(line, err=as_json))
    if not finish(context, result, out, as_json, "threads", "turns"):
        typer.echo(_COLUMNS)


_COLUMNS = "columns: Gatewise, the other side, ratio: median of the turns (range); of traced, traced / plain"


@app.command("footprint")
def footprint_command(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option(help="A folder with MNIST's IDX files; uses its test images.  [random images]")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Number of images in the batch.")] = 10_000,
    threads: Annotated[int, typer.Option(help="Threads per network; 0 uses PyTorch's default.")] = 0,
    turns: Turns = 5,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Measure peak memory and time to predict images in one batch.

    Compares the row reader with a convolutional network.
    """
    from statistics import median

    from gatewise.bench.footprint import bench_footprint

    result = bench_footprint(data, images=images, threads=threads, turns=turns)
    if finish(context, result, out, as_json, "data", "images", "threads", "turns"):
        return
    typer.echo(f"{result['images']:,} images in one batch, {result['threads']} threads; outputs were checked")
    typer.echo(f"{'':<44}{'parameters':>12}{'peak memory':>16}{'before':>16}{'time':>10}")
    for c in result["contestants"]:
        typer.echo(
            f"{c['name']:<44}{c['parameters']:>12,}{c['peak_mib']:>12,.0f} MiB{c['start_mib']:>12,.0f} MiB"
            f"{median(c['seconds']):>8.2f} s"
        )
    typer.echo(
        f"the convolutional network needs {result['memory_ratio']:.2f} times the memory and {result['time_ratio']:.2f} "
        f"times the time (median of {turns} turns)"
    )


@app.command("comments-scratch")
def comments_scratch_command(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="A CSV file of comments; not needed with only --faults.")] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Check that the gradient check detects each fault, instead of timing.")
    ] = False,
    losses: Annotated[
        bool, typer.Option("--losses", help="Show the loss per epoch with each fault, instead of timing.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs for --losses.")] = 3,
    threads: Annotated[int, typer.Option(help="NumPy threads per program; 0 uses NumPy's default.")] = 1,
    turns: Turns = 5,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Time a scratch language model's training step.

    Compares Gatewise's NumPy code with a literal dense program that has a tutorial's four faults, in turns.
    """
    from gatewise.bench.comments_scratch import bench_speed, check_faults, compare_losses
    from gatewise.errors import UsageError

    if data is None and (losses or not faults):
        raise UsageError("--data is missing; expected a CSV file of comments (only --faults works without one)")
    result: dict[str, Any] = {"bench": "comments-scratch"}
    if faults:
        result["faults"] = check_faults()
    if losses and data is not None:
        result["losses"] = compare_losses(data, epochs=epochs, report=lambda line: typer.echo(line, err=True))
    if data is not None and not (faults or losses):
        result = bench_speed(data, threads=threads, turns=turns)
    options = ["data", "faults", "losses"]
    if losses:
        options += ["epochs"]
    elif not faults:
        options += ["threads", "turns"]
    if finish(context, result, out, as_json, *options):
        return
    for name, failures in result.get("faults", {}).items():
        text = ", ".join(f"{weight} {error:.3g}" for weight, error in failures.items())
        typer.echo(f"{name:<10}{text or 'every gradient agrees with central differences'}")
    for name, line in result.get("losses", {}).items():
        typer.echo(f"{name:<10}" + "".join(f"{loss:>12.4f}" for loss in line))
    if "ratio" in result:
        low, high = result["ratio_range"]
        typer.echo(f"training step, {result['sentences']} sentences, threads {threads}; losses and gradients agree")
        for name, side in (("gatewise", "ours"), ("dense", "dense")):
            typer.echo(f"{name:<12}{result[f'{side}_tokens_per_second']:>10,.0f} words/s")
        typer.echo(f"ratio {result['ratio']:.3f} (median of {turns} turns, {low:.3f} to {high:.3f})")


def finish(context: typer.Context, result: dict[str, Any], out: Path | None, as_json: bool, *options: str) -> bool:
    """Add the command, the machine and the date to a result; save it, and print it as JSON, if requested.

    Args:
        context: the running command.
        result: the result of its benchmark.
        out: the file to save it in.
        as_json: whether to print it.
        options: the command's parameters that determine the result.

    Returns:
        Whether it was printed.
    """
    from gatewise.bench.harness import circumstances

    words = [context.command_path]
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name in options and value not in (None, False, "", [], ()):
            words += [name for name in option.opts[:1] if name.startswith("-")]
            words += [str(part) for part in (value if isinstance(value, list | tuple) else [value]) if part is not True]
    result |= circumstances(" ".join(words))
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(result))
    return as_json
