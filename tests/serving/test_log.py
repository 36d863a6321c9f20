"""Nothing that a user sent comes into the log."""

import asyncio
import http.client
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from gatewise.serving.log import log_all_unforeseen
from gatewise.serving.openapi import OPERATIONS
from tests.serving.rig import served

CANARY = "Kanarienvogel"
KEY = "a-key_of.this~test"


def test_what_nothing_catches_is_logged_without_its_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def fail() -> None:
        raise RuntimeError(CANARY)

    async def fails() -> None:
        fail()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        log_all_unforeseen(loop)
        loop.call_soon(fail)
        task = asyncio.create_task(fails())
        await asyncio.sleep(0.01)
        del task
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    asyncio.run(run())
    said = capsys.readouterr().err
    assert said.count("unforeseen RuntimeError in the event loop:") == 2
    assert said.count("unforeseen RuntimeError in a thread:") == 1
    assert CANARY not in said and "Traceback" not in said


BROKEN = f"""
import asyncio
import threading
from gatewise.serving.engine import Engine
from gatewise.runtime import LanguageModel, Tagger
from gatewise.runtime.vocabulary import Vocabulary
from gatewise.__main__ import run

def broken(function):
    def call(self, *inputs, **options):
        if {CANARY!r} in repr(inputs):
            raise RuntimeError(f"cannot take {{inputs}}")
        return function(self, *inputs, **options)
    return call

def fail():
    raise RuntimeError({CANARY!r})

def start(self):
    asyncio.get_running_loop().call_soon(fail)
    threading.Thread(target=fail).start()
    threading.Thread.start(self)

Engine.start = start
Vocabulary.sequences = broken(Vocabulary.sequences)
Tagger.tag = broken(Tagger.tag)
Tagger.read_each = broken(Tagger.read_each)
Tagger.step = broken(Tagger.step)
run()
"""


def test_nothing_that_was_sent_is_in_the_log(runs: dict[str, Path], tmp_path: Path) -> None:
    """Whatever happens, defects included."""
    command = (sys.executable, "-X", "dev", "-W", "ignore", "-c", BROKEN)
    keys = {"authorization": f"Bearer {KEY}{CANARY}"}
    with served(
        runs, "--state-dir", tmp_path / "states", env={"GATEWISE_KEY": KEY + CANARY}, command=command
    ) as server:
        server.http.headers.update(keys)
        words, tagger = server.session("words"), server.session("tagger")
        statuses = list[int]()

        def ask(method: str, path: str, **options: Any) -> None:
            statuses.append(server.http.request(method, path, **options).status_code)

        for one in OPERATIONS:
            for id_ in (words, tagger, CANARY):
                path = one.path.replace("{id}", id_).replace("{name}", CANARY)
                if one.method == "DELETE":
                    continue
                for body in ({"text": CANARY}, {CANARY: 1}, {"words": [CANARY]}, {"model": CANARY},
                             {"model": "tagger", "text": CANARY}, {"model": "words", "texts": [CANARY]},
                             {"model": "words", "prompt": CANARY}, {"words": [CANARY], "stream": True},
                             {"words": ["a", CANARY], "stream": True}, {"text": CANARY, "stream": True},
                             {"model": "words", "prompt": CANARY, "stream": True}):  # fmt: skip
                    ask(one.method, path, json=body)
                ask(one.method, path, content=CANARY)
                ask(one.method, path, content=CANARY, headers={"content-type": CANARY})
                ask(one.method, f"{path}?after={CANARY}", headers={"last-event-id": CANARY, "x": CANARY})
        ask("GET", f"/{CANARY}")
        ask(CANARY.upper(), "/")
        ask("GET", "/", headers={"host": CANARY})
        ask("GET", "/", headers={"origin": CANARY})
        ask("GET", "/v1/models", headers={"authorization": f"Bearer {CANARY}"})
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.sock = None
        connection.connect()
        connection.sock.sendall(f"{CANARY}\r\n\r\n".encode())  # type: ignore[attr-defined]
        assert connection.sock.recv(100).startswith(b"HTTP/1.1 400")  # type: ignore[attr-defined]
        connection.close()
        for id_ in (words, tagger):
            url = f"{server.url.replace('http', 'ws')}/v1/sessions/{id_}/ws"
            with connect(url, proxy=None, additional_headers=keys) as socket:
                for message in (
                    CANARY,
                    {"type": CANARY},
                    {"type": "feed", "text": CANARY},
                    {CANARY: CANARY},
                    {"type": "feed", "words": [CANARY]},
                    {"type": "feed", "words": ["a", CANARY]},
                ):
                    socket.send(json.dumps(message))
                    while json.loads(socket.recv(10))["type"] not in ("done", "error"):
                        pass
        assert statuses.count(500) > 9
        server.get("/health")
        server.get("/ready")
        assert server.end() == 0
        log = server.stderr()
        assert "unforeseen RuntimeError in POST /v1/tag:" in log
        assert "unforeseen RuntimeError in a step:" in log
        assert "unforeseen RuntimeError in a WebSocket:" in log
        assert "unforeseen RuntimeError in the event loop:" in log
        assert "unforeseen RuntimeError in a thread:" in log
        for secret in (CANARY, CANARY.upper(), words, tagger, KEY):
            assert secret not in log, [line for line in log.splitlines() if secret in line][:3]
        assert all(line.startswith("gatewise serve: ") for line in log.splitlines()), log
