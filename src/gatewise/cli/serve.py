"""``gatewise serve``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run folders or model.gatewise files; NAME=PATH gives one another name."),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on; one that others can reach needs a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 8000,
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the key that clients send.  [$GATEWISE_KEY]")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name of this server, such as that of a proxy; may be repeated."),
    ] = None,
    max_sessions: Annotated[int, typer.Option(min=1, help="The most sessions there may be.")] = 1000,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder that keeps sessions over restarts.  [none]")
    ] = None,
    in_memory: Annotated[
        int, typer.Option(min=1, help="With --state-dir, the most sessions in memory; others are read when used.")
    ] = 1000,
    ttl: Annotated[float, typer.Option(min=1, help="Seconds after which an unused session is deleted.")] = 3600,
    weights: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="Of run folders: fp32, bf16 or int8.  [fp32]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="The most threads of a step.  [the processor's cores, up to 8]")
    ] = None,
    id_prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="How ids of sessions begin; a proxy before several servers goes by it.")
    ] = "",
) -> None:
    """Serve models over HTTP, with sessions that carry their state, and a page that shows the gates at work.

    The first line says the address; open it in a browser. /openapi.json describes the interface, /v1/completions is
    OpenAI's. PyTorch is not needed. SIGTERM lets streams end or hands them over, within 5 seconds.
    """
    from gatewise.cli.output import write
    from gatewise.extras import import_extra
    from gatewise.serving.settings import Settings

    server = import_extra("gatewise.serving.server", "", "the server", "serve")
    settings = Settings(
        host=host,
        port=port,
        key=server.find_key(key_file),
        allowed_hosts=tuple(allow_host or ()),
        max_sessions=max_sessions,
        in_memory=in_memory,
        state_dir=state_dir,
        ttl=ttl,
        threads=threads or server.cores(),
        id_prefix=id_prefix,
    )
    server.serve(runs, settings, weights, write)
