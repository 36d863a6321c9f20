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
        typer.Argument(metavar="FILE", help="One sentence per line, CoNLL-U, or a word per line.  [stdin]"),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format", help="word/TAG, a sentence per line; CoNLL-U with UPOS replaced; JSON with probabilities."
        ),
    ] = Format.text,
    pretokenized: Annotated[
        bool, typer.Option("--pretokenized", help="Split sentences at white space only, not at punctuation marks.")
    ] = False,
) -> None:
    """Tag each word of a text, one output line per input line.

    Sentences are split into words and punctuation marks; Chinese and Japanese without spaces, into characters.
    """
    from gatewise.cli.output import remark, write
    from gatewise.predict.tag import tag_file

    for piece in tag_file(run, file, form.value, pretokenized, remark):
        write(piece, end="")
