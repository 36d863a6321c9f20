"""Server-sent events: a response that ends with an operation, or with its client."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gatewise.serving.following import Client, Followed, as_text, watched
from gatewise.serving.refusals import Refusal

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx hands each event on
}


SEND = "gatewise.send"
"""Where a request's scope has the server's own ``send``: the pieces of a stream need not pass what the start passed."""


class EventStream(Response):
    """A response of pieces of text, written as they are made.

    Args:
        pieces: given whether the client has gone, yields them; closed when the client has gone.
        write: makes text of a piece.
        changed: set when the client goes, so that ``pieces`` looks.
        held: what is given free when the response ends, such as a session.
    """

    def __init__(
        self,
        pieces: Callable[[Callable[[], bool]], AsyncGenerator[Any, None]],
        write: Callable[[Any], str],
        changed: asyncio.Event,
        held: AsyncExitStack | None = None,
    ) -> None:
        super().__init__(headers=HEADERS)
        self._pieces, self._write, self._changed, self._held = pieces, write, changed, held or AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whose body has been read."""
        async with self._held:
            client = Client(receive, self._changed)
            del self.raw_headers[[name for name, _ in self.raw_headers].index(b"content-length")]
            begun, direct = False, scope.get(SEND, send)
            with watched(client):
                try:
                    async with aclosing(self._pieces(lambda: client.gone)) as pieces:
                        async for piece in pieces:
                            if not begun:
                                begun = True
                                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                            body = self._write(piece).encode()
                            await direct({"type": "http.response.body", "body": body, "more_body": True})
                except Refusal as refusal:
                    if begun:
                        raise
                    await refusal.response()(scope, receive, send)
                    return
            if begun:
                await direct({"type": "http.response.body", "body": b"", "more_body": False})


def followed(operation: Followed, after: int, held: AsyncExitStack) -> EventStream:
    """Return the response that follows an operation on a session that ``held`` owns."""

    def write(events: list[dict[str, Any]]) -> str:
        return "".join(map(_event, events))

    return EventStream(lambda gone: operation.events(after, gone), write, operation.work.changed, held)


def _event(event: dict[str, Any]) -> str:
    place = f"id: {event['position']}\n" if "position" in event else ""
    return f"{place}event: {event['type']}\ndata: {as_text(event)}\n\n"
