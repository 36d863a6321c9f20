"""``gatewise compare``."""

from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The run folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Print a table of runs: their metrics, their baselines, and the settings in which they differ."""
    from gatewise.artifact.run_folder import to_json
    from gatewise.cli.output import write
    from gatewise.inspection.compare import compare
    from gatewise.inspection.runs import open_runs
    from gatewise.printable import cell

    rows = compare(open_runs(runs, "compare"))
    if as_json:
        write(to_json({"runs": rows}))
        return
    table = [[cell(key) for key in rows[0]], *([cell(_shown(key, row[key])) for key in row] for row in rows)]
    if len(rows[0]) > len(rows) + 1:  # a line for each figure, a column for each run
        table = [list(line) for line in zip(*table, strict=True)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        write("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if "accuracy" in key or "_f1" in key:
        return f"{100 * value:.2f}%"
    if isinstance(value, float):
        return f"{value:.2f}" if "perplexity" in key else f"{value:.6g}"
    return str(value)
