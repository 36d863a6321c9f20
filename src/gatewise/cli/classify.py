"""``gatewise classify``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a classifier.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Images or arrays (.npy, .npz, IDX); for a text model, one text per line."
        ),
    ],
    resize: Annotated[bool, typer.Option("--resize", help="Resize images to the size the model expects.")] = False,
    invert: Annotated[bool, typer.Option("--invert", help="Invert the brightness, for dark strokes on light.")] = False,
    over_time: Annotated[
        bool, typer.Option("--over-time", help="Predict after every step, not only the last.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all probabilities.")] = False,
) -> None:
    """Predict the label of each image, sequence or text."""
    from gatewise.artifact.run_folder import to_json
    from gatewise.cli.output import remark, write
    from gatewise.predict.classify import classify

    verdicts = classify(run, files, resize=resize, invert=invert, over_time=over_time, note=remark)
    if as_json:
        write(to_json({"predictions": [verdict.as_json() for verdict in verdicts]}))
        return
    for verdict in verdicts:
        for line in verdict.lines():
            write(line)
