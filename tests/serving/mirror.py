"""A session of a server, and beside it what it must be: a state of ``gatewise.runtime`` with the same operations."""

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.serving.solo import Feed, Generate, Operation, Solo
from benchmarks.serving.wire import Answer, ask
from gatewise.runtime import State

QUIET_SECONDS = 10.0


@dataclass
class Mirror:
    """A session.

    Attributes:
        id: of the server.
        state, position: as it was last acknowledged, or seen.
    """

    id: str
    state: State
    position: int = 0

    @property
    def path(self) -> str:
        return f"/v1/sessions/{self.id}"

    def after(self, solo: Solo, operation: Operation, count: int | None = None) -> State:
        """Return the state after an operation, of which only some tokens were read or written."""
        state = self.state.copy()
        if count is not None and isinstance(operation, Feed):
            operation = Feed(operation.ids[:count])
        elif count is not None and isinstance(operation, Generate):
            operation = Generate(count, operation.seed, operation.temperature, operation.top_k)
        if count != 0:
            solo.do(state, operation)
        return state

    def take(self, solo: Solo, operation: Operation) -> None:
        """Take an operation for done."""
        self.state = self.after(solo, operation)
        self.position += length(operation)


def length(operation: Operation) -> int:
    """Return how many tokens an operation reads or writes."""
    return len(operation.ids) if isinstance(operation, Feed) else operation.count


def drawn_operation(rng: Random, words: int, longest: int) -> Operation:
    """Draw an operation of up to some tokens."""
    size = rng.randint(1, longest)
    if rng.random() < 0.4:
        return Feed(tuple(rng.randrange(words) for _ in range(size)))
    return Generate(size, rng.randrange(2**40), rng.choice([0.0, 0.7, 1.0]), rng.choice([None, None, 5]))


async def made(port: int, solo: Solo) -> Mirror:
    """Make a session of the only model."""
    answer = await ask(port, "POST", "/v1/sessions", {})
    assert answer.status == 201, answer.content
    return Mirror(answer.json()["id"], solo.fresh())


async def quiet(port: int, mirror: Mirror) -> dict[str, Any]:
    """Wait until nothing uses a session; return what the server says about it."""
    for _ in range(int(QUIET_SECONDS / 0.01)):
        answer = await ask(port, "GET", mirror.path)
        assert answer.status == 200, answer.content
        about: dict[str, Any] = answer.json()
        if not about["generating"]:
            return about
        await asyncio.sleep(0.01)
    raise AssertionError(f"the session is still in use after {QUIET_SECONDS} s")


async def state_of(port: int, mirror: Mirror) -> bytes:
    """Return the state that the server keeps, once nothing uses the session."""
    for _ in range(int(QUIET_SECONDS / 0.01)):
        answer: Answer = await ask(port, "GET", f"{mirror.path}/state")
        if answer.status == 200:
            return answer.content
        assert answer.status == 409, answer.content
        await asyncio.sleep(0.01)
    raise AssertionError(f"the session is still in use after {QUIET_SECONDS} s")
