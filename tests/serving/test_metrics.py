"""What ``/metrics`` counts."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from tests.serving.rig import Server, served
from tests.serving.test_streams import hear, interrupted, say
from tests.serving.test_streams import socket as socket_of


@pytest.fixture
def alone(runs: dict[str, Path], tmp_path: Path) -> Iterator[Server]:
    """A server that nobody else asks."""
    some = [runs[name] for name in ("words", "tagger")]
    with served(some, "--state-dir", tmp_path, "--in-memory", 2) as server:  # type: ignore[arg-type]
        yield server


def read(server: Server) -> dict[str, float]:
    """The samples, by name and labels."""
    response = server.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = dict[str, float]()
    for family in text_string_to_metric_families(response.text):
        assert family.documentation
        for name, labels, value, *_ in family.samples:
            found[" ".join([name, *labels.values()])] = value
    return found


def test_counts(alone: Server) -> None:
    new = read(alone)
    assert new["gatewise_running"] == new["gatewise_waiting"] == new["gatewise_tokens_written_total"] == 0
    ids = [alone.session("words") for _ in range(5)]
    alone.post(f"/v1/sessions/{ids[0]}/feed", {"text": "the dog ate it"})
    alone.post(f"/v1/sessions/{ids[0]}/generate", {"max_tokens": 7})
    alone.http.post(f"/v1/sessions/{ids[0]}/generate", json={"max_tokens": 9, "stream": True})
    alone.post("/v1/completions", {"model": "words", "prompt": "the dog", "max_tokens": 5, "n": 3})
    alone.post("/v1/completions", {"model": "words", "prompt": ""}, 422)
    alone.post("/v1/sessions/x/feed", {"text": "a"}, 404)
    alone.get("/nothing", 404)
    found = read(alone)
    assert found["gatewise_tokens_written_total"] == 7 + 9 + 3 * 5
    assert found["gatewise_inputs_read_total"] == 4 + 3 * 2
    assert found["gatewise_first_token_seconds_count"] == 5
    assert found["gatewise_between_tokens_seconds_count"] == 8 + 3 * 4
    assert found["gatewise_step_rows_count"] > 0
    assert found["gatewise_step_rows_sum"] >= 7 + 9 + 15
    assert (found["gatewise_sessions_held"], found["gatewise_sessions_spilled"]) == (2, 3)
    assert found["gatewise_running"] == found["gatewise_waiting"] == 0
    expected = {
        "/v1/sessions 201": 5, "/v1/sessions/{id}/feed 200": 1, "/v1/sessions/{id}/feed 404": 1,
        "/v1/sessions/{id}/generate 200": 2, "/v1/completions 200": 1, "/v1/completions 422": 1, "/metrics 200": 1,
    }  # fmt: skip
    for name, count in expected.items():
        assert found[f"gatewise_requests_total {name}"] == count, name
    assert sum(value for name, value in found.items() if name.startswith("gatewise_requests_total")) == 13
    assert "gatewise_requests_total /nothing 404" not in found


def test_what_runs(alone: Server) -> None:
    id_ = alone.session("words")
    with connect(f"{alone.url.replace('http', 'ws')}/v1/sessions/{id_}/ws", proxy=None, max_queue=None) as socket:
        socket.send(json.dumps({"type": "generate", "max_tokens": 100_000}))
        socket.recv(10)
        assert read(alone)["gatewise_running"] == 1
        socket.send(json.dumps({"type": "stop"}))
        while json.loads(socket.recv(10))["type"] != "done":
            pass
        assert read(alone)["gatewise_running"] == 0


def test_a_pause_is_not_between_two_tokens(alone: Server) -> None:
    id_ = alone.session("words")
    last = interrupted(alone, id_, 3, max_tokens=20_000)
    time.sleep(2.5)
    with socket_of(alone, id_) as connection:
        say(connection, "resume", after=last)
        connection.recv(10)
        say(connection, "stop")
        hear(connection)
    found = read(alone)
    assert found["gatewise_between_tokens_seconds_count"] > 3
    assert found["gatewise_between_tokens_seconds_bucket 2.0"] == found["gatewise_between_tokens_seconds_count"]
