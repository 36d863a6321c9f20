"""``gatewise forecast``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of a regressor of a series.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.csv]", help="The series so far.  [the run's own]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Values to forecast.  [the horizon trained for]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Forecast the values after a series' end, one a line with its time.

    Beyond the horizon that the model was trained for, its own forecasts stand in for what is not known yet.
    """
    from gatewise.artifact.run_folder import to_json
    from gatewise.cli.output import write
    from gatewise.predict.forecast import forecast

    found = forecast(run, file, steps)
    if as_json:
        write(to_json(found.as_json()))
        return
    for position, value in zip(found.positions, found.values, strict=True):
        write(f"{position}\t{value}")
