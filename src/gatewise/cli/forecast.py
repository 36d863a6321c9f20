"""``gatewise forecast``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a series regressor.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.csv]", help="The series so far.  [the run's own data]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of values to forecast.  [the trained horizon]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Forecast the next values of a series, one per line.

    Each value is printed with its time. Beyond the trained horizon, the model reads its own forecasts in place of
    values not yet known.
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
