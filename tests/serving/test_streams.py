"""Streams show each token, its probability and the gates of its step, and lose nothing when a connection is lost."""

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET, create_connection
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from gatewise.runtime.answers import softmax
from gatewise.runtime.sampling import Sampler
from tests.runtime.rig import CASES, inputs_of
from tests.serving.reference import Token, gates_of, loaded, started, steps
from tests.serving.rig import LANGUAGE, NAMES, STREAMED, Server
from tests.serving.test_sessions import feed, generate, state_of

TEXT = "the dog ate it xyzzy"


def parsed(lines: Iterator[str]) -> Iterator[tuple[str, int, Any]]:
    """(event, id, data) of server-sent events."""
    about = dict[str, str]()
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            assert name in ("id", "event", "data") and name not in about
            about[name] = value
        elif about:
            yield about["event"], int(about.get("id", -1)), json.loads(about["data"])
            about = {}
    assert not about


def sse(server: Server, id_: str, route: str, **body: Any) -> list[Any]:
    """The events of a stream; each has its type and position twice."""
    response = server.http.post(f"/v1/sessions/{id_}/{route}", json={**body, "stream": True})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return checked(parsed(iter(response.text.split("\n"))))


def checked(events: Iterator[tuple[str, int, Any]]) -> list[Any]:
    found = list[Any]()
    for event, id_, data in events:
        assert (data["type"], data["position"]) == (event, id_)
        found.append(data)
    return found


@contextmanager
def socket(server: Server, id_: str, **options: Any) -> Iterator[ClientConnection]:
    url = f"{server.url.replace('http', 'ws')}/v1/sessions/{id_}/ws"
    with connect(url, proxy=None, max_size=None, **{"max_queue": None, **options}) as connection:
        yield connection


def say(connection: ClientConnection, type_: str, **body: Any) -> None:
    connection.send(json.dumps({"type": type_, **body}))


def hear(connection: ClientConnection) -> list[Any]:
    """What comes up to a done or an error."""
    found = list[Any]()
    while not found or found[-1]["type"] not in ("done", "error"):
        found.append(json.loads(connection.recv(20)))
    return found


def check_gates(event: Any, trace: Any, gates: Any) -> None:
    """The bytes are within half a step of 1/255 of the range."""
    shown = base64.b64decode(event["gates"])
    L, H = trace[gates[0]["name"]].reshape(-1).size // 6, 6
    assert len(shown) == len(gates) * L * H
    expected = list(gates_of(trace, gates))
    for k, (byte, x) in enumerate(zip(shown, expected, strict=True)):
        gate = gates[k // (L * H)]
        span = gate["high"] - gate["low"]
        assert abs(gate["low"] + byte / 255 * span - x) <= 0.501 * span / 255, (gate, byte, x)


def check_token(event: Any, token: Token, lm: Any, gates: Any, top: int, read: bool) -> None:
    assert event["type"] == "token"
    assert (event["token"], event["text"], event["read"]) == (token.id, token.text, read)
    assert event["probability"] == pytest.approx(token.p[token.id], rel=1e-6)
    best = np.argsort(-token.p, kind="stable")[:top].tolist()
    assert [text for text, _ in event["top"]] == [lm.vocabulary.tokens[t] for t in best]
    assert [p for _, p in event["top"]] == pytest.approx(token.p[best].tolist(), rel=1e-6)
    check_gates(event, token.trace, gates)


@pytest.mark.parametrize("name", LANGUAGE)
def test_tokens_with_gates(server: Server, runs: dict[str, Path], name: str) -> None:
    lm, gates = loaded(runs[name]), server.get(f"/v1/models/{name}")["gates"]
    ids = lm.vocabulary.encode_line(TEXT)[:-1]
    state, expected = started(lm), list[Token]()
    expected += steps(lm, state, ids)
    expected += steps(lm, state, count=20, sampler=Sampler(seed=5), fresh_line=False)
    by_events, by_socket = server.session(name), server.session(name)
    found = sse(server, by_events, "feed", text=TEXT, gates=True, top=3)
    assert found.pop() == {"type": "done", "position": len(ids), "tokens": ids}
    written = sse(server, by_events, "generate", max_tokens=20, seed=5, gates=True, top=3)
    done = written.pop()
    tokens = [one.id for one in expected[len(ids) :]]
    text = "".join(one.text for one in expected[len(ids) :])
    assert done == {
        "type": "done", "position": len(ids) + 20, "text": text, "tokens": tokens, "seed": 5, "finish_reason": "length"
    }  # fmt: skip
    assert TEXT + text == lm.generate(TEXT, max_tokens=20, seed=5)
    assert [one["position"] for one in found + written] == list(range(1, len(ids) + 21))
    for k, (event, token) in enumerate(zip(found + written, expected, strict=True)):
        check_token(event, token, lm, gates, 3, k < len(ids))
    with socket(server, by_socket) as connection:
        say(connection, "feed", text=TEXT, gates=True, top=3)
        assert hear(connection)[:-1] == found
        say(connection, "generate", max_tokens=20, seed=5, gates=True, top=3)
        assert hear(connection) == [*written, done]
    assert state_of(server, by_events) == state_of(server, by_socket) == state.save()
    plain = sse(server, server.session(name), "feed", text=TEXT)
    without = [{key: value for key, value in one.items() if key not in ("gates", "top")} for one in found]
    assert plain[:-1] == without
    most = sse(server, server.session(name), "feed", text=TEXT, top=20)
    assert all(len(one["top"]) == min(20, len(lm.vocabulary)) for one in most[:-1])


@pytest.mark.parametrize("name", [name for name in STREAMED if name not in LANGUAGE])
def test_steps_with_gates(server: Server, runs: dict[str, Path], name: str) -> None:
    model, gates = loaded(runs[name]), server.get(f"/v1/models/{name}")["gates"]
    inputs = inputs_of(CASES[NAMES[name]], 12)
    field, given = ("words", inputs) if isinstance(inputs, list) else ("inputs", inputs.tolist())
    id_, state = server.session(name), started(model)
    found = sse(server, id_, "feed", gates=True, **{field: given})
    done = found.pop()
    assert [one["position"] for one in found] == list(range(1, 13))
    tags = list[str]()
    for k, event in enumerate(found):
        check_gates(event, model.trace(inputs[k : k + 1], state), gates)
        outputs = model.outputs([state])[0]
        assert event["type"] == "step"
        if name in ("regressor", "forecaster"):
            assert event["prediction"] == outputs.tolist()
            continue
        names = model.tags if name == "tagger" else model.labels
        p = softmax(outputs)
        assert event["probabilities"] == {str(one): float(q) for one, q in zip(names, p, strict=True)}
        assert event["tag" if name == "tagger" else "label"] == names[int(p.argmax())]
        if field == "words":
            assert event["word"] == given[k]
        tags.append(event.get("tag", ""))
    assert state_of(server, id_) == state.save()
    plain = feed(server, server.session(name), **{field: given})
    assert done == {"type": "done", **plain}
    if name == "tagger":
        assert plain["tags"] == tags
    with socket(server, server.session(name)) as connection:
        say(connection, "feed", gates=True, **{field: given})
        assert hear(connection) == [*found, done]


def test_what_gates_are(server: Server) -> None:
    gates = {name: server.get(f"/v1/models/{name}")["gates"] for name in LANGUAGE}
    for name, lows in (("words", "i0 f0 g-1 o0 c-1 h-1"), ("letters", "r0 z0 n-1 h-1"), ("sentences", "h-1")):
        assert " ".join(f"{one['name']}{one['low']}" for one in gates[name]) == lows
        assert all(one["high"] == 1 for one in gates[name])
    assert [one["name"] for one in gates["words"] if "squash" in one] == ["c"]
    assert gates["relu"] == [{"name": "h", "low": -1, "high": 1, "squash": "tanh"}]


def interrupted(server: Server, id_: str, after: int, **body: Any) -> int:
    """Read a stream up to about a position, then close the connection; return the last position that was read."""
    place = -1
    with (
        httpx.Client(base_url=server.url, trust_env=False, timeout=20) as own,
        own.stream("POST", f"/v1/sessions/{id_}/generate", json={**body, "stream": True}) as response,
    ):
        assert response.status_code == 200
        for _, place, _data in parsed(response.iter_lines()):
            if place >= after:
                break
    return place


@pytest.mark.parametrize("by", ["header", "query", "socket"])
def test_a_lost_connection_loses_nothing(server: Server, by: str) -> None:
    draw = np.random.default_rng(len(by))
    body = {"max_tokens": 400, "seed": 9, "temperature": 1.2, "top": 2, "gates": True}
    undisturbed = server.session("words")
    feed(server, undisturbed, text=TEXT)
    expected = sse(server, undisturbed, "generate", **body)
    for _ in range(4):
        id_, found = server.session("words"), list[Any]()
        feed(server, id_, text=TEXT)
        last = interrupted(server, id_, int(draw.integers(6, 300)), **body)
        for _ in range(3):
            if by == "socket":
                with socket(server, id_) as connection:
                    say(connection, "resume", after=last)
                    events = list[Any]()
                    while len(events) < 40 and (not events or events[-1]["type"] != "done"):
                        events.append(json.loads(connection.recv(20)))
            else:
                events = resumed(server, id_, last, 40, by)
            kept = [one for one in events if one["type"] == "token"]
            assert kept == expected[last - 5 : last - 5 + len(kept)]
            last = last + len(kept)
        with socket(server, id_) as connection:
            say(connection, "resume", after=last)
            found = hear(connection)
        assert found == expected[last - 5 :]
        assert state_of(server, id_) == state_of(server, undisturbed)
        again = resumed(server, id_, 400, 1000, "header")
        assert again == expected[400 - 5 :]


def resumed(server: Server, id_: str, after: int, most: int, by: str) -> list[Any]:
    """Some events after a position."""
    headers = {"last-event-id": str(after)} if by == "header" else {}
    query = "" if by == "header" else f"?after={after}"
    with (
        httpx.Client(base_url=server.url, trust_env=False, timeout=20) as own,
        own.stream("GET", f"/v1/sessions/{id_}/events{query}", headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        return checked(event for event, _ in zip(parsed(response.iter_lines()), range(most), strict=False))


def test_another_operation_ends_what_can_be_gone_on_with(server: Server) -> None:
    body = {"max_tokens": 5000, "seed": 9}
    for between in ("feed", "generate", "put"):
        id_ = server.session("words")
        last = interrupted(server, id_, 8, **body)
        about = server.get(f"/v1/sessions/{id_}")
        while about["generating"]:
            about = server.get(f"/v1/sessions/{id_}")
        assert about["resumable"] and about["position"] >= last
        if between == "feed":
            feed(server, id_, text="it")
        elif between == "generate":
            generate(server, id_, max_tokens=1)
        else:
            server.http.put(f"/v1/sessions/{id_}/state", content=state_of(server, id_)).raise_for_status()
        refused = server.get(f"/v1/sessions/{id_}/events?after={last}", 409)["error"]
        assert refused["code"] == "no_generation"
        assert not server.get(f"/v1/sessions/{id_}")["resumable"]
        with socket(server, id_) as connection:
            say(connection, "resume", after=last)
            assert hear(connection)[0]["error"]["code"] == "no_generation"
    assert server.get(f"/v1/sessions/{server.session('words')}/events?after=0", 409)["error"]["code"] == "no_generation"


def test_events_that_are_not_kept_are_not_invented(server: Server) -> None:
    id_ = server.session("words")
    sse(server, id_, "generate", max_tokens=3000, seed=1)
    assert server.get(f"/v1/sessions/{id_}/events?after=3", 409)["error"]["code"] == "no_generation"
    assert server.get(f"/v1/sessions/{id_}/events?after=3001", 409)["error"]["code"] == "no_generation"
    assert [one["position"] for one in resumed(server, id_, 2500, 9999, "header")][:-1] == list(range(2501, 3001))
    for wrong in ("", "x", "-1", "1.5", "9" * 16):
        assert server.get(f"/v1/sessions/{id_}/events", 422, headers={"last-event-id": wrong})["error"][
            "code"
        ] == "invalid"  # fmt: skip


def test_a_socket_stops_refuses_and_goes_on(server: Server, runs: dict[str, Path]) -> None:
    lm, id_ = loaded(runs["words"]), server.session("words")
    with socket(server, id_) as connection:
        say(connection, "stop")  # with nothing to stop
        say(connection, "generate", max_tokens=100_000, seed=3)
        first = [json.loads(connection.recv(20)) for _ in range(5)]
        for type_ in ("generate", "feed", "reset", "resume"):
            say(connection, type_, **{"feed": {"text": "a"}, "resume": {"after": 0}}.get(type_, {}))
        say(connection, "stop")
        events, refused = first, list[str]()
        while events[-1]["type"] != "done":
            event = json.loads(connection.recv(20))
            if event["type"] == "error":
                refused.append(event["error"]["code"])
            else:
                events.append(event)
        assert refused == ["busy"] * 4
        done = events.pop()
        assert done["finish_reason"] == "stopped"
        assert len(events) == len(done["tokens"]) < 100_000
        assert done["tokens"] == [one["token"] for one in events]
        assert done["text"] == lm.generate(max_tokens=len(events), seed=3)
        assert server.get(f"/v1/sessions/{id_}")["position"] == len(events)
        say(connection, "reset")
        assert hear(connection) == [{"type": "done", "position": 0}]
        assert state_of(server, id_) == started(lm).save()
        say(connection, "generate", max_tokens=9, seed=3)
        assert hear(connection)[-1]["text"] == lm.generate(max_tokens=9, seed=3)
        for message in ("{", "[]", "1", '{"type":1}', '{"type":"x"}', '{"type":"stop","x":1}', '{"type":"feed"}'):
            connection.send(message)
            assert hear(connection)[0]["error"]["code"] in ("bad_request", "invalid"), message
        connection.send(b"bytes")
        assert hear(connection)[0]["error"]["code"] == "invalid"
        say(connection, "feed", text="the dog")
        assert hear(connection)[-1]["position"] == 11


def test_a_session_has_one_owner(server: Server) -> None:
    id_ = server.session("words")
    with socket(server, id_) as connection:
        say(connection, "generate", max_tokens=100_000, seed=3)
        json.loads(connection.recv(20))
        assert server.get(f"/v1/sessions/{id_}")["generating"]
        for _ in range(2):  # a refusal does not free it
            for method, path, body in (
                ("POST", "/feed", {"text": "a"}), ("POST", "/generate", {}), ("POST", "/fork", None),
                ("GET", "/state", None), ("DELETE", "", None), ("POST", "/generate", {"stream": True}),
            ):  # fmt: skip
                response = server.http.request(method, f"/v1/sessions/{id_}{path}", json=body)
                assert (response.status_code, response.json()["error"]["code"]) == (409, "busy"), path
            assert server.http.put(f"/v1/sessions/{id_}/state", content=b"x").status_code == 409
        with socket(server, id_) as other:
            say(other, "feed", text="a")
            assert hear(other)[0]["error"]["code"] == "busy"
        say(connection, "stop")
        while json.loads(connection.recv(20))["type"] != "done":
            pass
    feed(server, id_, text="a")


def test_a_client_that_returns_takes_over_from_its_dead_connection(server: Server, runs: dict[str, Path]) -> None:
    id_, lm = server.session("words"), loaded(runs["words"])
    whole = list(steps(lm, started(lm), count=2000, sampler=Sampler(seed=3)))
    # One that reads nothing more, so that the server waits for it.
    with socket(server, id_, max_queue=1, close_timeout=0) as dead:
        say(dead, "generate", max_tokens=100_000, seed=3)
        last = json.loads(dead.recv(20))["position"]
        time.sleep(0.1)
        with socket(server, id_) as second:
            say(second, "resume", after=last)
            found = [json.loads(second.recv(20)) for _ in range(300)]
            assert [one["token"] for one in found] == [one.id for one in whole[last : last + 300]]
            third = resumed(server, id_, last + 300, 300, "header")
            assert [one["token"] for one in third] == [one.id for one in whole[last + 300 : last + 600]]
    with socket(server, id_) as again:
        say(again, "resume", after=last + 600)
        found = [json.loads(again.recv(20)) for _ in range(300)]
        assert [one["token"] for one in found] == [one.id for one in whole[last + 600 : last + 900]]


@pytest.mark.parametrize("by", ["websocket", "events"])
def test_a_connection_hears_that_another_goes_on(server: Server, by: str) -> None:
    id_, asked = server.session("words"), {"max_tokens": 100_000, "seed": 3}
    with ExitStack() as held:
        if by == "websocket":
            connection = held.enter_context(socket(server, id_))
            say(connection, "generate", **asked)
            heard = (json.loads(message) for message in connection)
        else:
            url = f"/v1/sessions/{id_}/generate"
            response = held.enter_context(server.http.stream("POST", url, json={**asked, "stream": True}))
            heard = (event for _, _, event in parsed(response.iter_lines()))
        assert [event["position"] for event, _ in zip(heard, range(50), strict=False)] == [*range(1, 51)]
        rest = held.enter_context(ThreadPoolExecutor(1)).submit(lambda: [*until_the_end(heard)])
        time.sleep(0.1)
        after = server.get(f"/v1/sessions/{id_}")["position"]
        found = resumed(server, id_, after, 300, "header")
        assert [event["position"] for event in found] == [*range(after + 1, after + 301)]
        *before, last = rest.result(timeout=20)
        assert (last["type"], last["error"]["code"]) == ("error", "taken_over")
        assert len(before) > 1


def until_the_end(events: Iterator[Any]) -> Iterator[Any]:
    for event in events:
        yield event
        if event["type"] in ("error", "done"):
            return


@contextmanager
def dead_events(server: Server, id_: str, max_tokens: int) -> Iterator[None]:
    """A client that asks for a stream, and takes what fits into the buffers."""
    body = json.dumps({"stream": True, "max_tokens": max_tokens, "seed": 3}).encode()
    with create_connection(("127.0.0.1", server.port)) as dead:
        dead.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
        head = f"POST /v1/sessions/{id_}/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        dead.sendall(head.encode() + body)
        dead.recv(1)
        time.sleep(1)
        yield


def test_it_takes_over_from_dead_events_too(server: Server, runs: dict[str, Path]) -> None:
    id_, lm = server.session("words"), loaded(runs["words"])
    with dead_events(server, id_, 100_000), socket(server, id_) as second:  # nothing that the buffers hold is lost
        say(second, "resume", after=0)
        found = [json.loads(second.recv(20))["token"] for _ in range(3000)]
    assert found == [one.id for one in steps(lm, started(lm), count=3000, sampler=Sampler(seed=3))]


def test_it_takes_over_where_only_the_last_event_does_not_fit(server: Server) -> None:
    def one(max_tokens: int) -> Any:
        id_ = server.session("words")
        with dead_events(server, id_, max_tokens), socket(server, id_) as second:
            say(second, "resume", after=0)
            *tokens, last = hear(second)
            return len(tokens), last.get("error"), last.get("finish_reason")

    counts = range(740, 1300, 70)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, counts)) == [(count, None, "length") for count in counts]


def test_a_stream_that_is_left_keeps_what_was_done(server: Server, runs: dict[str, Path]) -> None:
    lm, id_ = loaded(runs["words"]), server.session("words")
    interrupted(server, id_, 50, max_tokens=100_000, seed=3)
    about = server.get(f"/v1/sessions/{id_}")
    while about["generating"]:
        about = server.get(f"/v1/sessions/{id_}")
    state = started(lm)
    list(steps(lm, state, count=about["position"], sampler=Sampler(seed=3)))
    assert 50 <= about["position"] < 100_000
    assert state_of(server, id_) == state.save()
