"""Generations that were dropped or stopped are gone on with alike, whatever happened to the session meanwhile."""

from pathlib import Path

import pytest

from tests.serving.rig import Server, served
from tests.serving.test_streams import hear, interrupted, say, socket

LONG = {"max_tokens": 30_000, "seed": 3}


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
