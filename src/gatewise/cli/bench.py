"""``gatewise bench``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Compare speed and memory with other libraries.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Compare speed and memory with other libraries: the same work in turns, timed only after checking outputs."""


@app.command("language-model")
def language_model_command(
    recipe: Annotated[str, typer.Option(help="The recipe of a language model.")] = "ptb-small",
    precision: Annotated[str, typer.Option(help="Gatewise's precision: fp32, high or bf16.")] = "fp32",
    peer_precision: Annotated[
        str, typer.Option(help="PyTorch's precision: fp32, bf16 (autocast) or 'bf16 module'.")
    ] = "fp32",
    threads: Annotated[int, typer.Option(help="Threads per program; 0 uses PyTorch's default.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")] = None,
) -> None:
    """Time a language model's training step.

    Compares Gatewise with a straightforward PyTorch program of the same model, in turns.
    """
    from gatewise.bench.language_model import bench_language_model

    result = bench_language_model(
        recipe, precision=precision, peer_precision=peer_precision, threads=threads, turns=turns
    )
    settings = f"--precision {precision} --peer-precision '{peer_precision}' --threads {threads} --turns {turns}"
    _keep(result, f"gatewise bench language-model --recipe {recipe} {settings}", out)
    _show_training(result, "words", as_json)


@app.command("tagger")
def tagger_command(
    data: Annotated[
        Path | None, typer.Option(help="A folder with a UD treebank; by default, synthetic sentences of like lengths.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads per program; 0 uses PyTorch's default.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")] = None,
) -> None:
    """Time a tagger's training step.

    Compares Gatewise with a straightforward PyTorch program that uses packed sequences, in turns.
    """
    from gatewise.bench.tagger import bench_tagger

    result = bench_tagger(data, threads=threads, turns=turns)
    _keep(result, f"gatewise bench tagger {f'--data {data} ' if data else ''}--threads {threads} --turns {turns}", out)
    _show_training(result, "words", as_json)


@app.command("rows")
def rows_command(
    data: Annotated[Path | None, typer.Option(help="A folder with MNIST; by default, random images.")] = None,
    threads: Annotated[int, typer.Option(help="Threads per program; 0 uses PyTorch's default.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")] = None,
) -> None:
    """Time a row reader's training step.

    Compares Gatewise with a straightforward PyTorch program of the same model, in turns.
    """
    from gatewise.bench.rows import bench_rows

    result = bench_rows(data, threads=threads, turns=turns)
    _keep(result, f"gatewise bench rows {f'--data {data} ' if data else ''}--threads {threads} --turns {turns}", out)
    _show_training(result, "images", as_json)


@app.command("comments-scratch")
def comments_scratch_command(
    data: Annotated[Path | None, typer.Option(help="A CSV file of comments; not needed with only --faults.")] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Check that the gradient check detects each fault, instead of timing.")
    ] = False,
    losses: Annotated[
        bool, typer.Option("--losses", help="Show the loss per epoch with each fault, instead of timing.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs for --losses.")] = 3,
    threads: Annotated[int, typer.Option(help="NumPy threads per program; 0 uses NumPy's default.")] = 1,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")] = None,
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
    words = [
        f"--data {data}" if data else "",
        "--faults" if faults else "",
        f"--losses --epochs {epochs}" if losses else "",
    ]
    words += [] if faults or losses else [f"--threads {threads} --turns {turns}"]
    _keep(result, " ".join(["gatewise bench comments-scratch", *filter(None, words)]), out)
    if as_json:
        typer.echo(json.dumps(result))
        return
    for name, failures in result.get("faults", {}).items():
        text = ", ".join(f"{weight} {error:.3g}" for weight, error in failures.items())
        typer.echo(f"{name:<10}{text or 'every gradient agrees with central differences'}")
    for name, line in result.get("losses", {}).items():
        typer.echo(f"{name:<10}" + "".join(f"{loss:>12.4f}" for loss in line))
    if "ratio" in result:
        typer.echo(f"training step, {result['sentences']} sentences, threads {threads}; losses and gradients agree")
        typer.echo(f"{'gatewise':<12}{result['ours_tokens_per_second']:>10,.0f} words/s")
        typer.echo(f"{'dense':<12}{result['dense_tokens_per_second']:>10,.0f} words/s")
        _show_ratio(result["ratio"], result["ours_seconds"], result["dense_seconds"])


@app.command("recurrent")
def recurrent_command(
    engine: Annotated[str, typer.Option(help="Gatewise's engine: auto, native or torch.")] = "auto",
    threads: Annotated[int, typer.Option(help="PyTorch's threads; 0 uses its default.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")] = None,
) -> None:
    """Time recurrent layers.

    Compares Gatewise with PyTorch, in turns, on full and ragged batches; also times traced passes, threads, and
    evaluation.
    """
    import torch

    from gatewise.bench.recurrent import bench_recurrent

    rows = bench_recurrent(engine, threads, turns, report=lambda line: typer.echo(line, err=as_json))
    result = {"bench": "recurrent", "threads": torch.get_num_threads(), "rows": rows, "torch": torch.__version__}
    _keep(result, f"gatewise bench recurrent --engine {engine} --threads {threads} --turns {turns}", out)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(
            "Gatewise, the other side, ratio: median of the turns (range). traced: ratio is traced / plain, both of "
            "Gatewise. loss, prompt: the other side is Gatewise with gradients, or with all logits, although not needed"
        )


@app.command("streaming")
def streaming_command(
    threads: Annotated[int, typer.Option(min=1, help="Maximum number of threads per side.")] = 2,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")] = None,
) -> None:
    """Time one step of a language model at batch size 1.

    Compares Gatewise with ONNX Runtime and PyTorch, in turns.
    """
    from gatewise.bench.streaming import bench_streaming

    result = bench_streaming(threads=threads, turns=turns, report=lambda line: typer.echo(line, err=as_json))
    _keep(result, f"gatewise bench streaming --threads {threads} --turns {turns}", out)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo("Gatewise, peer, ratio: median of the turns (range), share of our step spent reading memory")


@app.command("native")
def native_command(
    data: Annotated[
        Path | None, typer.Option(help="A folder with mnist and ud_en_ewt; by default, synthetic data.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads per program.")] = 2,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")] = None,
) -> None:
    """Run all benchmarks of the native engine.

    Compares training steps, layers, streaming, tasks and memory with the peers.
    """
    from gatewise.bench.native import bench_native

    result = bench_native(data, threads=threads, turns=turns, report=lambda line: typer.echo(line, err=as_json))
    options = [f"--data {data}" if data else "", f"--threads {threads} --turns {turns}"]
    _keep(result, " ".join(["gatewise bench native", *filter(None, options)]), out)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        rates = ", ".join(f"{rate:,.0f} in {precision}" for precision, rate in result["product_rates"].items())
        typer.echo(f"matrix products on this machine, {threads} threads, GFLOP/s: {rates}")


@app.command("footprint")
def footprint_command(
    data: Annotated[
        Path | None, typer.Option(help="A folder with MNIST's IDX files; uses its test images.  [random images]")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Number of images in the batch.")] = 10_000,
    threads: Annotated[int, typer.Option(help="Threads per network; 0 uses PyTorch's default.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="Number of timings of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the JSON, with machine and date, to this file.")] = None,
) -> None:
    """Measure peak memory and time to predict images in one batch.

    Compares the row reader with a convolutional network.
    """
    from statistics import median

    from gatewise.bench.footprint import bench_footprint

    result = bench_footprint(data, images=images, threads=threads, turns=turns)
    options = [f"--data {data}" if data else "", f"--images {images} --threads {threads} --turns {turns}"]
    _keep(result, " ".join(["gatewise bench footprint", *filter(None, options)]), out)
    if as_json:
        typer.echo(json.dumps(result))
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


def _keep(result: dict[str, Any], command: str, out: Path | None) -> None:
    """Add the command, the machine and the date to a result, and save it if requested."""
    from datetime import datetime, timezone

    from gatewise.cli.doctor import processor_name

    date = datetime.now(timezone.utc).date().isoformat()
    result |= {"command": command, "machine": processor_name(), "date": date}
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _show_training(result: dict[str, Any], tokens: str, as_json: bool) -> None:
    """Print a comparison of training steps."""
    if as_json:
        typer.echo(json.dumps(result))
        return
    what = ", ".join(filter(None, (result["recipe"], result.get("data"), "training step", result["precision"])))
    typer.echo(f"{what}, {result['threads']} threads; cost and gradients agree")
    typer.echo(f"{'':<12}{f'{tokens}/s':>10}{'peak memory':>16}")
    for name, side, memory in (("gatewise", "ours", "ours"), ("PyTorch", "pytorch", "peer")):
        speed, peak = result[f"{side}_{tokens}_per_second"], result[f"{memory}_peak_mib"]
        typer.echo(f"{name:<12}{speed:>10,.0f}{peak:>12,.0f} MiB")
    _show_ratio(result["ratio"], result["ours_seconds"], result["peer_seconds"])


def _show_ratio(ratio: float, ours: list[float], peer: list[float]) -> None:
    ratios = [p / o for o, p in zip(ours, peer, strict=True)]
    typer.echo(
        f"ratio {ratio:.3f} (median of {len(ratios)} turns, {min(ratios):.3f} to {max(ratios):.3f}; "
        "above 1, gatewise is faster)"
    )
