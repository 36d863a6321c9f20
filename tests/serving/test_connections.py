"""Connections that send no request, or nothing that is one, are answered and closed."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gatewise.serving import connections
from tests.serving.rig import Server

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


@contextmanager
def raw(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """What the server sends until it closes."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"hello\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # without a Host
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n: nothing\r\n\r\n",
        b"GET /" + b"a" * (1 << 16),
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
    ids=["tls", "word", "no host", "no name", "long", "length", "chunks"],
)
def test_what_is_not_http_has_one_answer(server: Server, sent: bytes) -> None:
    with raw(server) as connection:
        connection.sendall(sent)
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body)["error"]["code"] == "bad_request"
    assert server.get("/health") == {"status": "ok"}
    assert "unforeseen" not in server.stderr() and "Traceback" not in server.stderr()


def talk(how: Talk, protocol: type[H11Protocol] = connections.Connection) -> Any:
    """Return what a conversation with an application that returns the body gave."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(await Request(scope, receive).body())(scope, receive, send)

    async def run() -> Any:
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=2)
        state, loop = ServerState(), asyncio.get_running_loop()
        listening = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
        async with listening:
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            try:
                return await asyncio.wait_for(how(reader, writer), 10)
            finally:
                writer.close()

    return asyncio.run(run())


def drip(content: bytes, every: float) -> Talk:
    """Send single bytes, and return what the server sent and after how many seconds it closed."""

    async def how(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, float]:
        async def send() -> None:
            for k in range(len(content)):
                writer.write(content[k : k + 1])
                await asyncio.sleep(every)

        sending, began = asyncio.create_task(send()), time.monotonic()
        found = await reader.read()
        sending.cancel()
        return found, time.monotonic() - began

    return how


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.4)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost: a", HEAD + b"12"], ids=["nothing", "head", "body"])
def test_a_client_that_stops_sending_is_let_go(sent: bytes) -> None:
    found, seconds = talk(drip(sent, 0))
    assert found == b"" and 0.3 < seconds < 3


@pytest.mark.usefixtures("impatient")
def test_a_head_has_its_time_however_it_comes_but_a_body_only_must_go_on() -> None:
    found, seconds = talk(drip(HEAD, 0.1))
    assert found == b"" and seconds < 3

    async def how(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for _ in range(2):  # the second after a while in which a connection is kept
            writer.write(HEAD)
            for k in range(6):
                await asyncio.sleep(0.2)
                writer.write(b"abcdef"[k : k + 1])
            await reader.readuntil(b"abcdef")
            await asyncio.sleep(0.8)
        writer.write(HEAD[:5])
        return await reader.read()

    assert talk(how) == b""
