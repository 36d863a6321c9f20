"""``gatewise new``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A built-in recipe; gatewise recipes lists them.")],
    out: Annotated[Path | None, typer.Option(help="The file to write.  [NAME.toml]")] = None,
) -> None:
    """Write a recipe of your own to start from, with comments; no file is overwritten."""
    from gatewise.cli.output import write
    from gatewise.config import recipe_text
    from gatewise.errors import UsageError

    text, path = recipe_text(name), out or Path(f"{name}.toml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path}: already exists; choose another --out") from None
    except OSError as problem:
        raise UsageError(f"{path}: cannot write it ({problem.strerror}); choose another --out") from None
    write(f"wrote {path}; edit it, then: gatewise train {path}")
