"""Owners of a session, a full and a draining server, clients that vanish, stall or crawl, states that do not fit."""

import asyncio
import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import websockets

from benchmarks.serving.process import memory, number
from benchmarks.serving.solo import Feed, Generate, Solo
from benchmarks.serving.wire import Connection, ask, connect, events, request
from gatewise import runtime
from gatewise.serving.catalog import Served
from tests.library.builds import model_file
from tests.runtime.rig import LM, TEXT, Case
from tests.serving.damaged_states import damaged
from tests.serving.disconnects import Disconnects
from tests.serving.mirror import Mirror, made, quiet, state_of
from tests.serving.rig import Server, served

LONG = Generate(100_000, 1)
REFUSED = [("POST", "/generate", {}), ("POST", "/feed", {"tokens": [1]}), ("DELETE", "", None), ("GET", "/state", None),
           ("PUT", "/state", b"x"), ("POST", "/fork", None)]  # fmt: skip
WIDE = Case(LM, {"hidden_size": 400, "num_layers": 2})
IDLE = int(os.environ.get("GATEWISE_IDLE", "300"))
"""Connections that do nothing; GATEWISE_IDLE=1500 asks for more."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["words", "sentences"])
def test_clients_that_vanish(runs: dict[str, Path], name: str) -> None:
    with served([runs[name]]) as server:
        counts = Disconnects(server, runs[name], 1).run(120)
        assert counts["some of it done"] and counts["all of it done"] and counts["again"] and counts["socket"]
        assert server.stderr() == ""


def test_1000_states_that_do_not_fit_are_refused_and_change_nothing(server: Server) -> None:
    id_ = server.session("words")
    server.post(f"/v1/sessions/{id_}/feed", {"text": "the dog ate"})
    path = f"/v1/sessions/{id_}/state"
    content = server.http.get(path).content
    others = [server.http.get(f"/v1/sessions/{server.session(name)}/state").content
              for name in ("letters", "relu", "tagger", "classifier", "regressor")]  # fmt: skip
    wrong = Counter[str]()
    for what, state in islice(damaged(content, others, Random(1)), 1000):
        found = server.http.put(path, content=state)
        wrong[what] += (
            found.status_code != 422
            or found.json()["error"]["code"] != "invalid"
            or server.http.get(path).content != content
        )
    assert not +wrong
    assert server.http.put(path, content=content).json() == {"position": 3}


def test_one_owner_whatever_else_asks(runs: dict[str, Path]) -> None:
    """A refused request does not free the lock: what is done is done one after another, as a solo run does it."""
    solo = Solo(runs["words"])

    async def hammer(port: int) -> None:
        mirror = await made(port, solo)
        for turn in range(20):
            operations = [Generate(50, 100 * turn + k) for k in range(12)]
            answers = await asyncio.gather(
                *(ask(port, "POST", f"{mirror.path}/generate", one.body()) for one in operations)
            )
            statuses = Counter(answer.status for answer in answers)
            assert set(statuses) <= {200, 409}
            assert statuses[200]
            refused = [answer.json()["error"]["code"] for answer in answers if answer.status == 409]
            assert set(refused) <= {"busy"}
            done = {answer.json()["position"]: k for k, answer in enumerate(answers) if answer.status == 200}
            for place in sorted(done):  # one after the other
                mirror.take(solo, operations[done[place]])
                assert mirror.position == place
            assert await state_of(port, mirror) == mirror.state.save()

    async def refuse(port: int) -> None:
        """While one streams, all else is refused, again and again, and the stream goes on undisturbed."""
        mirror = await made(port, solo)
        operation = Generate(3000, 5)
        stream = await connect(port, request("POST", f"{mirror.path}/generate", {**operation.body(), "stream": True}))
        while not stream.size:
            await asyncio.sleep(0.001)
        refused = 0
        while not stream.ended.done():
            for method, path, body in REFUSED:
                answer = await ask(port, method, mirror.path + path, body)
                if stream.ended.done():
                    break
                assert answer.status == 409, (method, path, answer.content)
                refused += 1
        assert refused > 12
        mirror.take(solo, operation)
        told = events(stream.answer().content)
        assert told[-1]["position"] == mirror.position

    with served([runs["words"]]) as server:
        asyncio.run(hammer(server.port))
        asyncio.run(refuse(server.port))


def test_new_states_are_made_by_two_threads(runs: dict[str, Path]) -> None:
    """The event loop makes them for sessions, and the engine after each sentence."""
    served = Served("sentences", runtime.load(runs["sentences"]))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: served.fresh_state().save(), range(20_000)))
    assert len(set(found)) == 1


def test_a_full_server(runs: dict[str, Path]) -> None:
    with served([runs["words"]], "--max-sessions", 3) as server:
        ids = [server.session("words") for _ in range(3)]
        for path in ("/v1/sessions", f"/v1/sessions/{ids[0]}/fork"):
            found = server.http.post(path, **({"json": {}} if path == "/v1/sessions" else {}))
            assert found.status_code == 429
            assert found.json()["error"]["code"] == "full"
            assert int(found.headers["retry-after"]) > 0
        server.post(f"/v1/sessions/{ids[0]}/feed", {"text": "the dog"})  # which the refused fork has not kept
        assert server.http.delete(f"/v1/sessions/{ids[1]}").status_code == 204
        server.session("words")


def test_unused_sessions_expire(runs: dict[str, Path], tmp_path: Path) -> None:
    with served([runs["words"]], "--max-sessions", 2, "--ttl", 1, "--state-dir", tmp_path) as server:
        old = [server.session("words") for _ in range(2)]
        time.sleep(1.1)
        assert server.http.get(f"/v1/sessions/{old[0]}").json()["error"]["code"] == "no_session"
        new = [server.session("words") for _ in range(2)]  # in the place of the old ones
        assert {path.stem for path in tmp_path.glob("*.session")} == set(new)


@pytest.mark.slow
def test_sigterm_hands_streams_over(runs: dict[str, Path], tmp_path: Path) -> None:
    """Streams end within 5 seconds with what they are at; resumed at the next server they are as if undisturbed."""
    solo, count, whole = Solo(runs["words"]), 12, Generate(100_000, 1)
    seen = dict[str, list[int]]()

    async def interrupted(server: Server) -> list[tuple[str, Mirror]]:
        mirrors = [("sse" if k % 2 else "ws", await made(server.port, solo)) for k in range(count)]
        begun = asyncio.Event()

        async def sse(mirror: Mirror) -> list[dict]:  # type: ignore[type-arg]
            content = request("POST", f"{mirror.path}/generate", {**whole.body(), "stream": True})
            connection = await connect(server.port, content)
            await connection.ended
            return events(connection.answer().content)

        async def ws(mirror: Mirror) -> list[dict]:  # type: ignore[type-arg]
            url, found = f"ws://127.0.0.1:{server.port}{mirror.path}/ws", list[dict]()  # type: ignore[type-arg]
            async with websockets.connect(url, proxy=None, max_queue=None) as socket:
                await socket.send(json.dumps({"type": "generate", **whole.body()}))
                with suppress(websockets.ConnectionClosed):
                    async for message in socket:
                        found.append(json.loads(message))
                        begun.set()
            return found

        streams = [asyncio.ensure_future(ws(mirror) if kind == "ws" else sse(mirror)) for kind, mirror in mirrors]
        await begun.wait()
        await asyncio.sleep(0.3)
        server.process.terminate()
        await asyncio.sleep(0.1)
        late = await ask(server.port, "POST", "/v1/sessions", {})
        assert (late.status, late.json()["error"]["code"]) == (503, "draining")
        assert (await ask(server.port, "GET", "/ready")).status == 503
        assert (await ask(server.port, "GET", "/health")).status == 200
        for (_, mirror), stream in zip(mirrors, streams, strict=True):
            told = await stream
            assert told[-1]["type"] == "done", told[-1]
            assert told[-1]["finish_reason"] == "draining"
            tokens = [event["token"] for event in told if event["type"] == "token"]
            assert tokens == told[-1]["tokens"]
            assert told[-1]["position"] == len(tokens)
            mirror.position, seen[mirror.id] = len(tokens), tokens
        return mirrors

    with served([runs["words"]], "--state-dir", tmp_path) as server:
        mirrors = asyncio.run(interrupted(server))
        began = time.monotonic()
        assert server.process.wait(5) == 0
        assert time.monotonic() - began < 5
        assert server.stderr() == ""

    async def resumed(port: int, mirror: Mirror) -> None:
        content = request("GET", f"{mirror.path}/events", Last_Event_ID=str(mirror.position))
        connection = await connect(port, content)
        while connection.size < 50_000 and not connection.ended.done():
            await asyncio.sleep(0.01)
        connection.transport.abort()
        about = await quiet(port, mirror)
        told = [event["token"] for event in events(connection.answer().content) if event["type"] == "token"]
        assert told
        expected = solo.do(solo.fresh(), Generate(about["position"], whole.seed))
        assert (seen[mirror.id] + told) == expected[: len(seen[mirror.id]) + len(told)]
        assert await state_of(port, mirror) == solo.reading(expected).save()

    with served([runs["words"]], "--state-dir", tmp_path) as server:
        for _, mirror in mirrors[:4]:
            asyncio.run(resumed(server.port, mirror))


def count_of(server: Server) -> float:
    """Return how many tokens it has written."""
    return number(server.http.get("/metrics").text, "gatewise_tokens_written_total")


def test_sigterm_does_not_wait_for_long_computations(tmp_path: Path) -> None:
    both = Case(TEXT, {"hidden_size": 400, "bidirectional": True})
    models = [f"lm={model_file(tmp_path, WIDE)}", f"text={model_file(tmp_path, both)}"]
    asked = {
        "/v1/score": {"texts": ["the dog " * 100_000]},
        "/v1/classify": {"model": "text", "inputs": ["it " * 16_000]},
    }

    async def end(server: Server) -> None:
        waiting = [asyncio.ensure_future(ask(server.port, "POST", *one)) for one in asked.items()]
        await asyncio.sleep(0.7)
        assert not any(one.done() for one in waiting)
        server.process.terminate()
        for one in waiting:
            answer = await one
            assert (answer.status, answer.json()["error"]["code"]) == (503, "draining")

    with served(models) as server:
        asyncio.run(end(server))
        began = time.monotonic()
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 2
        assert server.stderr() == ""


@pytest.mark.parametrize("which", ["score", "over time"])
def test_what_nobody_waits_for_is_not_computed_to_the_end(tmp_path: Path, which: str) -> None:
    both = Case(TEXT, {"hidden_size": 100, "bidirectional": True})
    route, body = {
        "score": ("/v1/score", {"texts": ["the dog " * 100_000]}),
        "over time": ("/v1/classify", {"inputs": ["it " * 512] * 30, "over_time": True}),
    }[which]

    async def leave(server: Server) -> None:
        connection = await connect(server.port, request("POST", route, body))
        await asyncio.sleep(0.7)
        assert cpu_seconds(server) > 0.3
        connection.transport.abort()

    with served([f"model={model_file(tmp_path, WIDE if which == 'score' else both)}"]) as server:
        asyncio.run(leave(server))
        until, before = time.monotonic() + 4, cpu_seconds(server)
        while time.sleep(0.5) or (now := cpu_seconds(server)) - before > 0.1:
            assert time.monotonic() < until
            before = now


def cpu_seconds(server: Server) -> float:
    """Return how long its threads have computed."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_clients_that_do_not_read(runs: dict[str, Path]) -> None:
    """They wait, at little memory, and no other with them; a new connection takes their generation over."""
    solo = Solo(runs["words"])

    async def stall(server: Server) -> None:
        port = server.port
        mirrors = [await made(port, solo) for _ in range(20)]
        stalled = list[Connection]()
        for mirror in mirrors:
            content = request("POST", f"{mirror.path}/generate", {**LONG.body(), "stream": True})
            stalled.append(await connect(port, content, 1 << 14))
            stalled[-1].transport.pause_reading()
        written = -1.0
        while (now := count_of(server)) > written:
            written = now
            await asyncio.sleep(0.3)
        before = memory(server.process.pid)
        other = await made(port, solo)
        began = time.perf_counter()
        answer = await ask(port, "POST", f"{other.path}/generate", Generate(1000, 3).body())
        assert answer.status == 200
        assert time.perf_counter() - began < 2
        await asyncio.sleep(1)
        assert count_of(server) == written + 1000  # those that are stalled have stopped
        assert memory(server.process.pid) < before + (4 << 20)
        mirror = mirrors[0]
        resumed = await connect(port, request("GET", f"{mirror.path}/events?after=0"))  # it has seen nothing
        while resumed.size < 500_000 and not resumed.ended.done():
            await asyncio.sleep(0.01)
        resumed.transport.abort()
        about = await quiet(port, mirror)
        assert about["resumable"]
        expected = solo.do(solo.fresh(), Generate(about["position"], LONG.seed))
        told = [event["token"] for event in events(resumed.answer().content)]
        assert len(told) > 1000
        assert told == expected[: len(told)]
        assert await state_of(port, mirror) == solo.reading(expected).save()
        for connection in stalled:
            connection.transport.abort()
        for mirror in mirrors:
            await quiet(port, mirror)

    with served([runs["words"]]) as server:
        asyncio.run(stall(server))
        assert server.stderr() == ""


def test_idle_and_crawling_connections(runs: dict[str, Path]) -> None:
    """Idle WebSockets, and headers that come a byte at a time, cost little and hold up nobody."""

    async def idle(server: Server) -> None:
        ids = [server.session("words") for _ in range(3)]
        before = memory(server.process.pid)
        sockets = []
        for k in range(IDLE):
            url = f"ws://127.0.0.1:{server.port}/v1/sessions/{ids[k % 3]}/ws"
            sockets.append(await websockets.connect(url, proxy=None, ping_interval=None))
        crawling = [await connect(server.port, b"GET / HTTP/1.1\r\nHost: 127") for _ in range(IDLE)]
        for connection in crawling:
            connection.transport.write(b".")
        assert (memory(server.process.pid) - before) / (2 * IDLE) < 100_000
        began = time.perf_counter()
        server.post(f"/v1/sessions/{ids[0]}/generate", {"max_tokens": 100})
        assert time.perf_counter() - began < 1
        await sockets[-1].send('{"type": "generate", "max_tokens": 2}')
        assert [json.loads(await sockets[-1].recv())["type"] for _ in range(3)] == ["token", "token", "done"]
        for socket in sockets:
            socket.transport.abort()
        for connection in crawling:
            connection.transport.abort()
        server.get("/health")

    with served([runs["words"]]) as server:
        asyncio.run(idle(server))
        assert server.stderr() == ""


def test_reading_is_all_or_nothing(runs: dict[str, Path]) -> None:
    """A client that goes in the midst of a text that streams leaves the state before it."""
    solo = Solo(runs["words"])

    async def leave(port: int) -> None:
        mirror = await made(port, solo)
        operation = Feed(tuple(k % 11 for k in range(20_000)))
        connection = await connect(port, request("POST", f"{mirror.path}/feed", {**operation.body(), "stream": True}))
        while connection.size < 5000:
            await asyncio.sleep(0.001)
        connection.transport.abort()
        about = await quiet(port, mirror)
        assert (about["position"], about["resumable"]) == (0, False)
        assert await state_of(port, mirror) == solo.fresh().save()

    with served([runs["words"]]) as server:
        asyncio.run(leave(server.port))
