"""``gatewise generate``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of a language model.")],
    prompt: Annotated[str | None, typer.Option(help="Text to continue.  [a fresh start]")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens to draw.")] = 50,
    temperature: Annotated[float, typer.Option(help="Below 1 is safer, above 1 bolder; 0 is greedy.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw among the K most probable tokens only.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the tokens that make up probability P only.")] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal text.  [a new one]")] = None,
) -> None:
    """Continue a text, token by token."""
    from gatewise.cli.figures import unknown_line
    from gatewise.cli.output import remark, write
    from gatewise.models.language_model import LanguageModel
    from gatewise.models.loading import load_as
    from gatewise.models.sampling import check_sampling

    check_sampling(max_tokens, temperature, top_k, top_p, seed)
    model = load_as(LanguageModel, run)
    if prompt and (unknown := model.vocabulary.unknown_tokens(prompt)):
        remark(unknown_line(unknown))
    write(model.generate(prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed))
