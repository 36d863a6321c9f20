"""Requests, options and folders that were made to break the server."""

import hashlib
import json
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gatewise.serving.bodies import parse
from gatewise.serving.refusals import Refusal
from tests.serving.rig import Server, served
from tests.serving.test_starting import failed


@pytest.mark.parametrize("body", ['"' + '\\"' * 400_000, '"' + '\\"' * 400_000 + "\\\n", '\\"' * 400_000 + "\\"])
def test_strings_without_an_end_are_read_once(body: str) -> None:
    began = time.perf_counter()
    with pytest.raises(Refusal, match="not JSON"):
        parse(body)
    assert time.perf_counter() - began < 5  # minutes, where each of the quotes is tried


def test_brackets_in_strings_are_not_nested() -> None:
    nested = {"a": '[[[[[[[[[[{{{"', "b": ["\\", "[[[[[[[[[["]}
    assert parse(json.dumps(nested)) == nested
    with pytest.raises(Refusal, match="deeper"):
        parse('{"a": "]]]]", "b": [[[[[[[[]]]]]]]]}')


@pytest.mark.parametrize("name", ["a" * 300 + ".html", "a" * 5000 + ".js", "%00.html", "%ff.css", "..%2findex.html"])
def test_names_that_no_file_can_have(server: Server, name: str) -> None:
    assert server.get(f"/{name}", 404)["error"]["code"] == "no_route"


def test_a_websocket_elsewhere(server: Server) -> None:
    for path in ("/", "/health", "/v1/sessions", "/v1/sessions/a/b/ws", "/nothing"):
        with pytest.raises(InvalidStatus) as caught, connect(f"{server.url.replace('http', 'ws')}{path}"):
            pass
        assert caught.value.response.status_code == 404
        assert json.loads(caught.value.response.body)["error"]["code"] == "no_route"


def test_a_message_that_takes_no_fields_says_so(server: Server) -> None:
    path = f"/v1/sessions/{server.session('words')}/ws"
    with connect(f"{server.url.replace('http', 'ws')}{path}") as socket:
        socket.send('{"type": "reset", "to": 3}')
        assert json.loads(socket.recv(timeout=10))["error"]["message"] == "the body: unknown field 'to'; expected none"


def test_going_on_does_not_end_another_operation(server: Server) -> None:
    path = f"/v1/sessions/{server.session('words')}"
    with server.http.stream("POST", f"{path}/generate", json={"max_tokens": 20_000, "stream": True}) as response:
        next(response.iter_lines())
    while server.get(path)["generating"]:
        time.sleep(0.01)
    position, read, told = server.get(path)["position"], 40_000, list[str]()
    began = threading.Event()

    def feed() -> None:
        body = {"text": "the dog " * (read // 2), "stream": True}
        with (
            httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http,
            http.stream("POST", f"{path}/feed", json=body) as response,
        ):
            for line in response.iter_lines():
                began.set()
                told.append(line)

    thread = threading.Thread(target=feed)
    thread.start()
    assert began.wait(30)
    found = server.http.get(f"{path}/events", headers={"Last-Event-ID": str(position)})
    thread.join()
    assert (found.status_code, found.json()["error"]["code"]) == (409, "busy")
    [done] = [line for line in told[-4:] if line.startswith("data: ")]
    about = json.loads(done.removeprefix("data: "))
    assert (about["type"], about["position"]) == ("done", position + read)
    assert server.get(path)["position"] == position + read


def test_sessions_that_cannot_be_read_can_be_deleted(runs: dict[str, Path], tmp_path: Path) -> None:
    with served([runs["words"], runs["relu"], runs["letters"]], "--state-dir", tmp_path) as server:
        ids = {name: server.session(name.rstrip("2")) for name in ("words", "words2", "relu", "letters", "letters2")}
        server.end()

    def file(name: str) -> Path:
        return tmp_path / f"{ids[name]}.session"

    file("words").write_bytes(file("words").read_bytes()[:-1])
    about, _, state = file("words2").read_bytes().partition(b"\n")[2].partition(b"\n")
    content = json.dumps({**json.loads(about), "format": 2}).encode() + b"\n" + state
    file("words2").write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    expected = {
        "words": (500, "damaged"), "words2": (500, "damaged"),  # of a format that is not known
        "relu": (409, "other_model"),  # another model has its name
        "letters": (409, "other_model"), "letters2": (409, "other_model"),  # no model has its name
    }  # fmt: skip
    again = [runs["words"], f"relu={runs['sentences']}"]
    with served(again, "--state-dir", tmp_path, "--max-sessions", len(ids)) as server:
        for name, (status, code) in expected.items():
            path = f"/v1/sessions/{ids[name]}"
            assert server.get(path, status)["error"]["code"] == code, name
            assert server.post(f"{path}/generate", {}, status)["error"]["code"] == code, name
        server.post("/v1/sessions", {"model": "words"}, 429)
        for name in expected:
            assert server.http.delete(f"/v1/sessions/{ids[name]}").status_code == 204, name
            assert server.http.delete(f"/v1/sessions/{ids[name]}").status_code == 404, name
        assert not list(tmp_path.glob("*.session"))
        server.session("words")
        assert "unforeseen" not in server.stderr()


def test_what_is_in_the_folder_besides_sessions(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / f"{'a' * 22}.session").symlink_to("nowhere")
    (tmp_path / f"{'b' * 22}.session").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with served([runs["words"]], "--state-dir", tmp_path) as server:
        for letter in "ab":
            assert server.get(f"/v1/sessions/{letter * 22}", 404)["error"]["code"] == "no_session"
        assert server.stderr() == ""


@pytest.mark.parametrize(
    "host", ["", "*", "https://models.example.org", "models.example.org:443", "a b", "é.org", "x/y", "user@x", "x\n"]
)
def test_names_that_no_request_has(runs: dict[str, Path], host: str) -> None:
    status, said = failed(runs["words"], "--port", 0, "--allow-host", host)
    assert status == 2
    assert said.endswith(
        "not the name of a host; expected one such as models.example.org, without a scheme, a port or a path"
    )


def test_names_as_they_may_be_written(runs: dict[str, Path]) -> None:
    names = {
        "Models.Example.org": "models.example.ORG:8000",
        "2001:DB8::1": "[2001:db8::1]",
        "[2001:db8::2]": "[2001:DB8::2]:1",
    }
    options = [word for name in names for word in ("--allow-host", name)]
    with served([runs["words"]], *options) as server:
        for host in names.values():
            server.get("/health", headers={"Host": host})
        server.get("/health", 403, headers={"Host": "example.org"})
        with suppress(httpx.HTTPError):
            server.get("/health", 403, headers={"Host": ""})
