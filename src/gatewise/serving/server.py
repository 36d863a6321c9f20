"""The process of ``gatewise serve``: its socket, its signals, and its end."""

import asyncio
import errno
import gc
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from gatewise.errors import UsageError
from gatewise.serving.app import Application
from gatewise.serving.catalog import Catalog
from gatewise.serving.connections import Connection
from gatewise.serving.guard import host_name, is_loopback
from gatewise.serving.log import log_all_unforeseen
from gatewise.serving.settings import DRAIN_SECONDS, LAST_SECONDS, Settings
from gatewise.serving.store import Store
from gatewise.wording import option

KEY = "GATEWISE_KEY"
"""The environment variable with the key."""
COLLECT = (20_000, 20, 50)
"""Python's collector looks for cycles so seldom that a stream does not notice it; few are made."""
SEND_BUFFER = 1 << 14
"""The bytes that the system buffers for a client, about: a stream runs ahead of it by no more events than are kept."""


def find_key(file: Path | None) -> str | None:
    """Return the key of a file or, without one, of the environment; None if there is neither.

    Raises:
        UsageError: the file cannot be read, or the key is empty or has white space.
    """
    if file is None:
        key, place = os.environ.get(KEY), KEY
    else:
        try:
            key, place = file.read_text("utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as problem:
            why = problem.strerror if isinstance(problem, OSError) else "not text"
            raise UsageError(f"{file}: {why}; expected a file with the key in one line") from None
    if key is None:
        return None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"{place}: not a key; expected one line of printable ASCII without spaces")
    return key


def cores() -> int:
    """Return how many cores this process may use, 8 at most."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


def serve(
    runs: Sequence[str], settings: Settings, weights: str | None = None, say: Callable[[str], object] = print
) -> None:
    """Serve models until a signal ends the process.

    Args:
        runs: run folders and model files, each as PATH or NAME=PATH.
        settings: where and how.
        weights: of run folders, how to store their matrices.
        say: called with the first line, when requests are answered.

    Raises:
        UsageError: the address cannot be used, others could reach it and there is no key, two models have one name, or
            the prefix of ids is invalid.
        RunError: a run is missing or invalid.
    """
    if settings.key is None and not is_loopback(settings.host):
        raise UsageError(
            f"{option('host', settings.host)}: others can reach that address, and there is no key; set {KEY} or "
            f"{option('key_file')}, or listen on 127.0.0.1"
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,20}", settings.id_prefix):
        raise UsageError(
            f"{option('id_prefix', settings.id_prefix)}: not the beginning of an id; expected at most 20 letters, "
            "digits, - and _"
        )
    for host in settings.allowed_hosts:
        if host_name(host) is None:
            raise UsageError(
                f"{option('allow_host', host)}: not the name of a host; expected one such as models.example.org, "
                "without a scheme, a port or a path"
            )
    listening = _listen(settings.host, settings.port)
    with listening:
        catalog = Catalog(runs, weights, settings.threads)
        store = Store(settings.state_dir.expanduser()) if settings.state_dir else None
        gc.freeze()  # what lives as long as the process need not be looked at again
        gc.set_threshold(*COLLECT)
        app = Application(catalog, settings, store)
        asyncio.run(_run(app, settings, listening, say))
    if app.computing:  # a long step, for nobody, which Python would wait for
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as problem:
        why = getattr(problem, "strerror", None) or "invalid"
        raise UsageError(f"{option('host', host)}: {why}; expected an address of this machine") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listening.bind(address)
        listening.listen(1024)
    except OSError as problem:
        listening.close()
        why = {errno.EADDRINUSE: "is in use", errno.EACCES: "needs more rights"}.get(
            problem.errno or 0, problem.strerror
        )
        raise UsageError(f"{host}, port {port}: {why}; choose another {option('port')}, or 0 for a free one") from None
    listening.setblocking(False)
    return listening


class _Server(uvicorn.Server):
    """A server that drains before it shuts down."""

    def __init__(self, config: uvicorn.Config, app: Application, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._app, self._ready = app, ready
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends at once."""
        if self._draining:
            self.should_exit = self.force_exit = True
        else:
            self._app.drain()
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        """Let operations end, then hand over what is left, then shut down."""
        time = asyncio.get_running_loop().time
        until = time() + DRAIN_SECONDS
        while self._app.working and time() < until:
            await asyncio.sleep(0.02)
        await self._app.hand_over()
        for last in (self._app.cut_clients, lambda: None):
            until = time() + LAST_SECONDS / 2
            while self._app.sessions_in_use() and time() < until:  # until their last events are stored and sent
                await asyncio.sleep(0.02)
            last()
        self.should_exit = True


async def _run(app: Application, settings: Settings, listening: socket.socket, say: Callable[[str], object]) -> None:
    for name in ("asyncio", "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)  # they would quote requests
        logger.handlers[:], logger.propagate = [logging.NullHandler()], False
    log_all_unforeseen(asyncio.get_running_loop())
    config = uvicorn.Config(
        app, lifespan="on", log_config=None, access_log=False, ws="websockets-sansio", http=Connection, loop="asyncio",
        ws_max_size=1 << 20, timeout_graceful_shutdown=1, server_header=False, date_header=False, proxy_headers=False,
        h11_max_incomplete_event_size=1 << 16, backlog=1024,
    )  # fmt: skip
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    server = _Server(config, app, lambda: say(f"serving on http://{shown}:{port}"))
    try:
        await server.serve([listening])
    except SystemExit:
        if app.problem is None:
            raise
        raise app.problem from None
