"""Connections over HTTP: one that sends no request, or none that can be read, is not kept."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gatewise.serving.refusals import Refusal

HEAD_SECONDS = 20
"""How long a connection may take from its beginning, or from the first byte of a request, to the end of the head."""
BODY_SECONDS = 60
"""How long the next piece of a body may take."""


class Connection(H11Protocol):
    """A connection whose client must go on sending while the server waits for it."""

    _patience: asyncio.TimerHandle | None = None
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read a piece of a request."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection to the protocol of WebSockets, which has timeouts of its own."""
        self._stop()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the form of every error, and close."""
        answer = Refusal(400, "the request is not HTTP/1.1, or its head is over 64 kB").response()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = h11.Response(
                status_code=400, headers=[*answer.raw_headers, (b"connection", b"close")], reason=b"Bad Request"
            )
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle:
            self.cycle.disconnected = True
        self.transport.close()

    def _wait(self) -> None:
        """Allow the client some time for what it sends next: a head all in all, a body for each piece."""
        in_head = self.conn.their_state is h11.IDLE
        if in_head and self._in_head and self._patience:
            return  # the time runs
        self._stop()
        self._in_head = in_head
        if in_head or self.conn.their_state is h11.SEND_BODY:
            seconds = HEAD_SECONDS if in_head else BODY_SECONDS
            self._patience = self.loop.call_later(seconds, self.transport.close)

    def _stop(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None
