"""``gatewise classify``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of a classifier.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Images, arrays (.npy, .npz, IDX); for a text model one text a line."),
    ],
    resize: Annotated[bool, typer.Option("--resize", help="Bring an image of another size to the model's.")] = False,
    invert: Annotated[bool, typer.Option("--invert", help="Exchange light and dark, for dark strokes.")] = False,
    over_time: Annotated[bool, typer.Option("--over-time", help="The verdict after each step, not the last.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all probabilities.")] = False,
) -> None:
    """Name the most probable label of each image, sequence or text."""
    from gatewise.artifact.run_folder import to_json
    from gatewise.cli.output import write
    from gatewise.predict.classify import classify

    verdicts = classify(run, files, resize=resize, invert=invert, over_time=over_time)
    if as_json:
        write(to_json({"predictions": [verdict.as_json() for verdict in verdicts]}))
        return
    for verdict in verdicts:
        for line in verdict.lines():
            write(line)
