"""Sessions that step together give what each gives alone, to the last bit."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise import runtime
from gatewise.runtime.sampling import Sampler
from tests.serving.reference import loaded, started, steps
from tests.serving.rig import LANGUAGE, Server, served
from tests.serving.test_sessions import feed, generate, state_of
from tests.serving.test_streams import sse

MANY = 64


def plans() -> list[dict[str, Any]]:
    """What each of many clients does."""
    draw, found = np.random.default_rng(11), list[dict[str, Any]]()
    for k in range(MANY):
        name = LANGUAGE[int(draw.integers(0, len(LANGUAGE)))]
        ids = draw.integers(0, 9, int(draw.choice([1, 3, 40, 700]))).tolist()
        options: dict[str, Any] = [{}, {"temperature": 0.5}, {"top_k": 4}, {"top_p": 0.7}, {"temperature": 0}][k % 5]
        found.append({"model": name, "ids": ids, "max_tokens": int(draw.choice([1, 30, 200])), "seed": k, **options})
    return found


def do(server: Server, plan: dict[str, Any]) -> Any:
    """Feed and generate, in one of four ways; return the tokens and the state."""
    plan = dict(plan)
    name, ids, way = plan.pop("model"), plan.pop("ids"), plan["seed"] % 4
    id_ = server.session(name)
    if way < 2:
        assert feed(server, id_, tokens=ids)["tokens"] == ids
        found = generate(server, id_, **plan)
    else:
        options = {"gates": way == 3, "top": way}
        read = sse(server, id_, "feed", tokens=ids, **options)
        assert [one["token"] for one in read[:-1]] == ids
        *events, found = sse(server, id_, "generate", **plan, **options)
        assert [one["token"] for one in events] == found["tokens"]
        assert "".join(one["text"] for one in events) == found["text"]
    return found["tokens"], found["position"], state_of(server, id_)


def alone(lm: Any, plan: dict[str, Any]) -> Any:
    state = started(lm)
    lm.read(plan["ids"], state)
    options = {name: plan[name] for name in ("temperature", "top_k", "top_p", "seed") if name in plan}
    tokens = [one.id for one in steps(lm, state, count=plan["max_tokens"], sampler=Sampler(**options))]
    return tokens, len(plan["ids"]) + len(tokens), state.save()


@pytest.mark.parametrize("weights", ["fp32", "int8", "bf16"])
def test_many_sessions_give_what_each_gives_alone(runs: dict[str, Path], weights: str) -> None:
    some = {name: runs[name] for name in LANGUAGE}
    models = {name: runtime.load(run, weights) for name, run in some.items()}
    expected = [alone(models[plan["model"]], plan) for plan in plans()]
    with served(some, "--weights", weights) as server, ThreadPoolExecutor(MANY) as pool:
        assert list(pool.map(lambda plan: do(server, plan), plans())) == expected
        if weights == "fp32":
            metrics = server.http.get("/metrics").text
            below = {line.split('le="')[1].split('"')[0]: float(line.split()[-1]) for line in metrics.splitlines()
                     if line.startswith("gatewise_step_rows_bucket")}  # fmt: skip
            assert below["+Inf"] > below["1.0"], "all steps had one row: nothing was batched"
        assert server.stderr() == ""


def test_one_that_fails_fails_alone(server: Server, runs: dict[str, Path]) -> None:
    model = loaded(runs["regressor"])
    given = [[1000.0, 2.0, -3.0]] * 30
    state = started(model)
    expected = model.read_each([np.array(given)], [state])[0].tolist()

    def one(k: int) -> Any:
        id_ = server.session("regressor")
        rows = given if k % 3 else [*given[:-1], [1e300, 2.0, -3.0]]
        response = server.http.post(f"/v1/sessions/{id_}/feed", json={"inputs": rows, "stream": k % 2 == 1})
        return k % 3, response, state_of(server, id_)

    with ThreadPoolExecutor(24) as pool:
        for fits, response, saved in pool.map(one, range(24)):
            if fits:
                assert response.status_code == 200 and saved == state.save()
                assert str(expected[0]) in response.text
            elif response.headers["content-type"] == "application/json":
                assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid")
                assert saved == started(model).save()
            else:
                assert '"type":"error"' in response.text


@pytest.mark.parametrize("name", LANGUAGE)
def test_events_show_what_they_show_alone(server: Server, name: str) -> None:
    """Also the probabilities, whose sums are those that drawing needed for some numbers of rows only."""
    options: list[dict[str, Any]] = [{}, {}, {"temperature": 0.5}, {"top_k": 4}, {"top": 3}, {"gates": True}]

    def events(k: int) -> list[Any]:
        id_ = server.session(name)
        read = sse(server, id_, "feed", tokens=[k % 9, 1, 2], top=k % 2)
        return read + sse(server, id_, "generate", max_tokens=120, seed=k, **options[k % len(options)])

    expected = [events(k) for k in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(events, range(16))) == expected
