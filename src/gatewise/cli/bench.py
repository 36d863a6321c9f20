"""``gatewise bench``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Side by side with the peers.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Side by side with the peers: the same work in turns, timed only after the outputs were checked."""


@app.command("language-model")
def language_model_command(
    recipe: Annotated[str, typer.Option(help="A language model's recipe.")] = "ptb-small",
    precision: Annotated[str, typer.Option(help="Ours: fp32, high or bf16.")] = "fp32",
    peer_precision: Annotated[str, typer.Option(help="The peer's: fp32, bf16 (autocast) or 'bf16 module'.")] = "fp32",
    threads: Annotated[int, typer.Option(help="Of each program; 0 is PyTorch's own choice.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Time a training step: ours and a straightforward PyTorch program of the same model, in turns."""
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
        Path | None, typer.Option(help="A folder with a UD treebank; made-up sentences of such lengths if not given.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of each program; 0 is PyTorch's own choice.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Time a tagger's training step: ours and a straightforward PyTorch program with packed sequences, in turns."""
    from gatewise.bench.tagger import bench_tagger

    result = bench_tagger(data, threads=threads, turns=turns)
    _keep(result, f"gatewise bench tagger {f'--data {data} ' if data else ''}--threads {threads} --turns {turns}", out)
    _show_training(result, "words", as_json)


@app.command("rows")
def rows_command(
    data: Annotated[Path | None, typer.Option(help="A folder with MNIST; random images if not given.")] = None,
    threads: Annotated[int, typer.Option(help="Of each program; 0 is PyTorch's own choice.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Time a row reader's training step: ours and a straightforward PyTorch program of the same model, in turns."""
    from gatewise.bench.rows import bench_rows

    result = bench_rows(data, threads=threads, turns=turns)
    _keep(result, f"gatewise bench rows {f'--data {data} ' if data else ''}--threads {threads} --turns {turns}", out)
    _show_training(result, "images", as_json)


@app.command("comments-scratch")
def comments_scratch_command(
    data: Annotated[Path | None, typer.Option(help="A CSV file of comments; --faults alone needs none.")] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Instead of timing: the gradient check finds each of the faults.")
    ] = False,
    losses: Annotated[
        bool, typer.Option("--losses", help="Instead of timing: the loss epoch by epoch with each of the faults.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Of --losses.")] = 3,
    threads: Annotated[int, typer.Option(help="Of NumPy in each program; 0 is NumPy's own choice.")] = 1,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Time a training step: ours in NumPy and a literal dense program with a tutorial's four faults, in turns."""
    from gatewise.bench.comments_scratch import bench_speed, check_faults, compare_losses
    from gatewise.errors import UsageError

    if data is None and (losses or not faults):
        raise UsageError("--data is missing; expected a CSV file of comments (only --faults alone needs none)")
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
    engine: Annotated[str, typer.Option(help="Ours: auto, native or torch.")] = "auto",
    threads: Annotated[int, typer.Option(help="PyTorch's threads; 0 is its own choice.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Time layers, ours and PyTorch's, in turns: full batches, ragged ones; traced passes, threads, and evaluation."""
    import torch

    from gatewise.bench.recurrent import bench_recurrent

    rows = bench_recurrent(engine, threads, turns, report=lambda line: typer.echo(line, err=as_json))
    result = {"bench": "recurrent", "threads": torch.get_num_threads(), "rows": rows, "torch": torch.__version__}
    _keep(result, f"gatewise bench recurrent --engine {engine} --threads {threads} --turns {turns}", out)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(
            "ours, the other side, ratio: median of the turns (range); of traced: traced / plain, both ours; of loss "
            "and prompt the other side is ours too, with gradients, or all logits, that nobody asked for"
        )


@app.command("streaming")
def streaming_command(
    threads: Annotated[int, typer.Option(min=1, help="The most that a side may use.")] = 2,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Time one step of a language model, batch 1: ours, ONNX Runtime and PyTorch, in turns."""
    from gatewise.bench.streaming import bench_streaming

    result = bench_streaming(threads=threads, turns=turns, report=lambda line: typer.echo(line, err=as_json))
    _keep(result, f"gatewise bench streaming --threads {threads} --turns {turns}", out)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo("ours, the peer, ratio: median of the turns (range), the memory's share of our step")


@app.command("native")
def native_command(
    data: Annotated[
        Path | None, typer.Option(help="A folder with mnist and ud_en_ewt; made-up data if not given.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of each program.")] = 2,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Time the native engine against its peers, all of it: training steps, layers, streaming, tasks, memory."""
    from gatewise.bench.native import bench_native

    result = bench_native(data, threads=threads, turns=turns, report=lambda line: typer.echo(line, err=as_json))
    options = [f"--data {data}" if data else "", f"--threads {threads} --turns {turns}"]
    _keep(result, " ".join(["gatewise bench native", *filter(None, options)]), out)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        rates = ", ".join(f"{rate:,.0f} in {precision}" for precision, rate in result["product_rates"].items())
        typer.echo(f"products of this machine, {threads} threads, GFLOP/s: {rates}")


@app.command("footprint")
def footprint_command(
    data: Annotated[
        Path | None, typer.Option(help="A folder with MNIST's IDX files; its test images.  [random images]")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="How many, in one batch.")] = 10_000,
    threads: Annotated[int, typer.Option(help="Of each network; 0 is PyTorch's own choice.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Measure peak memory and time of predicting images in one batch: the row reader, and a convolutional network."""
    from statistics import median

    from gatewise.bench.footprint import bench_footprint

    result = bench_footprint(data, images=images, threads=threads, turns=turns)
    options = [f"--data {data}" if data else "", f"--images {images} --threads {threads} --turns {turns}"]
    _keep(result, " ".join(["gatewise bench footprint", *filter(None, options)]), out)
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(f"{result['images']:,} images in one batch, {result['threads']} threads; outputs were checked")
    typer.echo(f"{'':<44}{'weights':>12}{'peak memory':>16}{'before':>16}{'time':>10}")
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
    """Add command, machine and date to a result, and write it where it is to be kept."""
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
        "above 1 gatewise is faster)"
    )
