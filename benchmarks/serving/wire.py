"""A client that costs little: it writes HTTP/1.1 by hand, and takes down what comes, and when."""

import asyncio
import json
import socket
import time
from typing import Any


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """Return the bytes of a request; the connection ends with the answer.

    Args:
        method: of HTTP.
        path: on the server.
        body: bytes, or what is written as JSON.
        headers: more, with ``_`` for ``-``.
    """
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"Content-Length: {len(content)}"]
    if content and not isinstance(body, bytes):
        lines.append("Content-Type: application/json")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Answer:
    """What a server answered.

    Attributes:
        status: of HTTP; 0 where the connection broke before.
        content: the body, as far as it came.
        complete: whether it came to its end.
    """

    def __init__(self, reads: list[tuple[float, bytes]]) -> None:
        head, _, rest = b"".join(data for _, data in reads).partition(b"\r\n\r\n")
        self.status = int(head[9:12]) if head[9:12].isdigit() else 0
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        self.headers = {name.decode(): value.decode() for name, value in fields.items()}
        if fields.get(b"transfer-encoding") == b"chunked":
            self.content, self.complete = _chunks(rest)
        else:
            self.content, self.complete = rest, len(rest) == int(fields.get(b"content-length", b"-1"))
        if self.status == 204:
            self.complete = True

    def json(self) -> Any:
        """Return the body that is JSON."""
        return json.loads(self.content)


def _chunks(data: bytes) -> tuple[bytes, bool]:
    parts, place = list[bytes](), 0
    while (end := data.find(b"\r\n", place)) >= 0:
        size = int(data[place:end], 16)
        parts.append(data[end + 2 : end + 2 + size])
        place = end + 4 + size
        if not size:
            return b"".join(parts), True
    return b"".join(parts), False


class Connection(asyncio.Protocol):
    """One request, and what came of it.

    Attributes:
        reads: what arrived with one read each, and when, by ``time.perf_counter``.
        began: when the request was sent.
        ended: done when the connection has ended.
        transport: of asyncio.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.reads = list[tuple[float, bytes]]()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.began = transport, time.perf_counter()
        transport.write(self._content)

    def data_received(self, data: bytes) -> None:
        """Take down what came."""
        self.reads.append((time.perf_counter(), data))

    def connection_lost(self, problem: Exception | None) -> None:
        """Note the end."""
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def size(self) -> int:
        """The bytes that came so far."""
        return sum(len(data) for _, data in self.reads)

    def answer(self) -> Answer:
        """Return what came so far."""
        return Answer(self.reads)


async def connect(port: int, content: bytes, receive_buffer: int = 0) -> Connection:
    """Send a request.

    Args:
        port: of the server.
        content: of the request.
        receive_buffer: bytes that the system keeps for a client that does not read; 0 leaves it the choice.
    """
    loop, client = asyncio.get_running_loop(), socket.socket()
    client.setblocking(False)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await loop.sock_connect(client, ("127.0.0.1", port))
    _, connection = await loop.create_connection(lambda: Connection(content), sock=client)
    return connection


async def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Send a request, and return the whole answer.

    Raises:
        ConnectionError: the server cannot be reached, or the connection broke before the answer's end.
    """
    connection = await connect(port, request(method, path, body, **headers))
    try:
        await connection.ended
    finally:
        connection.transport.abort()
    answer = connection.answer()
    if not answer.complete:
        raise ConnectionResetError(f"{method}: the connection broke after {connection.size} bytes")
    return answer


def events(content: bytes) -> list[dict[str, Any]]:
    """Return the complete server-sent events in a body."""
    found = list[dict[str, Any]]()
    for part in content.split(b"\n\n")[:-1]:
        fields = dict(line.split(b": ", 1) for line in part.split(b"\n"))
        if fields.get(b"data") not in (None, b"[DONE]"):
            found.append(json.loads(fields[b"data"]))
    return found


def arrivals(connection: Connection) -> list[tuple[float, int]]:
    """Return when events arrived, and how many with one read: (seconds since the request, count) of each read."""
    found, rest = list[tuple[float, int]](), b""
    for at, data in connection.reads:
        text = rest + data
        if count := text.count(b"event: token\n"):
            found.append((at - connection.began, count))
        rest = text[-12:] if not text.endswith(b"event: token\n") else b""
    return found
