"""``gatewise tag``."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Format(str, Enum):
    """How the tags are written."""

    text = "text"
    conllu = "conllu"
    json = "json"


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of a tagger.")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="One sentence a line, words between spaces; or CoNLL-U.  [stdin]"),
    ] = None,
    form: Annotated[
        Format,
        typer.Option("--format", help="word/TAG a sentence a line; CoNLL-U with UPOS replaced; one JSON object."),
    ] = Format.text,
) -> None:
    """Give each word its tag; one line out for each line in."""
    from gatewise.cli.output import write
    from gatewise.predict.tag import tag_file

    for piece in tag_file(run, file, form.value):
        write(piece, end="")
