"""``gatewise forecast``."""

import re
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a series regressor.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.csv]", help="The series so far.  [the run's own data]")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Number of values, or a span such as '3 days'.  [the trained horizon]")
    ] = None,
    interval: Annotated[
        float | None, typer.Option(help="Also print the ends of intervals that hold with this probability: 0.9.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Forecast the next values of a series, one per line.

    A line holds the time, the value and, with --interval, the lower and the upper end, separated by tabs. Beyond the
    trained horizon, the model reads its own forecasts in place of values not yet known, and there are no intervals.
    Columns known in advance are read from rows after the last value.
    """
    from gatewise.artifact.run_folder import to_json
    from gatewise.cli.output import remark, write
    from gatewise.predict.forecast import forecast

    found = forecast(run, file, _steps(steps), interval)
    for line in found.notes:
        remark(line)
    if as_json:
        write(to_json(found.as_json()))
        return
    for k, (position, value) in enumerate(zip(found.positions, found.values, strict=True)):
        ends = [] if interval is None else [found.low[k], found.high[k]]
        write("\t".join([position, *("" if number is None else str(number) for number in (value, *ends))]))


def _steps(text: str | None) -> int | str | None:
    """Return a number of steps as a number; a span of time stays a text."""
    return int(text) if text and re.fullmatch(r"-?[0-9]{1,9}", text) else text
