"""Tokens per second of one session and of many, without streaming; and the time to a first token."""

import asyncio
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from benchmarks.serving.solo import Feed, Generate, Solo
from benchmarks.serving.wire import ask, connect, events, request

MANY, PROMPT = 64, 20


def tokens_per_second(port: int, run: Path, count: int, tokens: int, temperature: float) -> float:
    """Return how many tokens a second some sessions write together; check those of some of them.

    Args:
        port: of the server.
        run: the model.
        count: of sessions.
        tokens: that each writes with one request.
        temperature: 0 is greedy.
    """
    solo, rng = Solo(run), Random(count)
    prompts = [Feed(tuple(rng.randrange(len(solo.vocabulary)) for _ in range(PROMPT))) for _ in range(count)]

    async def together() -> tuple[float, list[list[int]]]:
        paths = list[str]()
        for prompt in prompts:
            paths.append("/v1/sessions/" + (await ask(port, "POST", "/v1/sessions", {})).json()["id"])
            await ask(port, "POST", f"{paths[-1]}/feed", prompt.body())
        began = time.perf_counter()
        answers = await asyncio.gather(
            *(ask(port, "POST", f"{path}/generate", Generate(tokens, k, temperature).body())
              for k, path in enumerate(paths))
        )  # fmt: skip
        took = time.perf_counter() - began
        for path in paths:
            await ask(port, "DELETE", path)
        return took, [answer.json()["tokens"] for answer in answers]

    took, found = asyncio.run(together())
    for k in {0, count // 2, count - 1}:
        state = solo.fresh()
        solo.do(state, prompts[k])
        if found[k] != solo.do(state, Generate(tokens, k, temperature)):
            raise AssertionError(f"session {k} of {count} wrote other tokens than on its own")
    return count * tokens / took


def first_tokens(port: int, run: Path, turns: int) -> tuple[list[float], list[float]]:
    """Return the seconds to a first token from an idle server, and in this process, of the same prompts in turns.

    The server reads the prompt and streams; a connection is made for each, as a new client does.
    """
    solo, rng = Solo(run), Random(1)
    served, own = list[float](), list[float]()

    async def at_server(ids: list[int]) -> tuple[float, list[dict[str, Any]]]:
        body = {"model": name, "prompt": ids, "max_tokens": 2, "temperature": 0, "stream": True}
        connection = await connect(port, request("POST", "/v1/completions", body))
        await connection.ended
        return connection.reads[0][0] - connection.began, events(connection.answer().content)

    name = asyncio.run(ask(port, "GET", "/v1/models")).json()["data"][0]["id"]
    for turn in range(turns + 3):
        ids = [rng.randrange(len(solo.vocabulary)) for _ in range(PROMPT)]
        time.sleep(0.02)
        seconds, told = asyncio.run(at_server(ids))
        began = time.perf_counter()
        state = solo.fresh()
        solo.do(state, Feed(tuple(ids)))
        drawn = solo.do(state, Generate(1, 0, 0.0))
        took = time.perf_counter() - began
        drawn += solo.do(state, Generate(1, 0, 0.0))
        text = "".join(event["choices"][0]["text"] for event in told)
        if text.split() != solo.vocabulary.decode(drawn).split():
            raise AssertionError(f"the server wrote {text!r}")
        if turn >= 3:
            served.append(seconds)
            own.append(took)
    return served, own


def row(what: str, value: float, target: float, least: bool, unit: str, **more: Any) -> dict[str, Any]:
    """Return a row of the record."""
    return {"what": what, "value": value, "unit": unit, "target": target,
            "met": value >= target if least else value <= target, **more}  # fmt: skip


def together_row(one: list[float], many: list[float], how: str) -> dict[str, Any]:
    """Return the row of one session against many, the median of the turns."""
    ratios = [m / o for o, m in zip(one, many, strict=True)]
    return row(
        f"tokens per second, {MANY} sessions against one, {how}", median(ratios), 8, True, "times",
        range=[min(ratios), max(ratios)], one=median(one), many=median(many),
    )  # fmt: skip
