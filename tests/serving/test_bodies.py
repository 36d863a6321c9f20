"""Large bodies are read beside the event loop, so that no stream waits for them."""

import asyncio
import json
import threading
from typing import Any

import pytest

pytest.importorskip("fastjsonschema")

from starlette.requests import Request

from gatewise.serving import bodies, schemas
from gatewise.serving.operations import size_of


@pytest.mark.parametrize(("text", "apart"), [("the dog", False), ("the dog " * 4000, True)], ids=["small", "large"])
def test_a_large_body_is_parsed_in_a_thread(monkeypatch: pytest.MonkeyPatch, text: str, apart: bool) -> None:
    where = list[threading.Thread]()
    parse = bodies.parse

    def watched(content: bytes | str) -> Any:
        where.append(threading.current_thread())
        return parse(content)

    monkeypatch.setattr(bodies, "parse", watched)

    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps({"text": text}).encode()}

    found = asyncio.run(bodies.read_json(Request({"type": "http", "headers": []}, receive), schemas.TAG))
    assert found["text"] == text
    assert [one is not threading.main_thread() for one in where] == [apart]


def test_how_much_a_body_asks_to_read() -> None:
    assert size_of({"text": "abc", "top": 5, "gates": True, "seed": None}) == 3
    assert size_of({"tokens": [1, 2, 3, 4]}) == 4
    assert size_of({"words": ["the", "dog"]}) == 6
    assert size_of({"prompt": [[1, 2], [3]], "stop": []}) == 3
    assert size_of({"inputs": [[0.5, 1.0], [1.0, 2.0]]}) == 4
