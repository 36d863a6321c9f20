"""``gatewise serve`` as a process, on run folders with drawn weights; nothing is trained."""

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import httpx

from tests.runtime.rig import CASES, drawn_run

NAMES = {
    "words": "lm lstm",
    "letters": "lm gru tied characters",
    "sentences": "lm rnn_tanh prose",
    "relu": "lm rnn_relu",
    "tagger": "tagger",
    "crf": "tagger both lstm crf",
    "text": "text last",
    "text-mean": "text both mean cnn",
    "classifier": "classifier mean",
    "classifier-both": "classifier both max",
    "regressor": "regressor",
    "forecaster": "regressor horizon",
}
"""A name in a URL for cases of ``tests.runtime.rig``: every task, level and cell, in one direction and two."""
LANGUAGE = ("words", "letters", "sentences", "relu")
STREAMED = (*LANGUAGE, "tagger", "text", "classifier", "regressor", "forecaster")
PATIENCE = 120
"""Seconds to wait for a server, on a machine that has much else to do."""


def drawn_runs(folder: Path, names: Iterable[str] = tuple(NAMES)) -> dict[str, Path]:
    """Draw run folders; each is served by the name of its folder."""
    return {name: drawn_run(folder / name, CASES[NAMES[name]]) for name in names}


@dataclass
class Server:
    """A running server.

    Attributes:
        url: ``http://HOST:PORT``, without a slash at the end.
        process: of the server.
        log: its standard error.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @cached_property
    def http(self) -> httpx.Client:
        """A client that keeps its connections; without the environment's proxies."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stderr(self) -> str:
        """Return what the server has written to standard error so far."""
        self.log.flush()
        return Path(self.log.name).read_text("utf-8", "replace")

    def get(self, path: str, status: int = 200, **options: Any) -> Any:
        return answer(self.http.get(path, **options), status)

    def post(self, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        """Post JSON, check the status, and return the answer's JSON; None posts no body."""
        return answer(self.http.post(path, **({} if body is None else {"json": body}), **options), status)

    def session(self, model: str) -> str:
        """Make a session; return its id."""
        found: str = self.post("/v1/sessions", {"model": model}, 201)["id"]
        return found

    def end(self, seconds: float = PATIENCE) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.terminate()
        return self.process.wait(seconds)


def answer(response: httpx.Response, status: int = 200) -> Any:
    """Check a status, and return the JSON of an answer that has any."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    return response.json() if response.headers.get("content-type", "").startswith("application/json") else None


@contextmanager
def served(
    runs: Mapping[str, Path] | Iterable[str | Path], *options: str | Path, env: Mapping[str, str] | None = None,
    command: Iterable[str] = (sys.executable, "-m", "gatewise"),
) -> Iterator[Server]:  # fmt: skip
    """Start a server of some runs on a free port, and end it.

    Args:
        runs: their folders, or arguments such as ``NAME=PATH``.
        options: of ``gatewise serve``.
        env: more of the environment.
        command: what starts the command line.
    """
    paths = list(runs.values()) if isinstance(runs, Mapping) else list(runs)
    words = [*command, "serve", *map(str, paths), "--port", "0", *map(str, options)]
    settings = {name: value for name, value in os.environ.items() if name != "GATEWISE_KEY"} | dict(env or {})
    with tempfile.NamedTemporaryFile(prefix="gatewise-serve-", suffix=".log") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, env=settings)
        server = Server("", process, log)
        try:
            line = _first_line(process)
            if not line.startswith("serving on http://"):
                raise AssertionError(f"the first line is {line!r}; standard error: {server.stderr()}")
            server.url = line.removeprefix("serving on ").strip()
            yield server
        finally:
            if "http" in vars(server):
                server.http.close()
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


@contextmanager
def serve(*arguments: str | Path, key: str = "", port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a server with arguments as a user types them; yield the address and the process."""
    with served(arguments, "--port", str(port), env={"GATEWISE_KEY": key} if key else None) as server:
        yield server.url, server.process


def _first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout
    found, until = b"", time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not found.endswith(b"\n") and selector.select(max(until - time.monotonic(), 0)):
            if not (part := os.read(process.stdout.fileno(), 4096)):
                break
            found += part
    return found.decode()
