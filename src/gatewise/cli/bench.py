"""``gatewise bench``."""
import typer
app = typer.Typer(help="Bench.", no_args_is_help=True)
@app.command("language-model")
def language_model() -> None:
    """Fetch."""
@app.callback()
def _group() -> None: ...
