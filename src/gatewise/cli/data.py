"""``gatewise data``."""
import typer
app = typer.Typer(help="Public corpora.", no_args_is_help=True)
@app.command("fetch")
def fetch() -> None:
    """Fetch."""
@app.callback()
def _group() -> None: ...
