"""``gatewise evaluate``."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Split(str, Enum):
    """A part of the corpus."""

    train = "train"
    valid = "valid"
    test = "test"


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the corpus, or one file.  [the run's own]")] = None,
    split: Annotated[Split | None, typer.Option(help="Which part.  [test; train where the run has no test]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Score every token of a split but the first, in one row with carried state, in fp32.

    A scratch-language-model scores each sentence alone.
    """
    from gatewise.artifact.run_folder import to_json
    from gatewise.tasks.evaluate import evaluate

    figures = evaluate(run, data=data, split=split.value if split else None)
    if as_json:
        typer.echo(to_json(figures))
    else:
        typer.echo(
            f"{figures['split']} perplexity {figures['perplexity']:.2f} (nll {figures['nll']:.4f} nats a token) over "
            f"{figures['tokens']:,} tokens; out of vocabulary {100 * figures['oov_rate']:.2f}%; "
            f"data {figures['data_hash'][:12]}"
        )
        if figures["split"] == "train":
            typer.echo("this is the text that the run was trained on; for a figure on new text give another --data")
