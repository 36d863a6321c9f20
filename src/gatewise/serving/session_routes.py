"""``/v1/sessions``: states with an id."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from gatewise.serving import schemas
from gatewise.serving.bodies import beside, read_bytes, read_json, size_of
from gatewise.serving.catalog import Catalog
from gatewise.serving.following import Client, outcome, watched
from gatewise.serving.guard import refuse_handshake
from gatewise.serving.operations import Operations
from gatewise.serving.refusals import Refusal, draining, invalid
from gatewise.serving.server_events import followed
from gatewise.serving.sessions import Session
from gatewise.serving.settings import LARGEST_STATE
from gatewise.serving.sockets import Socket, accept
from gatewise.serving.work import Work


class SessionRoutes:
    """The routes of sessions.

    Args:
        catalog, operations: those of the server.
    """

    def __init__(self, catalog: Catalog, operations: Operations) -> None:
        self._catalog, self._operations, self._sessions = catalog, operations, operations.sessions
        self._engine = operations.engine

    async def create(self, request: Request) -> Response:
        """Make a session."""
        asked = await read_json(request, schemas.SESSION)
        self._engine.check_open()
        wanted = "a model that streams (in one direction, not relative to the last value)"
        served = self._catalog.choose(asked.get("model"), lambda one: one.model.streams, wanted)
        session = await self._sessions.create(served, served.fresh_state())
        return JSONResponse(_about(session), 201)

    async def show(self, request: Request) -> Response:
        """Say where a session is."""
        id_ = request.path_params["id"]
        session = self._sessions.look(id_)
        while session.state is None:
            if session.owner is None:
                async with self._sessions.own(id_):
                    break
            await asyncio.sleep(0.005)  # its owner reads it from the disk
            session = self._sessions.look(id_)
        about: dict[str, Any] = {"generating": session.owner is not None, "resumable": session.work is not None}
        if session.owner is not None and session.work and session.work.active:
            about["position"] = session.work.position
        return JSONResponse({**_about(session), **about})

    async def delete(self, request: Request) -> Response:
        """Delete a session."""
        async with self._sessions.own(request.path_params["id"], load=False) as session:
            await self._sessions.remove(session)
        return Response(status_code=204)

    async def fork(self, request: Request) -> Response:
        """Make a session that goes on from where another is."""
        if (await read_bytes(request, 1024)).strip() not in (b"", b"{}"):
            raise invalid("the body is not empty; a fork needs none")
        self._engine.check_open()
        async with self._sessions.own(request.path_params["id"]) as session:
            fork = await self._sessions.create(
                session.model, session.value.copy(), session.position, session.fresh_line
            )
        return JSONResponse(_about(fork), 201)

    async def state(self, request: Request) -> Response:
        """Return the state as a safetensors file."""
        async with self._sessions.own(request.path_params["id"]) as session:
            content = session.value.save()
        return Response(content, media_type="application/octet-stream", headers={"cache-control": "no-store"})

    async def put_state(self, request: Request) -> Response:
        """Take a state that was saved."""
        content = await read_bytes(request, LARGEST_STATE)
        self._engine.check_open()
        async with self._sessions.own(request.path_params["id"]) as session:
            served = session.model
            state = await beside(len(content), lambda: served.model.load_state(content))
            read = state.steps - (1 if served.is_language_model else 0)  # the first was <eos> or <bos>
            work = Work(served, state, position=max(read, 0), fresh_line=read <= 0)
            await self._sessions.commit(session, work)
            return JSONResponse({"position": session.position})

    async def feed(self, request: Request) -> Response:
        """Read text, words or numbers."""
        return await self._operate(request, schemas.FEED, self._operations.feed)

    async def generate(self, request: Request) -> Response:
        """Write text."""
        return await self._operate(request, schemas.GENERATE, self._operations.generate)

    async def events(self, request: Request) -> Response:
        """Go on with a generation whose client lost the connection."""
        after = request.headers.get("last-event-id") or request.query_params.get("after", "")
        if not after.isdecimal() or len(after) > 15:
            raise invalid("no Last-Event-ID; expected the position of the last event that arrived")
        async with AsyncExitStack() as held:
            session = await held.enter_async_context(self._sessions.take_over(request.path_params["id"]))
            operation = self._operations.followed(session, self._operations.resumed(session))
            return followed(operation, int(after), held.pop_all())

    async def socket(self, socket: WebSocket) -> None:
        """Serve a WebSocket."""
        id_ = socket.path_params["id"]
        try:
            self._engine.check_open()
            self._sessions.look(id_)
        except Refusal as refusal:
            await refuse_handshake(refusal.response(), socket.send)
            return
        await accept(socket)
        await Socket(socket, self._operations, id_).serve()

    async def _operate(self, request: Request, schema: schemas.Schema, make: Callable[..., Work]) -> Response:
        asked = await read_json(request, schema)
        self._engine.check_open()
        async with AsyncExitStack() as held:
            session = await held.enter_async_context(self._sessions.own(request.path_params["id"]))
            work = await beside(size_of(asked), lambda: make(session, asked, each=asked["stream"]))
            if asked["stream"]:
                return followed(self._operations.followed(session, work), work.position, held.pop_all())
            if asked["gates"] or asked["top"]:
                raise invalid('gates and top are shown by streams; expected "stream": true with them')
            with watched(Client(request.receive, work.changed)) as client:
                if not await self._engine.finish(work, lambda: client.gone):
                    raise draining()
            await self._sessions.commit(session, work)
            found = {**outcome(work), "position": session.position}
            found.pop("finish_reason", None)
            return JSONResponse(found)


def _about(session: Session) -> dict[str, Any]:
    return {"id": session.id, "model": session.model.name, "position": session.position}
