"""``gatewise doctor``."""
import typer
def command() -> None:
    """Show versions, processor features and engines."""
