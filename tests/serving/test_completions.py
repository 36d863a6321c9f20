"""``/v1/completions`` writes what ``generate`` writes."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.runtime.generation import read_first
from gatewise.runtime.sampling import Sampler
from tests.serving.reference import loaded, started, steps
from tests.serving.rig import LANGUAGE, Server

OPTIONS: list[dict[str, Any]] = [
    {"seed": 1},
    {"temperature": 0},
    {"seed": 2**63 - 1, "top_k": 3, "temperature": 0.7},
    {"seed": 7, "top_p": 0.8},
    {"seed": 8, "top_k": 5, "top_p": 0.5, "temperature": 1.5},
]
PROMPTS = ["the dog", "it ate! the", "xyzzy\nread it"]


def complete(server: Server, model: str, **body: Any) -> Any:
    return server.post("/v1/completions", {"model": model, **body})


def events(server: Server, **body: Any) -> list[Any]:
    """What a streamed completion says, without the last [DONE]."""
    response = server.http.post("/v1/completions", json={**body, "stream": True})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *found, done, nothing = response.text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    assert all(one.startswith("data: ") and "\n" not in one for one in found)
    return [json.loads(one.removeprefix("data: ")) for one in found]


@pytest.mark.parametrize("name", LANGUAGE)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_text_is_that_of_generate(server: Server, runs: dict[str, Path], name: str, options: dict[str, Any]) -> None:
    lm = loaded(runs[name])
    for prompt in PROMPTS:
        whole = lm.generate(prompt, max_tokens=20, **options)
        found = complete(server, name, prompt=prompt, max_tokens=20, **options)
        assert prompt + found["choices"][0]["text"] == whole
        assert (found["object"], found["model"]) == ("text_completion", name)
        [choice] = found["choices"]
        assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")
        read = len(read_first(lm.vocabulary, prompt)) - 1
        assert found["usage"] == {"prompt_tokens": read, "completion_tokens": 20, "total_tokens": read + 20}
        echoed = complete(server, name, prompt=prompt, max_tokens=20, echo=True, **options)
        assert echoed["choices"][0]["text"] == whole
        streamed = events(server, model=name, prompt=prompt, max_tokens=20, echo=True, **options)
        assert "".join(one["choices"][0]["text"] for one in streamed) == whole
        assert [one["choices"][0]["finish_reason"] for one in streamed] == [None] * (len(streamed) - 1) + ["length"]
        assert len({one["id"] for one in streamed}) == 1
    new = complete(server, name, max_tokens=20, **options)
    assert new["choices"][0]["text"] == lm.generate(None, max_tokens=20, **options)
    assert new["usage"]["prompt_tokens"] == 0


@pytest.mark.parametrize("prompt", ["the dog ", "the dog  \t"])
def test_white_space_after_the_prompt_separates(server: Server, runs: dict[str, Path], prompt: str) -> None:
    lm = loaded(runs["words"])
    for seed in range(5):
        whole = lm.generate(prompt, max_tokens=3, seed=seed)
        found = complete(server, "words", prompt=prompt, max_tokens=3, seed=seed)["choices"][0]["text"]
        assert prompt.rstrip() + (found if found[0] == "\n" else f" {found}") == whole


def test_a_line_that_was_ended_needs_no_separator(server: Server, runs: dict[str, Path]) -> None:
    lm = loaded(runs["words"])
    text = complete(server, "words", prompt="the dog\n", max_tokens=3, seed=3)["choices"][0]["text"]
    assert "the dog" + ("" if text[0] == "\n" else " ") + text == lm.generate("the dog\n", max_tokens=3, seed=3)


def test_several_prompts_and_continuations(server: Server, runs: dict[str, Path]) -> None:
    lm = loaded(runs["words"])
    found = complete(server, "words", prompt=PROMPTS, n=3, seed=5, max_tokens=9)
    assert [one["index"] for one in found["choices"]] == list(range(9))
    for k, choice in enumerate(found["choices"]):
        prompt = PROMPTS[k // 3]
        assert prompt + choice["text"] == lm.generate(prompt, seed=5 + k % 3, max_tokens=9)
    reads = [len(read_first(lm.vocabulary, prompt)) - 1 for prompt in PROMPTS]
    assert found["usage"] == {
        "prompt_tokens": 3 * sum(reads), "completion_tokens": 81, "total_tokens": 81 + 3 * sum(reads)
    }  # fmt: skip
    texts = [""] * 9
    for one in events(server, model="words", prompt=PROMPTS, n=3, seed=5, max_tokens=9):
        [piece] = one["choices"]
        texts[piece["index"]] += piece["text"]
    assert texts == [one["text"] for one in found["choices"]]
    unseeded = complete(server, "words", n=8, max_tokens=30)
    assert len({one["text"] for one in unseeded["choices"]}) == 8


@pytest.mark.parametrize("name", LANGUAGE)
def test_token_ids(server: Server, runs: dict[str, Path], name: str) -> None:
    vocabulary = loaded(runs[name]).vocabulary
    prompt = "the dog ate"
    ids = vocabulary.encode_line(prompt)[:-1]
    by_text = complete(server, name, prompt=prompt, max_tokens=9, seed=4, logprobs=2)
    by_ids = complete(server, name, prompt=ids, max_tokens=9, seed=4, logprobs=2)
    assert by_ids["choices"] == by_text["choices"]
    several = complete(server, name, prompt=[ids, ids[:1]], max_tokens=9, seed=4, logprobs=2)
    assert several["choices"][0] == by_text["choices"][0]
    echoed = complete(server, name, prompt=ids, max_tokens=9, seed=4, echo=True)["choices"][0]["text"]
    assert echoed == vocabulary.decode(ids) + by_text["choices"][0]["text"]
    assert complete(server, name, prompt=[1.0, 2.0], max_tokens=1, seed=1)["usage"]["prompt_tokens"] == 2


def cut(text: str, stop: list[str]) -> tuple[str, str]:
    """A text up to the first stop, and why it ends."""
    ends = [at for at in (text.find(one) for one in stop) if at >= 0]
    return (text[: min(ends)], "stop") if ends else (text, "length")


@pytest.mark.parametrize("name", ["words", "letters", "sentences"])
def test_stops(server: Server, runs: dict[str, Path], name: str) -> None:
    lm, draw, prompt = loaded(runs[name]), np.random.default_rng(5), "the dog"
    stopped = 0
    for seed in range(25):
        text = lm.generate(prompt, max_tokens=15, seed=seed)[len(prompt) :]
        at, size = int(draw.integers(0, len(text))), int(draw.integers(1, 12))
        stop = [text[at : at + size], text[at + 1 : at + 3] + "\x00", "no such text"][: 1 + seed % 3]
        given: Any = stop[0] if seed % 2 and len(stop) == 1 else stop
        body = {"prompt": prompt, "max_tokens": 15, "seed": seed, "stop": given}
        [choice] = complete(server, name, **body)["choices"]
        assert (choice["text"], choice["finish_reason"]) == cut(text, stop), (text, stop)
        pieces = events(server, model=name, **body)
        assert "".join(one["choices"][0]["text"] for one in pieces) == cut(text, stop)[0], (text, stop)
        assert pieces[-1]["choices"][0]["finish_reason"] == cut(text, stop)[1]
        stopped += choice["finish_reason"] == "stop"
    assert stopped == 25
    found = complete(server, name, prompt=prompt, max_tokens=15, seed=1, stop=["\x00", "no such text"])["choices"][0]
    assert found["finish_reason"] == "length"
    one = complete(server, name, prompt=prompt, max_tokens=15, seed=1, stop="no such text")["choices"][0]
    assert one == found
    assert complete(server, name, prompt=prompt, max_tokens=15, seed=1, stop=None)["choices"][0] == found
    assert complete(server, name, prompt=prompt, max_tokens=15, seed=1, stop=[])["choices"][0] == found


def test_what_was_written_ends_with_the_stop(server: Server, runs: dict[str, Path]) -> None:
    lm = loaded(runs["words"])
    state, tokens = started(lm), list[str]()
    lm.read(lm.vocabulary.encode_line("the")[:-1], state)
    for token in steps(lm, state, count=30, sampler=Sampler(seed=2), fresh_line=False):
        tokens.append(token.text)
    stop = tokens[6].strip() or "\n"
    found = complete(server, "words", prompt="the", seed=2, max_tokens=30, stop=stop)
    first = next(k for k in range(30) if stop in "".join(tokens[: k + 1]))
    assert found["usage"]["completion_tokens"] == first + 1


@pytest.mark.parametrize("name", LANGUAGE)
def test_log_probabilities(server: Server, runs: dict[str, Path], name: str) -> None:
    lm = loaded(runs[name])
    state = started(lm)
    lm.read(lm.vocabulary.encode_line("the dog")[:-1], state)
    body = {"prompt": "the dog", "seed": 3, "max_tokens": 25, "temperature": 1.3, "top_k": 7}
    [choice] = complete(server, name, **body, logprobs=4)["choices"]
    about = choice["logprobs"]
    assert "".join(about["tokens"]) == choice["text"]
    assert about["text_offset"] == [len("".join(about["tokens"][:k])) for k in range(25)]
    fresh = False
    sampler = Sampler(1.3, 7, None, 3)
    for k, token in enumerate(steps(lm, state, count=25, sampler=sampler, fresh_line=False)):
        assert about["tokens"][k] == token.text
        assert about["token_logprobs"][k] == pytest.approx(math.log(token.p[token.id]), rel=0, abs=1e-6)
        top = about["top_logprobs"][k]
        eos, before = lm.vocabulary.eos_id, "" if fresh else lm.vocabulary.separator
        best = np.argsort(-token.p, kind="stable")[:4].tolist()
        named = {"\n" if t == eos else before + lm.vocabulary.tokens[t]: math.log(token.p[t]) for t in best}
        named[token.text] = math.log(token.p[token.id])
        assert top == pytest.approx(named, rel=0, abs=1e-6)
        fresh = token.id == eos
    assert k == 24
    [echoed] = complete(server, name, **body, logprobs=4, echo=True)["choices"]
    assert echoed["logprobs"]["text_offset"] == [7 + offset for offset in about["text_offset"]]
    [bare] = complete(server, name, **body, logprobs=0)["choices"]
    assert bare["logprobs"] == {**about, "top_logprobs": None}
    pieces = events(server, model=name, **body, logprobs=4)
    for field in about:
        assert [x for one in pieces for x in one["choices"][0]["logprobs"][field]] == about[field]


def test_usage_of_a_stream(server: Server) -> None:
    body = {"model": "words", "prompt": ["the", "it ate"], "max_tokens": 5, "seed": 1}
    plain = complete(server, **{**body, "n": 2})
    *pieces, last = events(server, **body, n=2, stream_options={"include_usage": True})
    assert last["choices"] == [] and last["usage"] == plain["usage"]
    assert not any("usage" in one for one in pieces)
    assert all(one["choices"] for one in events(server, **body, stream_options={"include_usage": False}))


def test_null_stands_for_the_default(server: Server) -> None:
    """Some of OpenAI's clients send it for what is left out."""
    given = {"model": "words", "prompt": "the dog", "seed": 3}
    names = ("max_tokens", "temperature", "top_k", "top_p", "n", "stop", "logprobs", "echo", "stream", "stream_options")
    expected = server.post("/v1/completions", given)["choices"]
    assert server.post("/v1/completions", {**given, **dict.fromkeys(names)})["choices"] == expected
    server.post("/v1/completions", {"model": "words", "seed": None})
    for name in ("model", "user"):
        server.post("/v1/completions", {**given, name: None}, 422)
