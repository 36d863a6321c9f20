"""``gatewise generate``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a language model.")],
    prompt: Annotated[str | None, typer.Option(help="Text to continue.  [none]")] = None,
    max_tokens: Annotated[int, typer.Option(help="Number of tokens to sample.")] = 50,
    temperature: Annotated[float, typer.Option(help="Below 1 less random, above 1 more random; 0 is greedy.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample only from the K most probable tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample only from the top tokens with total probability P.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed; equal seeds give equal text.  [random]")] = None,
    top: Annotated[
        int | None, typer.Option(metavar="N", help="Print the N most probable next tokens instead, with probabilities.")
    ] = None,
) -> None:
    """Generate text, token by token."""
    from gatewise.cli.figures import unknown_line
    from gatewise.cli.output import remark, write
    from gatewise.models.language_model import LanguageModel
    from gatewise.models.loading import load
    from gatewise.runtime.sampling import check_sampling

    check_sampling(max_tokens, temperature, top_k, top_p, seed)
    model = load(run, LanguageModel)
    if prompt and (unknown := model.vocabulary.unknown_tokens(prompt)):
        remark(unknown_line(unknown))
    if top is not None:
        for token, p in model.next_tokens(prompt, top):
            write(f"{100 * p:6.2f}%  {token}")
        return
    write(model.generate(prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed))
