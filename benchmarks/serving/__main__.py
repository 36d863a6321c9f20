"""``python -m benchmarks.serving RUN``: what ``gatewise serve`` does under load, against its targets.

Many sessions that stream, each compared with its solo run; tokens per second of 64 sessions against one; the time to a
first token. The client is one process that notes what arrives and when, and does the rest afterwards.
"""

from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks.serving.process import number
from benchmarks.serving.rates import MANY, first_tokens, row, together_row, tokens_per_second
from benchmarks.serving.streams import compare, stream_together, summary
from gatewise.cli.bench import AsJson, Out, finish
from tests.serving.rig import Server, served

PARTS = ("streams", "together", "first")


def main(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder or model file of a language model.")],
    part: Annotated[list[str] | None, typer.Option(help=f"{', '.join(PARTS)}; can be repeated.  [all]")] = None,
    sessions: Annotated[int, typer.Option(help="Of the streams.")] = 200,
    seconds: Annotated[float, typer.Option(help="Of the streams.")] = 60,
    turns: Annotated[int, typer.Option(help="Of one session against many.")] = 5,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Measure each part with a server of its own."""
    rows = list[dict[str, Any]]()
    for name in part or PARTS:
        with served([run]) as server:
            rows += _measured(name, server, run, sessions, seconds, turns)
    for one in rows:
        shown = f"{one['what']:<64}{one['value']:>10.2f} {one['unit']:<6} target {one['target']}"
        typer.echo(f"{shown}{'' if one['met'] else '  missed'}", err=as_json)
    result = {"bench": "serving", "rows": rows}
    finish(context, result, out, as_json, "part", "sessions", "seconds", "turns")
    raise typer.Exit(0 if all(one["met"] for one in rows) else 1)


def _measured(part: str, server: Server, run: Path, count: int, seconds: float, turns: int) -> list[dict[str, Any]]:
    if part == "streams":
        return _streams(server, run, count, seconds)
    if part == "together":
        rows = []
        for how, temperature in (("greedy", 0.0), ("temperature 1", 1.0)):
            one, many = list[float](), list[float]()
            for _ in range(turns):
                one.append(tokens_per_second(server.port, run, 1, 2000, temperature))
                many.append(tokens_per_second(server.port, run, MANY, 300, temperature))
            rows.append(together_row(one, many, how))
        return rows
    if part == "first":
        theirs, own = first_tokens(server.port, run, 200)
        more = 1e3 * (median(theirs) - median(own))
        return [row("time to a first token over the runtime's, prompt of 20", more, 10, False, "ms",
                    server_ms=1e3 * median(theirs), runtime_ms=1e3 * median(own))]  # fmt: skip
    raise typer.BadParameter(f"{part!r}; expected one of {', '.join(PARTS)}")


def _streams(server: Server, run: Path, count: int, seconds: float) -> list[dict[str, Any]]:
    words = server.get("/v1/models")["data"][0]["vocabulary"]
    lived, about = stream_together(server.port, server.process.pid, words, count, seconds)
    found = summary(lived, about)
    if steps := number(server.http.get("/metrics").text, "gatewise_step_rows_count"):
        found["tokens_a_step"] = found["tokens"] / steps
    what = f"{count} sessions that stream for {seconds:g} s"
    return [
        row(f"{what}: errors", found["errors"], 0, False, ""),
        row(f"{what}: with other tokens than alone", compare(run, lived), 0, False, ""),
        row(f"{what}: p99 between reads of tokens", found["between_reads_ms"]["p99"], 50, False, "ms", **found),
    ]


if __name__ == "__main__":
    typer.run(main)
