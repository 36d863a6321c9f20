"""What the tests of the client share."""

import time
from collections.abc import Iterator

import pytest

from tests.client.fake import Fake, serving


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Fake()) as server:
        yield server


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client waits for; it does not."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    monkeypatch.delenv("GATEWISE_KEY", raising=False)
    return seconds
