"""``gatewise recipes``."""

from typing import Annotated

import typer


def command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print the TOML of this recipe.")] = None,
) -> None:
    """List the built-in recipes, or print the TOML of one."""
    from gatewise.cli.output import write
    from gatewise.config import recipe_names, recipe_text

    if name is not None:
        write(recipe_text(name), end="")
        return
    for recipe in recipe_names():
        first = recipe_text(recipe).splitlines()[0].removeprefix("# ")
        write(f"{recipe:<19}  {first}")
