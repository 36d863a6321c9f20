"""Generations that were dropped or stopped are gone on with alike, whatever happened to the session meanwhile."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.serving.rig import Server, served
from tests.serving.test_streams import checked, hear, interrupted, parsed, say, socket

LONG = {"max_tokens": 30_000, "seed": 3}


def quiet(server: Server, id_: str) -> Any:
    """What the server says of a session that nobody owns any more."""
    while (about := server.get(f"/v1/sessions/{id_}"))["generating"]:
        time.sleep(0.002)
    return about


@pytest.mark.parametrize("route", ["generate", "resume"])
def test_a_stop_that_comes_with_the_request_ends_it(server: Server, route: str) -> None:
    """The server may read both messages before it has begun with the first."""
    for _ in range(5):
        id_ = server.session("words")
        last = interrupted(server, id_, 3, **LONG) if route == "resume" else 0
        with socket(server, id_) as connection:
            say(connection, route, **({"after": last} if route == "resume" else LONG))
            say(connection, "stop")
            assert hear(connection)[-1]["finish_reason"] == "stopped"
            say(connection, "generate", max_tokens=5)  # which that stop is not for
            assert hear(connection)[-1]["finish_reason"] == "length"


def test_a_stopped_generation_stays_so(runs: dict[str, Path], tmp_path: Path) -> None:
    with served([runs["words"]], "--state-dir", tmp_path) as server:
        id_ = server.session("words")
        with socket(server, id_) as connection:
            say(connection, "generate", **LONG)
            connection.recv(20)
            say(connection, "stop")
            done = hear(connection)[-1]
            assert done["finish_reason"] == "stopped"
        assert server.end() == 0
    with served([runs["words"]], "--state-dir", tmp_path) as server, socket(server, id_) as connection:
        say(connection, "resume", after=done["position"])
        assert hear(connection) == [done]


@pytest.mark.parametrize("by", ["memory", "SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("count", [40, 30_000])
def test_what_a_dropped_connection_did_not_bring_is_kept(
    runs: dict[str, Path], tmp_path: Path, by: str, count: int
) -> None:
    """Also where the session leaves the memory, or the server ends, before the client is back."""
    options = ("--state-dir", tmp_path, "--in-memory", "1")
    with served([runs["words"]], *options) as server:
        for _ in range(50):  # until it is ahead of what arrived
            id_ = server.session("words")
            last = interrupted(server, id_, 2, max_tokens=count, seed=3, gates=True, top=1)
            about = quiet(server, id_)
            if about["position"] > last:
                break
        assert about["resumable"] and about["position"] > last
        if by == "memory":
            server.session("words")
            check_goes_on(server, id_, last, count)
        elif by == "SIGTERM":
            assert server.end() == 0
        else:
            server.process.kill()
    if by != "memory":
        with served([runs["words"]], *options) as server:
            check_goes_on(server, id_, last, count)


def check_goes_on(server: Server, id_: str, last: int, count: int) -> None:
    most = min(count - last, 500)
    with server.http.stream("GET", f"/v1/sessions/{id_}/events?after={last}") as response:
        assert response.status_code == 200, response.read()
        some = zip(parsed(response.iter_lines()), range(most), strict=False)
        found = checked(event for event, _ in some)
    other = server.session("words")
    with socket(server, other) as connection:
        say(connection, "generate", max_tokens=count, seed=3, gates=True, top=1)
        expected = [json.loads(connection.recv(20)) for _ in range(last + most)]
    assert found == expected[last:]


def test_a_session_that_was_only_read_has_been_used(runs: dict[str, Path], tmp_path: Path) -> None:
    """Its file is older than its last use, which counts after a restart, too."""
    with served([runs["words"]], "--state-dir", tmp_path) as server:
        id_ = server.session("words")
        long_ago = time.time() - 7000
        os.utime(tmp_path / f"{id_}.session", (long_ago, long_ago))
        server.get(f"/v1/sessions/{id_}/state")
        assert server.end() == 0
    with served([runs["words"]], "--state-dir", tmp_path, "--ttl", "3600") as server:
        server.get(f"/v1/sessions/{id_}")
