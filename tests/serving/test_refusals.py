"""Bad requests get the right status, a code and one sentence."""

import base64
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gatewise.serving.openapi import OPERATIONS, Operation
from gatewise.serving.settings import LARGEST_BODY, LARGEST_STATE
from tests.serving.rig import Server, served

KEY = "a-key_of.this~test"
JSON_ROUTES = [one for one in OPERATIONS if one.body and one.body.get("type") == "object"]
IDS = {"ids": lambda one: f"{one.method} {one.path}"}
VALID: dict[str, Any] = {
    "/v1/completions": {"model": "words", "prompt": "the", "max_tokens": 1},
    "/v1/sessions": {"model": "words"},
    "/v1/sessions/{id}/feed": {"text": "the"},
    "/v1/sessions/{id}/generate": {"max_tokens": 1},
    "/v1/tag": {"model": "tagger", "text": "the"},
    "/v1/classify": {"model": "text", "inputs": ["the"]},
    "/v1/forecast": {"model": "regressor", "inputs": [[[1000, 2, -3]]]},
    "/v1/score": {"model": "words", "texts": ["the"]},
}


@pytest.fixture(scope="module")
def id_(server: Server) -> str:
    return server.session("words")


def path_of(one: Operation, id_: str) -> str:
    return one.path.replace("{id}", id_).replace("{name}", "words")


def refused(response: httpx.Response, status: int, code: str) -> str:
    """Check an error, and return its message."""
    assert response.status_code == status, (response.status_code, response.text[:300])
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"code", "message"} and error["code"] == code, error
    assert error["message"] and "\n" not in error["message"] and len(error["message"]) < 300, error
    message: str = error["message"]
    return message


NOT_JSON = ["", "{", "nothing", "{'a': 1}", '{"a": NaN}', '{"a": [Infinity]}', '{"a": -Infinity}', '{"text": "a}',
            "\ufeff{}", '{"a": "\\ud800"}', '{"a\\udfff": 1}', '{"a": 1} {}', "[" * 9 + "]" * 9, '{"a":' * 100_000,
            "[" * 500_000, '{"a": ' + "9" * 5000 + "}"]  # fmt: skip
WRONG: dict[str, list[tuple[str, Any]]] = {
    "/v1/completions": [
        ("model", None), ("prompt", ""), ("prompt", "  \n "), ("prompt", 1), ("prompt", []), ("prompt", [[]]),
        ("prompt", ["a", 1]), ("prompt", [""]), ("prompt", [-1]), ("prompt", [10**6]), ("prompt", [2**40]),
        ("prompt", [1.5]), ("prompt", [True]), ("prompt", {}), ("prompt", ["a"] * 65), ("max_tokens", 0),
        ("max_tokens", -1), ("max_tokens", 10**9), ("max_tokens", "1"), ("max_tokens", 1.5), ("max_tokens", True),
        ("temperature", -1), ("temperature", 1e999), ("temperature", "hot"), ("top_p", 0), ("top_p", 1.1), ("top_k", 0),
        ("top_k", -5), ("top_k", 2**70), ("n", 0), ("n", 65), ("n", 10**30), ("stop", ""), ("stop", ["a"] * 5),
        ("stop", [""]), ("stop", [1]), ("seed", -1), ("seed", 2**63), ("seed", 0.5), ("logprobs", 6), ("logprobs", -1),
        ("logprobs", True), ("echo", 1), ("stream", "yes"), ("stream_options", {"x": 1}), ("stream_options", []),
        ("user", 5),
    ],
    "/v1/sessions": [("model", 1), ("model", None), ("model", []), ("model", "crf")],
    "/v1/sessions/{id}/feed": [
        ("text", 1), ("text", ""), ("text", "  "), ("text", ["a"]), ("tokens", []), ("tokens", [-1]),
        ("tokens", [10**6]), ("tokens", [2**31]), ("tokens", "a"), ("words", ["a"]), ("inputs", [[1, 2, 3]]),
        ("top", 21), ("top", -1), ("gates", True), ("top", 1), ("stream", None), ("tokens", [1]),
    ],
    "/v1/sessions/{id}/generate": [
        ("max_tokens", 0), ("max_tokens", 100_001), ("seed", -1), ("temperature", -0.1), ("gates", True), ("top", 5),
        ("top_p", -1), ("top_k", 0), ("text", "a"),
    ],
    "/v1/tag": [("text", 1), ("text", None), ("sentences", [["a"]]), ("sentences", ["a"]), ("sentences", [[1]]),
                ("probabilities", 1), ("model", "words")],
    "/v1/classify": [("inputs", []), ("inputs", "a"), ("inputs", [None]), ("inputs", [1]), ("inputs", [[1]]),
                     ("inputs", [[[1, "a"]]]), ("over_time", 0), ("model", "tagger")],
    "/v1/forecast": [("inputs", []), ("inputs", [[]]), ("inputs", [[[None, 1, 2]]]), ("inputs", [[[1, 2]]]),
                     ("values", []), ("values", ["a"]), ("values", {}), ("steps", 0), ("steps", 10**6)],
    "/v1/score": [("texts", []), ("texts", "a"), ("texts", [1]), ("texts", [None]), ("model", "text")],
}  # fmt: skip


@pytest.mark.parametrize("one", JSON_ROUTES, **IDS)
class TestBodies:
    """Every route that takes JSON."""

    def test_a_valid_one(self, server: Server, one: Operation) -> None:
        """What the others change is accepted as it is."""
        path = path_of(one, server.session("words"))
        assert server.http.post(path, json=VALID[one.path]).status_code == one.status
        assert server.http.post(path, content=json.dumps(VALID[one.path])).status_code == one.status
        kind = {"content-type": "Application/JSON; charset=utf-8"}
        assert server.http.post(path, content=json.dumps(VALID[one.path]), headers=kind).status_code == one.status

    def test_no_json(self, server: Server, id_: str, one: Operation) -> None:
        for content in NOT_JSON:
            refused(server.http.post(path_of(one, id_), content=content), 400, "bad_request")
        refused(server.http.post(path_of(one, id_), content=b'{"model": "\xff"}'), 400, "bad_request")
        refused(server.http.post(path_of(one, id_)), 400, "bad_request")

    def test_another_type(self, server: Server, id_: str, one: Operation) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json2", "x" * 500, ""):
            response = server.http.post(
                path_of(one, id_), content=json.dumps(VALID[one.path]), headers={"content-type": kind}
            )
            refused(response, 415, "not_json")

    def test_no_object(self, server: Server, id_: str, one: Operation) -> None:
        for body in ([], "text", 1, True, [VALID[one.path]]):
            refused(server.http.post(path_of(one, id_), json=body), 422, "invalid")
        refused(server.http.post(path_of(one, id_), content="null"), 422, "invalid")

    def test_unknown_fields(self, server: Server, id_: str, one: Operation) -> None:
        for name in ("nothing", "Model", "", "\x00\x1b[31m", "x" * 5000, "ü\u2028"):
            response = server.http.post(path_of(one, id_), json={**VALID[one.path], name: 1})
            message = refused(response, 422, "invalid")
            assert "unknown field" in message and "\x1b" not in message

    def test_wrong_values(self, server: Server, id_: str, one: Operation) -> None:
        for name, value in WRONG[one.path]:
            content = json.dumps({**VALID[one.path], name: value})
            response = server.http.post(path_of(one, id_), content=content)
            if '"temperature": Infinity' in content:
                response = server.http.post(path_of(one, id_), content=content.replace("Infinity", "1e999"))
            try:
                refused(response, 422, "invalid")
            except AssertionError as problem:
                raise AssertionError(f"{name} = {value!r}: {problem}") from None

    def test_too_large(self, server: Server, id_: str, one: Operation) -> None:
        body = json.dumps({**VALID[one.path], "user": "x" * LARGEST_BODY}).encode()
        refused(server.http.post(path_of(one, id_), content=body), 413, "too_large")

        def parts() -> Iterator[bytes]:
            for start in range(0, len(body), 1 << 16):
                yield body[start : start + (1 << 16)]

        refused(server.http.post(path_of(one, id_), content=parts()), 413, "too_large")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.putrequest("POST", path_of(one, id_))
        connection.putheader("Content-Length", str(10**15))  # which is refused before it comes
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()


def test_a_state_that_is_too_large(server: Server, id_: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("PUT", f"/v1/sessions/{id_}/state")
    connection.putheader("Content-Length", str(LARGEST_STATE + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    response = server.http.post(f"/v1/sessions/{id_}/fork", json={"a": "x" * 2000})
    refused(response, 413, "too_large")
    refused(server.http.post(f"/v1/sessions/{id_}/fork", json={"a": 1}), 422, "invalid")


def test_unknown_routes_methods_models_and_sessions(server: Server, id_: str) -> None:
    for path in (
        "/nothing",
        "/v1",
        "/v1/nothing",
        "/v1/sessions/a/b",
        "/%2e%2e/x",
        "/..%2f",
        "/v1/models/a/b",
        "/x.js",
    ):
        refused(server.http.get(path), 404, "no_route")
    for one in OPERATIONS:
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - {
            other.method for other in OPERATIONS if other.path == one.path
        }:
            refused(server.http.request(method, path_of(one, id_)), 405, "no_method")
        if "{id}" in one.path:
            for unknown in ("nothing", "A" * 22, id_[:-1], id_ + "x", "%00", "ü" * 10, "..", "x" * 5000):
                body = {"json": VALID[one.path]} if one.path in VALID else {"headers": {"last-event-id": "0"}}
                if unknown == "..":
                    continue
                path = one.path.replace("{id}", unknown)
                refused(server.http.request(one.method, path, **body), 404, "no_session")
    for unknown in ("nothing", "Words", "%0a", "x" * 5000):
        refused(server.http.get(f"/v1/models/{unknown}"), 404, "no_model")
        for path, body in VALID.items():
            if "{id}" not in path:
                refused(server.http.post(path, json={**body, "model": unknown}), 404, "no_model")


FOREIGN = ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "user@127.0.0.1", "",
           "8.8.8.8", "[2001:db8::1]", "127.0.0.1:x", "127.0.0.1/x", "0x7f.1"]  # fmt: skip


@pytest.mark.parametrize("one", OPERATIONS, **IDS)
def test_foreign_hosts_and_origins(server: Server, id_: str, one: Operation) -> None:
    path, host = path_of(one, id_), f"127.0.0.1:{server.port}"
    for foreign in FOREIGN:
        refused(server.http.request(one.method, path, headers={"host": foreign}), 403, "forbidden_host")
    for origin in ("null", "", "https://evil.example", f"http://{host}.evil.example", f"ftp://{host}", host,
                   f"http://127.0.0.1:{server.port + 1}", "http://localhost", f"http://x@{host}"):  # fmt: skip
        refused(server.http.request(one.method, path, headers={"origin": origin}), 403, "forbidden_origin")
    if one.method == "GET" and "events" not in one.path:
        for ours in (host, "localhost", f"LOCALHOST:{server.port}", "[::1]:8000"):
            for headers in ({"host": ours}, {"host": ours, "origin": f"http://{ours}"}):
                assert server.http.get(path, headers=headers).status_code == 200


def handshake(server: Server, id_: str, **options: Any) -> int:
    """The status of a handshake; 101 is success."""
    try:
        with connect(f"{server.url.replace('http', 'ws')}/v1/sessions/{id_}/ws", proxy=None, **options):
            return 101
    except InvalidStatus as refusal:
        response = refusal.response
    assert set(json.loads(response.body or b"")["error"]) == {"code", "message"}
    return response.status_code


def test_handshakes(server: Server, id_: str) -> None:
    assert handshake(server, id_) == 101
    assert handshake(server, id_, origin=server.url) == 101
    assert handshake(server, id_, origin="https://evil.example") == 403
    assert handshake(server, id_, origin="null") == 403
    assert handshake(server, id_, additional_headers={"x": "y"}) == 101
    assert handshake(server, "nothing") == 404
    response = server.http.get(f"/v1/sessions/{id_}/ws", headers={
        "host": "evil.example", "connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(b"x" * 16).decode()})  # fmt: skip
    refused(response, 403, "forbidden_host")


def key_protocol(key: str) -> str:
    return "gatewise.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize("by", ["environment", "file"])
def test_keys(runs: dict[str, Path], tmp_path: Path, by: str) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    options = ("--key-file", tmp_path / "key") if by == "file" else ()
    env = {"GATEWISE_KEY": KEY if by == "environment" else "not-this-one"}
    with served([runs["words"]], *options, env=env) as server:
        right = {"authorization": f"Bearer {KEY}"}
        id_ = server.post("/v1/sessions", {}, 201, headers=right)["id"]
        for one in OPERATIONS:
            path = path_of(one, id_)
            free = one.path in ("/health", "/ready")
            for wrong in ({}, {"authorization": f"Bearer {KEY}x"}, {"authorization": KEY}, {"authorization": "Bearer"},
                          {"authorization": f"Basic {KEY}"}, {"authorization": "Bearer ü".encode()},
                          {"authorization": b"Bearer \xff"}, {"x-api-key": KEY}):  # fmt: skip
                response = server.http.request(one.method, path, headers=wrong)  # type: ignore[arg-type]
                if free:
                    assert response.status_code == 200
                else:
                    refused(response, 401, "unauthorized")
                    assert response.headers["www-authenticate"] == "Bearer"
            assert server.http.request(one.method, path, headers=right).status_code not in (401, 403, 500)
            if one.method == "DELETE":
                id_ = server.post("/v1/sessions", {}, 201, headers=right)["id"]
        assert server.http.get("/v1/nothing").status_code == 401
        assert server.http.get("/").status_code in (200, 404)
        assert handshake(server, id_) == 401
        assert handshake(server, id_, subprotocols=["gatewise", key_protocol(KEY + "x")]) == 401
        assert handshake(server, id_, subprotocols=["gatewise", "gatewise.key.***"]) == 401
        assert handshake(server, id_, additional_headers=right) == 101
        url = f"{server.url.replace('http', 'ws')}/v1/sessions/{id_}/ws"
        with connect(url, proxy=None, subprotocols=["gatewise", key_protocol(KEY)]) as connection:
            assert connection.subprotocol == "gatewise"
        assert KEY not in server.stderr()


def test_allowed_hosts(runs: dict[str, Path]) -> None:
    with served([runs["words"]], "--allow-host", "Example.org", "--allow-host", "other.example") as server:
        for host in ("example.org", "EXAMPLE.org:443", "other.example", "localhost"):
            server.get("/ready", headers={"host": host})
            server.get("/ready", headers={"host": host, "origin": f"http://{host}"})
        server.get("/ready", headers={"host": "127.0.0.1:8000", "origin": "https://example.org"})  # behind a proxy
        for host in ("evil.example", "x.example.org", "example.org.evil"):
            refused(server.http.get("/ready", headers={"host": host}), 403, "forbidden_host")
            response = server.http.get("/ready", headers={"origin": f"https://{host}"})
            refused(response, 403, "forbidden_origin")
