"""Run folders of every task with drawn weights, and a server of all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.rig import Server, drawn_runs, served


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by the names of ``tests.serving.rig.NAMES``; tests do not change them."""
    return drawn_runs(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(runs: dict[str, Path]) -> Iterator[Server]:
    """A server of all of them."""
    with served(runs) as server:
        yield server
        assert server.process.poll() is None, server.stderr()
        assert server.end() == 0
        assert server.stderr() == ""
