"""The application: its routes, its page, what it does with errors, and how it starts and ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from gatewise.errors import GatewiseError
from gatewise.serving.about_routes import AboutRoutes
from gatewise.serving.answer_routes import AnswerRoutes
from gatewise.serving.catalog import Catalog
from gatewise.serving.completion_routes import CompletionRoutes
from gatewise.serving.engine import Engine
from gatewise.serving.guard import Guard, host_name, is_loopback, refuse_handshake
from gatewise.serving.log import log_unforeseen
from gatewise.serving.metrics import Metrics
from gatewise.serving.openapi import OPERATIONS
from gatewise.serving.operations import Operations
from gatewise.serving.refusals import Refusal, of_error, unforeseen
from gatewise.serving.server_events import SEND
from gatewise.serving.session_routes import SessionRoutes
from gatewise.serving.sessions import Sessions
from gatewise.serving.settings import Settings
from gatewise.serving.store import Store

EXPIRE_SECONDS = 10
"""How often old sessions are looked for."""
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: nothing with other sites."""
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Application:
    """The server of some models; an ASGI application.

    Args:
        catalog: the models.
        settings: what ``gatewise serve`` was told.
        store: where sessions are kept on disk; None keeps them in memory only.
    """

    def __init__(self, catalog: Catalog, settings: Settings, store: Store | None) -> None:
        self._catalog, self._settings, self._store = catalog, settings, store
        self.metrics = Metrics()
        hosts = [
            *filter(None, map(host_name, settings.allowed_hosts)),
            *([] if is_loopback(settings.host) else [settings.host]),
        ]
        self.engine: Engine | None = None
        self._sessions: Sessions | None = None
        self._answers: AnswerRoutes | None = None
        self.problem: Exception | None = None
        self._app = Starlette(
            routes=[Route("/", self._page), Route("/{file}", self._page)],
            lifespan=self._lifespan,
            middleware=[
                Middleware(Answers, metrics=self.metrics),
                Middleware(Guard, key=settings.key, hosts=hosts),
            ],
            exception_handlers={HTTPException: _refused, Refusal: _refused, GatewiseError: _refused},
        )

        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        scope[SEND] = send
        await self._app(scope, receive, send)

    @property
    def working(self) -> bool:
        """Whether something is read, written or computed for a client."""
        return bool((self.engine and self.engine.active) or (self._answers and self._answers.waiting))

    @property
    def computing(self) -> bool:
        """Whether a thread computes, perhaps for nobody any more."""
        return self._answers is not None and self._answers.computing

    async def hand_over(self) -> None:
        """Pause what is read and written, and refuse what is computed."""
        if self._answers:
            self._answers.end()
        if self.engine:
            await self.engine.pause_all()

    def sessions_in_use(self) -> bool:
        """Return whether a request owns a session."""
        return self._sessions is not None and self._sessions.in_use()

    def cut_clients(self) -> None:
        """Let go of the clients that take nothing."""
        if self._sessions:
            self._sessions.cut()

    def drain(self) -> None:
        """Take no new work."""
        if self.engine:
            self.engine.closed = True

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        try:
            expiry = self._start(app)
        except Exception as error:
            self.problem = error  # which uvicorn would turn into a status
            raise
        try:
            yield
        finally:
            expiry.cancel()
            assert self.engine and self._answers and self._sessions
            self.engine.stop()
            self._answers.close()
            self._sessions.close()

    def _start(self, app: Starlette) -> asyncio.Task[None]:
        """Make the routes, and start the engine."""
        self.engine = engine = Engine(self.metrics)
        self._sessions = sessions = Sessions(self._catalog, self._settings, self.metrics, self._store)
        self._answers = AnswerRoutes(self._catalog, engine, self.metrics)
        operations = Operations(engine, sessions)
        routes = {
            "about": AboutRoutes(self._catalog, engine, self.metrics),
            "answers": self._answers,
            "completions": CompletionRoutes(self._catalog, engine),
            "sessions": SessionRoutes(self._catalog, operations),
        }

        def endpoint(name: str) -> Any:
            group, _, method = name.partition(".")
            return getattr(routes[group], method)

        found: list[Any] = [Route(one.path, endpoint(one.name), methods=[one.method]) for one in OPERATIONS]
        found.append(WebSocketRoute("/v1/sessions/{id}/ws", routes["sessions"].socket))  # type: ignore[attr-defined]
        found.append(WebSocketRoute("/{path:path}", _no_socket))
        app.router.routes[:0] = found
        engine.start()
        return asyncio.create_task(_expire(sessions))

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("file") or "index.html"
        suffix = name[name.rfind(".") :]
        found = {file.name: file for file in (files("gatewise.serving") / "page").iterdir()}
        if name.startswith(".") or suffix not in _TYPES or name not in found:
            raise Refusal(404, "there is nothing here; /openapi.json lists the routes")
        headers = {
            "content-security-policy": POLICY,
            "cache-control": "no-cache",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }
        return Response(found[name].read_bytes(), media_type=_TYPES[suffix], headers=headers)


class Answers:
    """Counts answers, and makes one of an error that nothing else foresaw. An ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "websocket":
            try:
                await self._app(scope, receive, send)
            except Exception as error:
                log_unforeseen("a WebSocket", error)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, str(message["status"])).inc()
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception as error:
            log_unforeseen(f"{scope['method']} {getattr(scope.get('route'), 'path', 'a route')}", error)
            if begun:
                raise ConnectionAbortedError("the answer was not finished") from None
            await unforeseen().response()(scope, receive, counted)


async def _no_socket(socket: WebSocket) -> None:
    await refuse_handshake(
        Refusal(404, "there is no WebSocket here; a session has one at its path/ws").response(), socket.send
    )


async def _expire(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(EXPIRE_SECONDS)
        try:
            await sessions.expire()
        except Exception as error:  # of the disk; the next try may succeed
            log_unforeseen("the removal of old sessions", error)


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, GatewiseError):
        error = of_error(error)
    if isinstance(error, HTTPException):
        messages = {404: "there is nothing here; /openapi.json lists the routes",
                    405: "the route does not take this method; /openapi.json lists those it takes"}  # fmt: skip
        error = Refusal(error.status_code, messages.get(error.status_code, str(error.detail)), None, error.headers)
    assert isinstance(error, Refusal)
    return error.response()
