"""Operations on sessions whose events a client follows: by server-sent events or a WebSocket."""

import asyncio
import base64
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import contextmanager
from typing import Any

from starlette.types import Receive

from gatewise.serving.answers import encode
from gatewise.serving.engine import Engine
from gatewise.serving.refusals import Refusal, draining, taken_over
from gatewise.serving.sessions import Session, Sessions
from gatewise.serving.work import Work


class Client:
    """Whether the client of a request is still there.

    Args:
        receive: of the request, whose body has been read.
        changed: set when the client goes.
    """

    def __init__(self, receive: Receive, changed: asyncio.Event | threading.Event) -> None:
        self.gone = False
        self._receive, self._changed = receive, changed

    async def watch(self) -> None:
        """Wait until the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._changed.set()


@contextmanager
def watched(client: Client) -> Any:
    """Watch a client within the block."""
    task = asyncio.ensure_future(client.watch())
    try:
        yield client
    finally:
        task.cancel()


def as_text(event: dict[str, Any]) -> str:
    """Return an event as JSON, its gates as base64."""
    gates = event.get("gates")
    if gates is None:
        return encode(event)
    shown = base64.b64encode(gates).decode()  # which JSON need not escape, and scanning it takes time
    return f'{encode({name: value for name, value in event.items() if name != "gates"})[:-1]},"gates":"{shown}"}}'


class Followed:
    """An operation on a session that the caller owns, whose events are followed.

    Attributes:
        stopped: whether the client asked for its end.
    """

    def __init__(self, engine: Engine, sessions: Sessions, session: Session, work: Work) -> None:
        self._engine, self._sessions, self.session, self.work = engine, sessions, session, work
        self.stopped = self._sending = False
        self._task: asyncio.Task[Any] | None = None

    def stop(self) -> None:
        """End a generation after the current token."""
        if self.work.writing:
            self.stopped = True
            self.work.changed.set()

    def cut(self) -> None:
        """Let go of a client that takes nothing."""
        if self._sending and self._task:
            self._sending = False  # once: what then stores the state is not to be cut, too
            self._task.cancel()

    async def events(self, after: int, gone: Callable[[], bool]) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Yield the events after a position as they come, the last with what came of it.

        When the client has gone, or another connection goes on with the generation, the operation is paused. Of a
        generation, the state is then that of the last token, and it can be gone on with; of reading, it is the one
        before.

        Raises:
            Refusal: the server does not take it now, or has none of these events.
        """
        work, engine = self.work, self._engine
        self._check_kept(after)
        work.sent = after
        if not work.ended:
            engine.submit(work)
        if work.writing:
            self.session.work = work  # which another connection may go on with
        self._task, self.session.cut, self.session.followed = asyncio.current_task(), self.cut, work
        try:
            while not gone() and not self.session.evicted:
                fresh = _after(work, work.sent)
                if fresh:
                    was_blocked = work.blocked
                    work.sent = fresh[-1][0]
                    if was_blocked:
                        engine.wake()
                    self._sending = True
                    yield [event for _, event in fresh]
                    self._sending = False
                elif not work.active:
                    break
                elif self.stopped:
                    await engine.pause(work)
                else:
                    await work.changed.wait()
                    work.changed.clear()
        finally:
            self._sending = False
            await asyncio.shield(asyncio.ensure_future(self._close()))
        self._sending = True  # and nothing else from here on
        if self.session.evicted:
            yield [{"type": "error", **taken_over().as_json()}]
        elif not gone():
            yield [event for _, event in _after(work, work.sent)] + [self._last()]

    async def _close(self) -> None:
        work = self.work
        if work.active:
            await self._engine.pause(work)
        if self.stopped and work.writing:
            work.writing.stopped = True
        if not work.writing and (work.problem or not work.ended):
            return
        try:
            await self._sessions.commit(self.session, work, keep=bool(work.writing) and not work.problem)
        except Refusal as refusal:
            work.problem = refusal

    def _check_kept(self, after: int) -> None:
        work = self.work
        oldest = work.events[0][0] if work.events else work.position + 1
        if after != work.position and not oldest - 1 <= after <= work.position:
            raise Refusal(
                409, f"the events after {after} are not kept; the session is at {work.position}", "no_generation"
            )

    def _last(self) -> dict[str, Any]:
        work = self.work
        if work.problem:
            return {"type": "error", **work.problem.as_json()}
        if not work.writing and not work.ended:
            return {"type": "error", **draining().as_json()}
        return {"type": "done", "position": work.position, **outcome(work)}


def outcome(work: Work) -> dict[str, Any]:
    """Return what came of an operation that has ended, as its reply says it."""
    if work.writing:
        reason = "stopped" if work.writing.stopped else "length" if work.writing.ended else "draining"
        found = {"text": work.text(), "tokens": work.writing.drawn, "seed": work.writing.seed}
        return {**found, "finish_reason": reason}
    return work.answer()


def _after(work: Work, position: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the events after a position."""
    found = list[tuple[int, dict[str, Any]]]()
    for event in reversed(work.events):
        if event[0] <= position:
            break
        found.append(event)
    return found[::-1]
