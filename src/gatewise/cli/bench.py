"""``gatewise bench``."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Side by side with the peers.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Side by side with the peers: the same work in turns, timed only after the outputs were checked."""


@app.command("language-model")
def language_model_command(
    recipe: Annotated[str, typer.Option(help="A language model's recipe.")] = "ptb-small",
    threads: Annotated[int, typer.Option(help="Of each program; 0 is PyTorch's own choice.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON, with machine and date, in this file.")] = None,
) -> None:
    """Time a training step: ours and a straightforward PyTorch program of the same model, in turns."""
    from datetime import datetime, timezone

    from gatewise.bench.language_model import bench_language_model
    from gatewise.cli.doctor import processor_name

    result = bench_language_model(recipe, threads=threads, turns=turns)
    result |= {
        "command": f"gatewise bench language-model --recipe {recipe} --turns {turns}",
        "machine": processor_name(),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(result))
        return
    ratios = [p / o for o, p in zip(result["ours_seconds"], result["peer_seconds"], strict=True)]
    typer.echo(f"{recipe}, training step, {result['precision']}, {result['threads']} threads; cost and gradients agree")
    typer.echo(f"{'':<12}{'words/s':>10}{'peak memory':>16}")
    for name, speed, peak in (
        ("gatewise", result["ours_words_per_second"], result["ours_peak_mib"]),
        ("PyTorch", result["pytorch_words_per_second"], result["peer_peak_mib"]),
    ):
        typer.echo(f"{name:<12}{speed:>10,.0f}{peak:>12,.0f} MiB")
    typer.echo(
        f"ratio {result['ratio']:.3f} (median of {len(ratios)} turns, {min(ratios):.3f} to {max(ratios):.3f}; "
        "above 1 gatewise is faster)"
    )
