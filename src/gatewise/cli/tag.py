"""``gatewise tag``."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Format(str, Enum):
    """The output format."""

    text = "text"
    conllu = "conllu"
    json = "json"


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a tagger.")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="One sentence per line, words separated by spaces, or CoNLL-U.  [stdin]"),
    ] = None,
    form: Annotated[
        Format,
        typer.Option("--format", help="word/TAG, one sentence per line; CoNLL-U with UPOS replaced; one JSON object."),
    ] = Format.text,
) -> None:
    """Tag each word of a text, one output line per input line."""
    from gatewise.cli.output import write
    from gatewise.predict.tag import tag_file

    for piece in tag_file(run, file, form.value):
        write(piece, end="")
