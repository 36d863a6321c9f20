"""Many sessions that stream at the same time: errors, the time between tokens at the client, tokens as on their own."""

import asyncio
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.serving.process import cpu, memory
from benchmarks.serving.solo import Feed, Generate, Operation, Solo
from benchmarks.serving.wire import arrivals, ask, connect, events, request

PROMPT, PIECES = 20, (100, 400)
"""The tokens of a prompt, and the fewest and most of a generation; a session begins the next when one has ended."""


@dataclass
class Session:
    """A session of the load.

    Attributes:
        operations: done so far.
        tokens: that the server said it read and wrote.
        gaps: seconds between two reads that brought tokens, within a generation.
        arrived: of each token, the seconds since the one before: 0 for those that came with it in one read.
        firsts: seconds from a generation's request to its first token.
    """

    id: str
    operations: list[Operation] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def stream_together(
    port: int, pid: int, words: int, count: int, seconds: float, temperature: float = 1.0, seed: int = 1
) -> tuple[list[Session], dict[str, Any]]:
    """Let sessions stream, each as fast as it can, and return them with what the run took.

    Args:
        port, pid: of the server.
        words: in the vocabulary.
        count: of sessions.
        seconds: how long new generations are begun.
        temperature: of the generations.
        seed: of prompts and generations.
    """
    return asyncio.run(_stream_together(port, pid, words, count, seconds, temperature, seed))


async def _stream_together(
    port: int, pid: int, words: int, count: int, seconds: float, temperature: float, seed: int
) -> tuple[list[Session], dict[str, Any]]:
    rng = Random(seed)
    sessions = [Session((await ask(port, "POST", "/v1/sessions", {})).json()["id"]) for _ in range(count)]
    prompts = [Feed(tuple(rng.randrange(words) for _ in range(PROMPT))) for _ in sessions]
    began, ours, theirs = time.perf_counter(), _own_cpu(), cpu(pid)
    until = began + seconds
    await asyncio.gather(
        *(_live(port, session, prompt, until, temperature, seed * 10_000 + k)
          for k, (session, prompt) in enumerate(zip(sessions, prompts, strict=True)))
    )  # fmt: skip
    took = time.perf_counter() - began
    about = {"seconds": took, "client_cpu": (_own_cpu() - ours) / took, "server_cpu": (cpu(pid) - theirs) / took,
             "server_memory": memory(pid)}  # fmt: skip
    return sessions, about


async def _live(port: int, session: Session, prompt: Feed, until: float, temperature: float, seed: int) -> None:
    path = f"/v1/sessions/{session.id}"
    fed = await ask(port, "POST", f"{path}/feed", prompt.body())
    if fed.status != 200:
        session.errors.append(f"feed: {fed.status} {fed.content[:200]!r}")
        return
    session.operations.append(prompt)
    session.tokens += fed.json()["tokens"]
    turn, rng = 0, Random(seed)
    while time.perf_counter() < until and not session.errors:
        what = Generate(rng.randint(*PIECES), seed * 1000 + turn, temperature)
        turn += 1
        connection = await connect(port, request("POST", f"{path}/generate", {**what.body(), "stream": True}))
        await connection.ended
        answer = connection.answer()
        found = events(answer.content)
        if answer.status != 200 or not answer.complete or not found or found[-1]["type"] != "done":
            session.errors.append(f"generate: {answer.status} {answer.content[-200:]!r}")
            return
        tokens = [event["token"] for event in found if event["type"] == "token"]
        if tokens != found[-1]["tokens"]:
            session.errors.append("the events are not the tokens of the last one")
        session.operations.append(what)
        session.tokens += tokens
        reads = arrivals(connection)
        if sum(many for _, many in reads) != len(tokens):
            raise AssertionError("the client counts other events than it reads")
        session.firsts.append(reads[0][0])
        gaps = [b[0] - a[0] for a, b in pairwise(reads)]
        session.gaps += gaps
        for gap, (_, many) in zip([0.0, *gaps], reads, strict=True):
            session.arrived += [gap, *[0.0] * (many - 1)]


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def compare(run: Path, sessions: list[Session], processes: int = 2) -> int:
    """Return how many sessions do not have the tokens that they have on their own.

    Args:
        run: of the model.
        sessions: after the load.
        processes: that compute at the same time.
    """
    work = [(session.operations, session.tokens) for session in sessions]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return sum(pool.map(partial(_differ, run), [work[k::processes] for k in range(processes)]))


def _differ(run: Path, some: list[tuple[list[Operation], list[int]]]) -> int:
    solo = Solo(run)
    return sum(solo.after(operations)[1] != tokens for operations, tokens in some)


def summary(sessions: list[Session], about: dict[str, Any]) -> dict[str, Any]:
    """Return what a run shows: counts, rates, and percentiles in milliseconds."""
    written = sum(operation.count for s in sessions for operation in s.operations if isinstance(operation, Generate))

    def pick(name: str) -> list[float]:
        return [x for session in sessions for x in getattr(session, name)]

    return {
        "sessions": len(sessions),
        **about,
        "tokens": written,
        "tokens_per_second": written / about["seconds"],
        "errors": sum(len(session.errors) for session in sessions),
        "between_reads_ms": percentiles(pick("gaps")),
        "between_tokens_ms": percentiles(pick("arrived")),
        "first_ms": percentiles(pick("firsts")),
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return p50, p99 and the most, in milliseconds."""
    if not seconds:
        return {}
    p50, p99, most = (1e3 * float(x) for x in np.percentile(seconds, [50, 99, 100]))
    return {"p50": p50, "p99": p99, "most": most}
