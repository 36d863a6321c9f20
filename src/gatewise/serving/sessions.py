"""Sessions: a state with an id, which one request at a time owns."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gatewise.errors import InputError
from gatewise.runtime.model import State
from gatewise.serving.catalog import Catalog, Served
from gatewise.serving.log import log
from gatewise.serving.metrics import Metrics
from gatewise.serving.refusals import Refusal, busy
from gatewise.serving.settings import Settings
from gatewise.serving.store import DamagedSession, Store
from gatewise.serving.work import Work, Writing

KEPT_SECONDS = 120
"""How long the events of a generation are kept for a client that lost some; its numbers stay."""
FORMAT = 1
"""Of a session's file; others are not read."""
EVICT_SECONDS = 5
"""How long a client that connects again waits for its old connection to let go."""


class Session:
    """A state with an id; it always stands after a whole number of inputs.

    Attributes:
        id: cannot be guessed.
        served: the model.
        state: what has been read; None while it is on disk only.
        position: how many inputs have been read.
        fresh_line: whether the next token begins a line.
        work: the generation that a client may go on with, if any.
        used: when, in the seconds of ``time.time``.
        followed: what a client is sent the events of, if anything.
        cut: lets go of the owner's client, if that takes nothing.
    """

    def __init__(self, id_: str, served: Served | None, state: State | None, used: float | None = None) -> None:
        self.id, self.served, self.state = id_, served, state
        self.position, self.fresh_line = 0, True
        self.work: Work | None = None
        self.followed: Work | None = None
        self.used = time.time() if used is None else used
        self.owner: object | None = None
        self.evicted = False
        self.cut: Callable[[], None] | None = None
        self.free = asyncio.Event()

    @property
    def model(self) -> Served:
        """The model of a session that is in memory."""
        assert self.served is not None
        return self.served

    @property
    def value(self) -> State:
        """The state of a session that is in memory."""
        assert self.state is not None
        return self.state


class Sessions:
    """All sessions of a server.

    Args:
        catalog, settings, metrics: those of the server.
        store: where sessions are kept on disk; None keeps them in memory only.
    """

    def __init__(self, catalog: Catalog, settings: Settings, metrics: Metrics, store: Store | None) -> None:
        self._catalog, self._settings, self._store = catalog, settings, store
        self._all = dict[str, Session]()  # in the order of their last use
        for id_, used in sorted((store.sessions if store else {}).items(), key=lambda one: one[1]):
            self._all[id_] = Session(id_, None, None, used)
        metrics.observe("sessions_held", "Sessions in memory.", lambda: len(self._all) - self._spilled())
        metrics.observe("sessions_spilled", "Sessions on disk only.", self._spilled)

    async def create(self, served: Served, state: State, position: int = 0, fresh_line: bool = True) -> Session:
        """Register a session.

        Raises:
            Refusal: there are as many as may be.
        """
        if len(self._all) >= self._settings.max_sessions:
            await self.expire()
        if len(self._all) >= self._settings.max_sessions:
            raise Refusal(
                429, f"there are {len(self._all)} sessions, the most that may be; delete one, or try again later"
            )
        session = Session(self._settings.id_prefix + secrets.token_urlsafe(16), served, state)
        session.position, session.fresh_line = position, fresh_line
        session.owner = session  # until it is on disk
        self._all[session.id] = session
        try:
            await self._save(session)
        except BaseException:
            del self._all[session.id]
            raise
        session.owner = None
        self._spill()
        return session

    def look(self, id_: str) -> Session:
        """Return a session without owning it.

        Raises:
            Refusal: there is none, or no more.
        """
        session = self._all.get(id_)
        if session is None or (session.owner is None and self._is_old(session)):
            raise Refusal(404, "no such session; it may have expired: make a new one", "no_session")
        return session

    @asynccontextmanager
    async def own(self, id_: str, *, load: bool = True) -> AsyncIterator[Session]:
        """Own a session within the block, in which it is in memory.

        Args:
            id_: of the session.
            load: False leaves one that is on disk only where it is.

        Raises:
            Refusal: there is none, another request owns it, or its file is damaged or of another model.
        """
        session = self.look(id_)
        if session.owner is not None:
            raise busy()
        session.owner = owner = object()
        session.followed = None
        try:
            if load and session.state is None:
                await self._load(session)
            yield session
        finally:
            if session.owner is owner:
                session.owner, session.evicted, session.cut, session.followed = None, False, None, None
                session.used = time.time()
                if self._all.pop(session.id, None):
                    self._all[session.id] = session
                session.free.set()
                self._spill()

    @asynccontextmanager
    async def take_over(self, id_: str) -> AsyncIterator[Session]:
        """Own a session to go on with its generation, from a connection that is broken but not known to be.

        Raises:
            Refusal: as ``own``, and where there is no generation to go on with.
        """
        session = self.look(id_)
        if session.owner is not None and session.work is not None and session.followed is session.work:
            session.evicted = True
            session.work.changed.set()
            session.free.clear()
            for _ in range(10):
                if await _set_within(session.free, EVICT_SECONDS / 10):
                    break
                if session.cut:
                    session.cut()
            else:
                raise busy()
        async with self.own(id_) as session:
            if session.work is None:
                raise Refusal(
                    409, "there is no generation to go on with; ask for the session's position", "no_generation"
                )
            yield session

    async def commit(self, session: Session, work: Work, keep: bool = False) -> None:
        """Take a work's state for the session's, once that is on disk.

        Args:
            session: which the caller owns.
            work: not active any more.
            keep: whether a client may go on with it.

        Raises:
            Refusal: it could not be written; the session is what it was.
        """
        before = session.state, session.position, session.fresh_line, session.work
        state = work.state.copy() if keep else work.state  # which the work may change when it goes on
        session.state, session.position, session.fresh_line = state, work.position, work.fresh_line
        session.work = work if keep else None
        try:
            await self._save(session)
        except BaseException:
            session.state, session.position, session.fresh_line, kept = before
            session.work = None if kept is work else kept  # it is ahead of the session
            raise

    async def remove(self, session: Session) -> None:
        """Delete a session that the caller owns.

        Raises:
            Refusal: its file could not be deleted.
        """
        if self._store:
            try:
                await self._store.remove(session.id)
            except OSError as problem:
                log(f"a session's file could not be deleted: {problem.strerror}")
                raise Refusal(
                    507, "the server could not delete the session; nothing has changed", "not_stored"
                ) from None
        self._all.pop(session.id, None)

    async def expire(self) -> None:
        """Delete the sessions that were not used for too long, and events that nobody asked for."""
        for session in [one for one in self._all.values() if one.owner is None and self._is_old(one)]:
            session.owner = session
            try:
                await self.remove(session)
            except Refusal:  # which is logged; the next time, perhaps
                session.owner = None
        for session in self._all.values():
            if session.work and session.owner is None and time.time() - session.used > KEPT_SECONDS:
                session.work.events.clear()

    def cut(self) -> None:
        """Let go of the clients that take nothing; their sessions are stored."""
        for session in self._all.values():
            if session.owner is not None and session.cut:
                session.cut()

    def close(self) -> None:
        """Give the folder of sessions free."""
        if self._store:
            self._store.close({session.id: session.used for session in self._all.values()})

    def in_use(self) -> bool:
        """Return whether a request owns a session."""
        return any(session.owner is not None for session in self._all.values())

    def _spilled(self) -> int:
        return sum(session.state is None for session in self._all.values())

    def _is_old(self, session: Session) -> bool:
        return time.time() - session.used > self._settings.ttl

    def _spill(self) -> None:
        """Forget the states that are on disk and were not used for longest."""
        if not self._store:
            return
        held = [one for one in self._all.values() if one.state is not None]
        for session in held[: max(len(held) - self._settings.in_memory, 0)]:
            if session.owner is None:
                session.state = session.work = None

    async def _save(self, session: Session) -> None:
        if not self._store:
            return
        about: dict[str, Any] = {
            "format": FORMAT,
            "model": session.model.name,
            "position": session.position,
            "fresh_line": session.fresh_line,
        }
        if session.work and session.work.writing:
            work, writing = session.work, session.work.writing
            drawn = {"seed": writing.seed, "drawn": writing.drawn, "stopped": writing.stopped}
            about["writing"] = {**writing.options, **drawn}
            about |= {"began_line": work.began_line, "gates": work.gates, "top": work.top}
            about["events"] = work.saved_events()  # the last of them may not have arrived
        try:
            await self._store.save(session.id, about, session.value.save())
        except OSError as problem:
            log(f"a session could not be written: {problem.strerror}")
            raise Refusal(507, "the server could not store the session; nothing has changed", "not_stored") from None

    async def _load(self, session: Session) -> None:
        assert self._store
        try:
            about, content = await self._store.load(session.id)
            if about["format"] != FORMAT:
                raise DamagedSession(session.id)
            served = self._catalog.named(about["model"])
            state = served.model.load_state(content)
        except (OSError, DamagedSession, ValueError, KeyError, Refusal) as problem:
            if isinstance(problem, InputError | Refusal):
                raise Refusal(409, "the session is of a model that is not served any more", "other_model") from None
            log(f"a session's file cannot be read: {type(problem).__name__}")
            raise Refusal(500, "the session's file is damaged; make a new session", "damaged") from None
        position, fresh_line, work = about["position"], about["fresh_line"], None
        if writing := about.get("writing"):
            work = Work(
                served, state.copy(), writing=Writing(**writing), each=True, gates=about["gates"],
                top=about["top"], position=position, fresh_line=fresh_line,
            )  # fmt: skip
            work.began_line = about["began_line"]
            work.load_events(about.get("events", []))
        session.served, session.state, session.work = served, state, work
        session.position, session.fresh_line = position, fresh_line


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; return whether it came."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
