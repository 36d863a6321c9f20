"""``gatewise data``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Download public corpora.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Download public corpora."""


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The corpus: ptb, mnist or ud-ewt.")],
    to: Annotated[Path | None, typer.Option(help="The target folder.  [data/NAME]")] = None,
    mirror: Annotated[
        str | None,
        typer.Option(envvar="GATEWISE_MIRROR", help="A mirror with the same files, given as a URL prefix."),
    ] = None,
) -> None:
    """Download a public corpus; resume partial downloads, and verify each file's SHA-256."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from gatewise.cli.output import write
    from gatewise.data.corpora import RemoteFile
    from gatewise.data.download import corpus_named, fetch

    corpus = corpus_named(name)
    folder = to or Path("data") / name
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def report(file: RemoteFile, here: int) -> None:
            if file.name not in tasks:
                tasks[file.name] = progress.add_task(file.name, total=file.size)
            progress.update(tasks[file.name], completed=here)

        files = fetch(name, folder, mirror=mirror, report=report)
    write(f"{name}: {len(files)} files in {folder}, verified by SHA-256; next: {corpus.next_command} {folder}")
