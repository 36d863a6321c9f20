"""Large bodies are read, and large answers written, beside the event loop: the streams of others go on."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gatewise.serving.answer_routes import _json
from gatewise.serving.bodies import beside
from gatewise.serving.settings import AT_ONCE
from tests.serving.rig import Server

LARGE = 900_000


@pytest.mark.parametrize("size", [AT_ONCE, AT_ONCE + 1])
def test_what_is_large_is_computed_in_a_thread(size: int) -> None:
    assert (asyncio.run(beside(size, threading.get_ident)) != threading.get_ident()) == (size > AT_ONCE)


@pytest.mark.parametrize("by", ["feed", "completions", "state"])
def test_others_do_not_wait_for_what_is_large(server: Server, by: str) -> None:
    text, session, method = "1. a. hello " * (LARGE // 12), f"/v1/sessions/{server.session('sentences')}", "POST"
    path, given, status = f"{session}/feed", {"json": {"text": text}}, 200
    if by == "completions":
        path, given = "/v1/completions", {"json": {"model": "sentences", "prompt": text}}
    elif by == "state":
        header = json.dumps({str(k): {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in range(600_000)})
        content = len(header).to_bytes(8, "little") + header.encode()
        path, given, status, method = f"{session}/state", {"content": content}, 422, "PUT"
    longest = 0.0
    with httpx.Client(base_url=server.url, trust_env=False) as other, ThreadPoolExecutor(1) as pool:
        began = time.perf_counter()
        large = pool.submit(server.http.request, method, path, **given)
        while not large.done():
            asked = time.perf_counter()
            other.get("/health").raise_for_status()
            longest = max(longest, time.perf_counter() - asked)
        took = time.perf_counter() - began
    assert large.result().status_code == status, large.result().text
    assert longest < took / 2


@pytest.mark.parametrize("value", [{}, [], [{}], {"é": [[k, None, "x"] for k in range(200)]}, [*range(65)], "\n", 1.5])
def test_long_answers_are_json(value: Any) -> None:
    assert json.loads(_json(value)) == value
    assert json.loads(_json({"a": value})) == {"a": value}
