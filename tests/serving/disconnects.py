"""Clients that vanish at random moments; what is left must be the state after exactly the tokens that it says.

``python -m tests.serving.disconnects RUN --count 1000`` breaks 1,000 connections of every kind: streams and WebSockets,
plain requests and completions, while they are written, computed and read. Then nothing may run, and the memory of the
server may be 5% above that after as many disconnects before. It exits with 1 where something is wrong.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import websockets

from benchmarks.serving.process import memory, number
from benchmarks.serving.solo import Feed, Generate, Operation, Solo
from benchmarks.serving.wire import Connection, ask, connect, request
from tests.serving.mirror import Mirror, drawn_operation, length, made, quiet, state_of
from tests.serving.rig import Server, served

KINDS = ("stream", "socket", "plain", "completion", "completions", "half", "again")
CLIENTS, LONGEST, SECONDS = 20, 300, 0.1
MORE = 0.05


class Disconnects:
    """What breaks connections to a server of one language model.

    Args:
        server: of that model alone.
        run: the model.
        seed: of the operations and the moments.
    """

    def __init__(self, server: Server, run: Path, seed: int) -> None:
        self.server, self.port, self.solo, self.seed = server, server.port, Solo(run), seed
        self.name = server.get("/v1/models")["data"][0]["id"]
        self.counts = Counter[str]()

    def run(self, count: int) -> Counter[str]:
        """Break connections, and check each session; return how many of which kind broke, and with tokens written."""
        asyncio.run(self._run(count))
        return self.counts

    async def _run(self, count: int) -> None:
        await asyncio.gather(*(self._client(k, len(range(k, count, CLIENTS))) for k in range(CLIENTS)))
        await asyncio.sleep(0.1)
        assert number(self.server.http.get("/metrics").text, "gatewise_running") == 0

    async def _client(self, number_: int, count: int) -> None:
        rng = Random(f"{self.seed} {number_}")
        mirror = await made(self.port, self.solo)
        for _ in range(count):
            kind = rng.choice(KINDS)
            operation = drawn_operation(rng, len(self.solo.vocabulary), LONGEST)
            if kind == "again" and isinstance(operation, Feed):  # what was not read is not gone on with
                operation = Generate(length(operation))
            await getattr(self, f"_{kind}")(rng, mirror, operation)
            self.counts[kind] += 1
            await self._check(mirror, kind, operation)
        deleted = await ask(self.port, "DELETE", mirror.path)
        assert deleted.status == 204, deleted.content

    async def _check(self, mirror: Mirror, kind: str, operation: Operation) -> None:
        """Compare the session with what it must be, and take what was done."""
        for _ in range(2):  # whose answers come after the server has read what came before
            await ask(self.port, "GET", mirror.path)
        about = await quiet(self.port, mirror)
        content, done = await state_of(self.port, mirror), about["position"] - mirror.position
        if kind in ("completion", "completions", "half"):
            assert done == 0, (kind, done)
        elif kind == "plain" or isinstance(operation, Feed):
            assert done in (0, length(operation)), (kind, operation, done)
        assert 0 <= done <= length(operation), (kind, operation, done)
        state = mirror.after(self.solo, operation, done)
        assert self.solo.model.load_state(content).save() == state.save(), (kind, operation, done)
        mirror.state, mirror.position = state, about["position"]
        self.counts["some of it done"] += 0 < done < length(operation)
        self.counts["all of it done"] += done == length(operation)

    async def _break(self, rng: Random, connection: Connection) -> None:
        """Break a connection after a while, or after some bytes of the answer."""
        if rng.random() < 0.5:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(connection.ended), rng.expovariate(1 / SECONDS))
        else:
            size = rng.randint(1, 20_000)
            for _ in range(500):
                if connection.size >= size or connection.ended.done():
                    break
                await asyncio.sleep(0.001)
        connection.transport.abort() if rng.random() < 0.5 else connection.transport.close()
        await connection.ended

    async def _ask(self, rng: Random, path: str, body: Any) -> None:
        await self._break(rng, await connect(self.port, request("POST", path, body)))

    async def _stream(self, rng: Random, mirror: Mirror, operation: Operation) -> None:
        await self._ask(rng, f"{mirror.path}/{route(operation)}", {**operation.body(), "stream": True,
                                                                   "gates": rng.random() < 0.2})  # fmt: skip

    async def _plain(self, rng: Random, mirror: Mirror, operation: Operation) -> None:
        await self._ask(rng, f"{mirror.path}/{route(operation)}", operation.body())

    async def _half(self, rng: Random, mirror: Mirror, operation: Operation) -> None:
        content = request("POST", f"{mirror.path}/{route(operation)}", operation.body())
        await self._break(rng, await connect(self.port, content[: rng.randrange(len(content))]))

    async def _completion(self, rng: Random, mirror: Mirror, operation: Operation) -> None:
        await self._ask(rng, "/v1/completions", self._prompt(rng, operation))

    async def _completions(self, rng: Random, mirror: Mirror, operation: Operation) -> None:
        await self._ask(rng, "/v1/completions", {**self._prompt(rng, operation), "stream": True, "n": 3})

    def _prompt(self, rng: Random, operation: Operation) -> dict[str, Any]:
        ids = operation.ids if isinstance(operation, Feed) else [rng.randrange(5)]
        return {"model": self.name, "prompt": list(ids), "max_tokens": rng.randint(1, LONGEST)}

    async def _socket(self, rng: Random, mirror: Mirror, operation: Operation) -> None:
        url = f"ws://127.0.0.1:{self.port}{mirror.path}/ws"
        socket = await websockets.connect(url, proxy=None, max_queue=None)
        await socket.send(json.dumps({"type": route(operation), **operation.body(), "gates": rng.random() < 0.2}))
        if rng.random() < 0.5:
            await asyncio.sleep(rng.expovariate(1 / SECONDS))
        else:
            for _ in range(rng.randint(1, length(operation))):
                await socket.recv()
        socket.transport.abort()
        await socket.wait_closed()

    async def _again(self, rng: Random, mirror: Mirror, operation: Operation) -> None:
        """Break a stream, and go on with it at once, again and again, with connections that break."""
        await self._stream(rng, mirror, operation)
        for _ in range(rng.randint(1, 4)):
            about = (await ask(self.port, "GET", mirror.path)).json()
            content = request("GET", f"{mirror.path}/events?after={about['position']}")
            await self._break(rng, await connect(self.port, content))


def route(operation: Operation) -> str:
    """Return the route of an operation."""
    return "generate" if isinstance(operation, Generate) else "feed"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with served([given.run]) as server:
        Disconnects(server, given.run, given.seed).run(given.count)
        before = memory(server.process.pid)
        counts = Disconnects(server, given.run, given.seed + 1).run(given.count)
        after = memory(server.process.pid)
        print(dict(counts), f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after, {after / before - 1:+.1%}")
        print(server.stderr(), end="")
        return int(after > before * (1 + MORE) or server.stderr() != "")


if __name__ == "__main__":
    sys.exit(main())
