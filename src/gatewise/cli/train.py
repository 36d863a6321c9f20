"""``gatewise train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gatewise.tasks.train import Run


def command(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A built-in name, or the path of a TOML file.  [demo]")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with the three texts, or the CSV file of comments-scratch; wins over the recipe's."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder.  [runs/RECIPE-TIME]")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: --set training.epochs=1. May be repeated."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out where it stopped.")] = False,
    seed: Annotated[int | None, typer.Option(help="Of initial weights, dropout and sampling.")] = None,
) -> None:
    """Train a model and leave a run folder.

    With no recipe it trains on the language reference that Python carries: no download, about a minute. Under
    torchrun the rows of the batch are shared among the processes.
    """
    from rich.console import Console

    from gatewise.config import parse_override
    from gatewise.tasks.train import train

    overrides = dict(parse_override(assignment) for assignment in set_ or [])
    console = Console(stderr=True)
    run = train(recipe, data=data, out=out, overrides=overrides, resume=resume, seed=seed, console=console)
    if not run.metrics:
        return  # one of several processes; the first one reports
    figures = run.metrics
    if "test_perplexity" not in figures:
        typer.echo(
            f"train loss {figures['train_loss']:.4f} nats a token over {figures['train_tokens']:,} tokens (epoch "
            f"{figures['best_epoch']} was best; out of vocabulary {100 * figures['train_oov_rate']:.2f}%; "
            f"data {figures['train_data_hash'][:12]})"
        )
        typer.echo(f"word frequencies alone: {figures['unigram_train_loss']:.4f}; no other text was scored")
        _show(run)
        return
    typer.echo(
        f"test perplexity {figures['test_perplexity']:.2f} over {figures['test_tokens']:,} tokens (epoch "
        f"{figures['best_epoch']} was best; out of vocabulary {100 * figures['test_oov_rate']:.2f}%; "
        f"data {figures['test_data_hash'][:12]})"
    )
    typer.echo(f"a unigram model, word frequencies alone: {figures['unigram_test_perplexity']:.2f}")
    _show(run)


def _show(run: "Run") -> None:
    typer.echo(f"a sample of text:\n\n{_indent(run.sample)}\n")
    typer.echo(f"run folder: {run.path}")


def _indent(text: str) -> str:
    import textwrap

    return "\n".join(
        textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="    ") for line in text.split("\n")
    )
