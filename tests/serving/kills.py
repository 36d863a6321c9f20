"""Kill the server while clients work, and start it again; what it acknowledged must be there, with equal bits.

``python -m tests.serving.kills RUN --count 100`` does so 100 times, by SIGKILL. What was not acknowledged may be there
as a whole or not at all. Sessions that were deleted stay deleted. It exits with 1 where something is wrong.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from benchmarks.serving.solo import Feed, Operation, Solo
from benchmarks.serving.wire import Answer, ask, connect, events, request
from gatewise.runtime import State
from tests.serving.disconnects import route
from tests.serving.mirror import Mirror, drawn_operation, length, made
from tests.serving.rig import served

CLIENTS, LONGEST, SECONDS = 8, 40, 0.3
KINDS = ("plain", "plain", "stream", "stream", "fork", "put", "delete", "cut")


class Client:
    """A client with sessions of its own, whose acknowledged states it remembers over all kills.

    Attributes:
        mirrors: its sessions.
        unsure: the one that an operation was not acknowledged on, and the states that it may be in; None: deleted.
        deleted: ids of sessions whose deletion was acknowledged.
    """

    def __init__(self, solo: Solo, rng: Random, counts: Counter[str]) -> None:
        self.solo, self.rng, self.counts = solo, rng, counts
        self.mirrors = list[Mirror]()
        self.saved = list[bytes]()
        self.unsure: tuple[Mirror, list[tuple[State | None, int]]] | None = None
        self.deleted = list[str]()

    async def work(self, port: int) -> None:
        """Work until the server is killed."""
        with suppress(ConnectionError):
            await self._check(port)
            while True:
                if len(self.mirrors) < 3:
                    self.mirrors.append(await made(port, self.solo))
                kind, mirror = self.rng.choice(KINDS), self.rng.choice(self.mirrors)
                await getattr(self, f"_{kind}")(port, mirror)
                self.counts[kind] += 1
                self.unsure = None

    async def _check(self, port: int) -> None:
        """Compare all sessions with what they must be."""
        for mirror in list(self.mirrors):
            unsure = self.unsure is not None and self.unsure[0] is mirror
            options = self.unsure[1] if self.unsure and unsure else [(mirror.state, mirror.position)]
            answer = await ask(port, "GET", f"{mirror.path}/state")
            if answer.status == 404 and (None, 0) in options:
                self.mirrors.remove(mirror)
                continue
            assert answer.status == 200, (answer.status, answer.content)
            about = (await ask(port, "GET", mirror.path)).json()
            found = [(state, position) for state, position in options
                     if state and position == about["position"] and state.save() == answer.content]  # fmt: skip
            assert found, (about, [position for _, position in options])
            mirror.state, mirror.position = found[0]  # type: ignore[assignment]
            self.counts["unacknowledged and there"] += unsure and found[0] == options[-1]
            self.counts["sessions compared"] += 1
        self.unsure = None
        for id_ in self.deleted:
            assert (await ask(port, "GET", f"/v1/sessions/{id_}")).status == 404

    def _perhaps(self, mirror: Mirror, state: State | None, position: int) -> None:
        self.unsure = mirror, [(mirror.state, mirror.position), (state, position)]

    def _draw(self, mirror: Mirror) -> Operation:
        operation = drawn_operation(self.rng, len(self.solo.vocabulary), LONGEST)
        self._perhaps(mirror, mirror.after(self.solo, operation), mirror.position + length(operation))
        return operation

    def _done(self, mirror: Mirror) -> None:
        assert self.unsure
        mirror.state, mirror.position = self.unsure[1][1]  # type: ignore[assignment]

    async def _plain(self, port: int, mirror: Mirror) -> None:
        operation = self._draw(mirror)
        answer = await ask(port, "POST", f"{mirror.path}/{route(operation)}", operation.body())
        assert answer.status == 200, answer.content
        self._done(mirror)
        assert answer.json()["position"] == mirror.position

    async def _stream(self, port: int, mirror: Mirror) -> None:
        operation = self._draw(mirror)
        content = request("POST", f"{mirror.path}/{route(operation)}", {**operation.body(), "stream": True})
        connection = await connect(port, content)
        await connection.ended
        told = events(connection.answer().content)
        if not told or told[-1]["type"] == "token":
            raise ConnectionResetError
        assert told[-1]["type"] == "done", told[-1]
        self._done(mirror)

    async def _cut(self, port: int, mirror: Mirror) -> None:
        """Break a stream, and go on with it from there."""
        operation = self._draw(mirror)
        content = request("POST", f"{mirror.path}/{route(operation)}", {**operation.body(), "stream": True})
        connection = await connect(port, content)
        await asyncio.sleep(self.rng.expovariate(1 / 0.005))
        seen = [event["position"] for event in events(connection.answer().content)] or [mirror.position]
        connection.transport.abort()
        if isinstance(operation, Feed):
            self._perhaps_partly(mirror, operation)
            await self._settle(port, mirror)
            return
        self._perhaps_partly(mirror, operation)
        answer = Answer([])
        for _ in range(100):  # until the server knows about the generation
            connection = await connect(port, request("GET", f"{mirror.path}/events?after={seen[-1]}"))
            await connection.ended
            if (answer := connection.answer()).status != 409:
                break
            await asyncio.sleep(0.005)
        if not answer.status:
            raise ConnectionResetError
        if answer.status == 409:  # it never began
            await self._settle(port, mirror)
            return
        told = events(answer.content)
        if not told or told[-1]["type"] != "done":
            raise ConnectionResetError
        mirror.state, mirror.position = mirror.after(self.solo, operation), mirror.position + length(operation)
        assert told[-1]["position"] == mirror.position

    def _perhaps_partly(self, mirror: Mirror, operation: Operation) -> None:
        counts = (0, length(operation)) if isinstance(operation, Feed) else range(length(operation) + 1)
        self.unsure = mirror, [(mirror.after(self.solo, operation, n), mirror.position + n) for n in counts]

    async def _settle(self, port: int, mirror: Mirror) -> None:
        """Find out where an operation ended."""
        assert self.unsure
        about = {"generating": True}
        while about["generating"]:
            await asyncio.sleep(0.005)
            about = (await ask(port, "GET", mirror.path)).json()
        mirror.state, mirror.position = next(  # type: ignore[assignment]
            one for one in self.unsure[1] if one[1] == about["position"]
        )

    async def _fork(self, port: int, mirror: Mirror) -> None:
        answer = await ask(port, "POST", f"{mirror.path}/fork")
        assert answer.status == 201, answer.content
        if len(self.mirrors) < 12:
            self.mirrors.append(Mirror(answer.json()["id"], mirror.state.copy(), mirror.position))

    async def _put(self, port: int, mirror: Mirror) -> None:
        if not self.saved or self.rng.random() < 0.3:
            answer = await ask(port, "GET", f"{mirror.path}/state")
            assert answer.content == mirror.state.save()
            self.saved.append(answer.content)
            return
        content = self.rng.choice(self.saved)
        state = self.solo.model.load_state(content)
        position = state.steps - 1  # since the beginning of its text, which it has read
        self._perhaps(mirror, state, position)
        answer = await ask(port, "PUT", f"{mirror.path}/state", content)
        assert answer.json() == {"position": position}, answer.content
        self._done(mirror)

    async def _delete(self, port: int, mirror: Mirror) -> None:
        self.unsure = mirror, [(mirror.state, mirror.position), (None, 0)]
        answer = await ask(port, "DELETE", mirror.path)
        assert answer.status == 204, answer.content
        self.deleted.append(mirror.id)
        self.mirrors.remove(mirror)


def kill_and_restart(run: Path, folder: Path, count: int, seed: int = 1, *options: str) -> Counter[str]:
    """Kill a server some times; return what was done."""
    counts, solo = Counter[str](), Solo(run)
    clients = [Client(solo, Random(f"{seed} {k}"), counts) for k in range(CLIENTS)]
    rng = Random(seed)
    for turn in range(count + 1):
        with served([run], "--state-dir", folder, *options) as server:

            async def live(port: int = server.port, last: bool = turn == count) -> None:
                working = asyncio.gather(*(client.work(port) for client in clients))
                if last:
                    await asyncio.sleep(1)
                else:
                    await asyncio.sleep(rng.uniform(0.05, 2 * SECONDS))
                server.process.kill()
                await working

            asyncio.run(live())
            server.process.wait()
            assert server.stderr() == "", server.stderr()
            counts["kills"] += 1
    return counts


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in-memory", default="1000")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_and_restart(given.run, Path(folder), given.count, given.seed, "--in-memory", given.in_memory)
    print(dict(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
