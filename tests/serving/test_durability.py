"""Sessions on disk: over kills and restarts, beyond memory, with damaged files and a full disk."""

import asyncio
import resource
import signal
import sys
from pathlib import Path

import pytest

from benchmarks.serving.solo import Generate, Solo
from benchmarks.serving.wire import ask, connect, events, request
from tests.serving.kills import kill_and_restart
from tests.serving.mirror import Mirror, made, quiet, state_of
from tests.serving.rig import served

LIMITED = (
    "import resource as r, signal as s, sys; s.signal(s.SIGXFSZ, s.SIG_IGN); r.setrlimit(r.RLIMIT_FSIZE, ({size},) * 2)"
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "in_memory"), [("words", "1000"), ("sentences", "3")])
def test_kill_and_restart(runs: dict[str, Path], tmp_path: Path, name: str, in_memory: str) -> None:
    counts = kill_and_restart(runs[name], tmp_path, 4, 1, "--in-memory", in_memory)
    assert counts["sessions compared"] > 50
    assert counts["stream"] and counts["cut"] and counts["fork"] and counts["delete"] and counts["put"]


def test_a_damaged_file_harms_no_other_session(runs: dict[str, Path], tmp_path: Path) -> None:
    solo = Solo(runs["words"])

    async def make(port: int) -> list[Mirror]:
        mirrors = [await made(port, solo) for _ in range(4)]
        for k, mirror in enumerate(mirrors):
            operation = Generate(20, k)
            assert (await ask(port, "POST", f"{mirror.path}/generate", operation.body())).status == 200
            mirror.take(solo, operation)
        return mirrors

    async def use(port: int, mirror: Mirror) -> None:
        assert (await ask(port, "GET", f"{mirror.path}/state")).content == mirror.state.save()

    with served([runs["words"]], "--state-dir", tmp_path) as server:
        mirrors = asyncio.run(make(server.port))
        server.process.kill()
    flipped, cut, empty = (tmp_path / f"{mirror.id}.session" for mirror in mirrors[:3])
    content = bytearray(flipped.read_bytes())
    content[-3] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-1])
    empty.write_bytes(b"")
    (tmp_path / "notes.txt").write_text("of no interest")
    with served([runs["words"]], "--state-dir", tmp_path) as server:
        for mirror in mirrors[:3]:
            for method, path, body in [
                ("GET", "", None),
                ("GET", "/state", None),
                ("POST", "/generate", {}),
                ("POST", "/fork", None),
            ]:
                answer = asyncio.run(ask(server.port, method, mirror.path + path, body))
                assert (answer.status, answer.json()["error"]["code"]) == (500, "damaged")
        asyncio.run(use(server.port, mirrors[3]))
        assert "Traceback" not in server.stderr()
        assert "unforeseen" not in server.stderr()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits")
def test_a_full_disk(runs: dict[str, Path], tmp_path: Path) -> None:
    """What cannot be stored is refused with 507, and the session is what it was, also for a generation that streams."""
    solo = Solo(runs["words"])
    limit = LIMITED.format(size=12_000)
    command = (sys.executable, "-c", f"{limit}; import runpy; runpy.run_module('gatewise', run_name='__main__')")

    async def fill(port: int) -> None:
        mirror = await made(port, solo)
        first = Generate(50, 1)  # a stream's events are stored with it, and these are few enough
        connection = await connect(port, request("POST", f"{mirror.path}/generate", {**first.body(), "stream": True}))
        await connection.ended
        assert events(connection.answer().content)[-1]["type"] == "done"
        mirror.take(solo, first)
        for _ in range(2):
            body = {**Generate(2000, 2).body(), "stream": True}
            connection = await connect(port, request("POST", f"{mirror.path}/generate", body))
            await connection.ended
            told = events(connection.answer().content)
            assert told[-1]["type"] == "error"
            assert told[-1]["error"]["code"] == "not_stored"
            about = await quiet(port, mirror)
            assert (about["position"], about["resumable"]) == (mirror.position, False)
            assert await state_of(port, mirror) == mirror.state.save()
            answer = await ask(port, "GET", f"{mirror.path}/events?after={mirror.position}")
            assert (answer.status, answer.json()["error"]["code"]) == (409, "no_generation")
        small = Generate(5, 9)
        assert (await ask(port, "POST", f"{mirror.path}/generate", small.body())).status == 200
        mirror.take(solo, small)
        assert await state_of(port, mirror) == mirror.state.save()

    with served([runs["words"]], "--state-dir", tmp_path, command=command) as server:
        asyncio.run(fill(server.port))
        assert "unforeseen" not in server.stderr()
        files = sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".part")
        assert files == []


def test_a_resumed_generation_that_cannot_be_stored(runs: dict[str, Path], tmp_path: Path) -> None:
    """The state is that of the last commit, not of the tokens after it."""
    solo = Solo(runs["words"])
    limit = LIMITED.format(size=200_000)
    command = (sys.executable, "-c", f"{limit}; import runpy; runpy.run_module('gatewise', run_name='__main__')")

    async def run(port: int) -> None:
        mirror, whole = await made(port, solo), Generate(30_000, 1)
        connection = await connect(port, request("POST", f"{mirror.path}/generate", {**whole.body(), "stream": True}))
        while connection.size < 3000:
            await asyncio.sleep(0.001)
        connection.transport.abort()
        about = await quiet(port, mirror)
        expected = mirror.after(solo, whole, about["position"]).save()
        assert about["resumable"], "the machine is too slow for this test, or too fast"
        assert await state_of(port, mirror) == expected
        connection = await connect(port, request("GET", f"{mirror.path}/events?after={about['position']}"))
        await connection.ended
        assert events(connection.answer().content)[-1]["error"]["code"] == "not_stored"
        assert (await quiet(port, mirror))["position"] == about["position"]
        assert await state_of(port, mirror) == expected

    with served([runs["words"]], "--state-dir", tmp_path, command=command) as server:
        asyncio.run(run(server.port))


def test_a_folder_that_cannot_be_written_to(runs: dict[str, Path], tmp_path: Path) -> None:
    """Also root cannot write into a folder that is gone."""
    solo, folder = Solo(runs["words"]), tmp_path / "states"

    async def refused(port: int, mirror: Mirror) -> None:
        asked = [("POST", "/generate", {}), ("POST", "/feed", {"tokens": [1]}), ("POST", "/fork", None)]
        for method, path, body in [*asked, ("PUT", "/state", mirror.state.save()), ("DELETE", "", None)]:
            answer = await ask(port, method, mirror.path + path, body)
            assert (answer.status, answer.json()["error"]["code"]) == (507, "not_stored"), (
                method,
                path,
                answer.content,
            )
        assert (await ask(port, "POST", "/v1/sessions", {})).status == 507
        assert await state_of(port, mirror) == mirror.state.save()

    with served([runs["words"]], "--state-dir", folder) as server:
        mirror = asyncio.run(made(server.port, solo))
        folder.rename(tmp_path / "away")
        asyncio.run(refused(server.port, mirror))
        (tmp_path / "away").rename(folder)
        server.post(f"{mirror.path}/feed", {"tokens": [1]})
        assert "unforeseen" not in server.stderr()
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
