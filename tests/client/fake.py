"""A server that answers what a test has written down, and remembers what it was asked."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Reply:
    """An answer.

    Attributes:
        body: JSON, or bytes as they are.
        status: of HTTP.
        headers: more of them.
        torn: whether the connection ends in the middle of a chunk.
        silent: whether the connection closes without an answer.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    torn: bool = False
    silent: bool = False


def refused(status: int, code: str, message: str = "no", **headers: str) -> Reply:
    """An error of the server."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply({"error": {"code": code, "message": message}}, status, named)


def events(*sent: Mapping[str, Any], torn: bool = False) -> Reply:
    """A stream of events, each with its position as its id."""
    parts = [": a remark\n\n"]
    for one in sent:
        parts.append(f"id: {one.get('position', '')}\nevent: {one['type']}\n")
        parts += [f"data: {json.dumps(one, ensure_ascii=False)}\n\n"]
    return Reply("".join(parts).encode(), headers={"Content-Type": "text/event-stream"}, torn=torn)


def token(position: int, text: str = " x", **more: Any) -> dict[str, Any]:
    """The event of a token."""
    return {"type": "token", "position": position, "token": position, "text": text, "probability": 0.5, **more}


def done(position: int, reason: str = "length") -> dict[str, Any]:
    """The last event of a generation."""
    return {"type": "done", "position": position, "text": "", "tokens": [], "seed": 1, "finish_reason": reason}


SESSION = {"id": "s/1", "model": "a model", "position": 3}
"""What a session says of itself; the names have characters that an address cannot have as they are."""
S = "/v1/sessions/s%2F1"
"""Its address."""
MODEL = {
    "id": "a model",
    "layers": 2,
    "gates": [{"name": "i", "low": 0, "high": 1}, {"name": "g", "low": -1, "high": 1}],
}
"""What its model says of itself."""


@dataclass
class Asked:
    """A request."""

    route: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        """The JSON in it."""
        return json.loads(self.content)


class Fake:
    """The server: ``answers`` by "METHOD PATH", of which the last is given again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Reply]] = {
            "POST /v1/sessions": [Reply(SESSION, 201)],
            f"GET {S}": [Reply(SESSION)],
            f"DELETE {S}": [Reply(b"", 204)],
        }
        self.asked: list[Asked] = []
        self.url = ""

    def routes(self) -> list[str]:
        """What it was asked, in order."""
        return [one.route for one in self.asked]

    def answer(self, route: str) -> Reply:
        """The next answer of a route."""
        left = self.answers.get(route)
        if not left:
            return refused(404, "no_route")
        return left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """Serve on a free port within the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            route = f"{self.command} {self.path}"
            fake.asked.append(Asked(route, dict(self.headers), content))
            reply = fake.answer(route)
            if reply.silent:
                self.close_connection = True
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Transfer-Encoding", "chunked")
            if reply.torn:
                self.send_header("Connection", "close")
            self.end_headers()
            if reply.status != 204:
                for start in range(0, len(body), 7):  # so that lines and letters are cut anywhere
                    piece = body[start : start + 7]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"5\r\nab" if reply.torn else b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 (the names that http.server looks for)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
