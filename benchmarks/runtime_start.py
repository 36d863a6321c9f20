"""``python -m benchmarks.runtime_start RUN``: what it takes to install and start ``gatewise.runtime``.

RUN is a finished run of a language model, such as ``ptb-small``. Builds the wheel and installs it where there is
nothing but NumPy, as tests/end_to_end/test_wheel.py does; then starts Python there, again and again, in turns with a
Python that imports NumPy alone.
"""

import subprocess
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import typer

from gatewise import load
from gatewise.cli.bench import AsJson, Out, finish
from tests.end_to_end.fresh import build_wheel, make_environment

NUMPY = "import numpy"
PACKAGE = "import time, numpy; began = time.perf_counter(); import gatewise.runtime; print(time.perf_counter() - began)"
TOKEN = """
import sys
from gatewise import runtime
model = runtime.load(sys.argv[1])
print(model.generate("the", max_tokens=1, temperature=0))
"""


def main(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A finished run of a language model.")],
    turns: Annotated[int, typer.Option(min=1, help="How often each process is started.")] = 20,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Measure the wheel, the import and the first token; exit with 1 where a target is missed."""
    expected = load(run).generate("the", max_tokens=1, temperature=0)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder) / "wheel")
        python, size = make_environment(wheel, Path(folder) / "alone"), wheel.stat().st_size / 1e6
        if (found := start(python, TOKEN, str(run))[1].rstrip("\n")) != expected:
            raise SystemExit(f"the first token differs: {found!r}; expected {expected!r}; nothing is timed")
        seconds: dict[str, list[float]] = {"NumPy": [], "import": [], "token": []}
        for _ in range(turns):
            seconds["NumPy"].append(start(python, NUMPY)[0])
            seconds["import"].append(float(start(python, PACKAGE)[1]))
            seconds["token"].append(start(python, TOKEN, str(run))[0])
    rows = [
        line("wheel, MB", [size], 1.5),
        line("import of gatewise.runtime after NumPy, s", seconds["import"], 0.15),
        line("a process to its first token, s", seconds["token"], 0.3),
        line("for comparison: a process that imports NumPy, s", seconds["NumPy"], None),
    ]
    for row in rows:
        goal = f"   at most {row['target']}: {'yes' if row['met'] else 'NO'}" if row["target"] else ""
        text = f"{row['what']:<52}{row['median']:>8.3f} ({row['least']:.3f} to {row['most']:.3f}){goal}"
        typer.echo(text, err=as_json)
    result = {"bench": "runtime-start", "turns": turns, "rows": rows}
    if not finish(context, result, out, as_json, "run", "turns"):
        typer.echo("columns: median (range); a target holds for the least, since a busy machine only adds to it")
        typer.echo(f"on {result['machine']}, {result['date']}")
    raise SystemExit(not all(row["met"] for row in rows))


def start(python: Path, code: str, *arguments: str) -> tuple[float, str]:
    """Run code in a new process; return its seconds and what it prints."""
    began = perf_counter()
    done = subprocess.run([python, "-I", "-c", code, *arguments], capture_output=True, text=True, check=True)
    return perf_counter() - began, done.stdout


def line(what: str, values: list[float], limit: float | None) -> dict[str, Any]:
    """Return a row of the table."""
    least = min(values)
    met = limit is None or least <= limit
    return {"what": what, "median": median(values), "least": least, "most": max(values), "target": limit, "met": met}


if __name__ == "__main__":
    typer.run(main)
