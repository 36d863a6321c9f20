"""The WebSocket of a session: operations one after another, whose events it sends as they come."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from gatewise.errors import GatewiseError
from gatewise.serving.bodies import beside, checked, parse, size_of
from gatewise.serving.following import Followed, as_text
from gatewise.serving.guard import PROTOCOL
from gatewise.serving.log import log_unforeseen
from gatewise.serving.operations import Operations
from gatewise.serving.refusals import Refusal, busy, invalid, of_error, unforeseen
from gatewise.serving.schemas import FEED, GENERATE, Schema, body
from gatewise.serving.settings import LARGEST_BODY

_TYPES: dict[str, Schema] = {
    "feed": FEED,
    "generate": GENERATE,
    "resume": body(["after"], after={"type": "integer", "minimum": 0, "maximum": 2**53}),
    "stop": body(),
    "reset": body(),
}


class Socket:
    """One connection to a session.

    Args:
        socket: accepted already.
        operations: of the server.
        id_: of the session.
    """

    def __init__(self, socket: WebSocket, operations: Operations, id_: str) -> None:
        self._socket, self._operations, self._id = socket, operations, id_
        self._sending = asyncio.Lock()
        self._gone = self._to_stop = False
        self._followed: Followed | None = None
        self._running: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Do what the client asks for, until it goes; then the operation that runs is paused."""
        try:
            while True:
                await self._take(await self._socket.receive())
        except WebSocketDisconnect:
            pass
        finally:
            self._gone = True
            if self._followed:
                self._followed.work.changed.set()
            if self._running:
                await asyncio.wait([self._running])

    async def _take(self, message: Any) -> None:
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        text = message.get("text")
        try:
            if text is None or len(text) > LARGEST_BODY:
                raise invalid("the message is not text of at most 1 MB; expected an object in JSON")
            asked = await beside(len(text), lambda: parse(text))
            kind = asked.pop("type", None) if isinstance(asked, dict) else None
            if not isinstance(kind, str) or kind not in _TYPES:
                raise invalid(f"the message has no known type; expected one of {', '.join(_TYPES)}")
            found = await beside(len(text), lambda: checked(asked, _TYPES[kind]))
            if kind == "stop":
                self._to_stop = True  # also what has not begun yet
                if self._followed:
                    self._followed.stop()
                return
            if self._running and not self._running.done():
                raise busy()
            self._to_stop = False
            self._running = asyncio.create_task(self._do(kind, found))
        except Refusal as refusal:
            await self._send([{"type": "error", **refusal.as_json()}])

    async def _do(self, kind: str, asked: dict[str, Any]) -> None:
        operations = self._operations
        try:
            async with AsyncExitStack() as held:
                if kind == "resume":
                    session = await held.enter_async_context(operations.sessions.take_over(self._id))
                    work, after = operations.resumed(session), asked["after"]
                else:
                    session = await held.enter_async_context(operations.sessions.own(self._id))
                    if kind == "reset":
                        position = await operations.reset(session)
                        await self._send([{"type": "done", "position": position}])
                        return
                    make = operations.feed if kind == "feed" else operations.generate
                    work = await beside(size_of(asked), lambda: make(session, asked, each=True))
                    after = work.position
                self._followed = operations.followed(session, work)
                if self._to_stop:
                    self._followed.stop()
                async with aclosing(self._followed.events(after, lambda: self._gone)) as found:
                    async for events in found:
                        await self._send(events)
        except Refusal as refusal:
            await self._send([{"type": "error", **refusal.as_json()}])
        except GatewiseError as error:
            await self._send([{"type": "error", **of_error(error).as_json()}])
        except Exception as error:
            log_unforeseen("a WebSocket", error)
            await self._send([{"type": "error", **unforeseen().as_json()}])
        finally:
            self._followed = None

    async def _send(self, events: list[dict[str, Any]]) -> None:
        try:
            async with self._sending:
                for event in events:
                    if not self._gone:
                        await self._socket.send_text(as_text(event))
        except (WebSocketDisconnect, RuntimeError):  # the client has gone, which is what receive() says next
            self._gone = True


async def accept(socket: WebSocket) -> None:
    """Accept a connection."""
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(PROTOCOL if PROTOCOL in offered else None)
