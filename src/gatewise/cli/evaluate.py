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
    """Measure a run's best weights on a part of its data, in fp32.

    A language-model scores every token but the first, in one row with carried state, a scratch-language-model each
    sentence alone; a tagger its words, a classifier its sequences, a regressor its values.
    """
    from gatewise.artifact.run_folder import to_json
    from gatewise.cli.figures import evaluation_lines
    from gatewise.cli.output import write
    from gatewise.tasks.evaluate import evaluate

    figures = evaluate(run, data=data, split=split.value if split else None)
    if as_json:
        write(to_json(figures))
    else:
        for line in evaluation_lines(figures):
            write(line)
