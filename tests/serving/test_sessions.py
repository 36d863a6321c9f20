"""Sessions carry their state: fed in any pieces, forked, saved, written to, they are what the runtime's state is."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.runtime.answers import softmax
from gatewise.runtime.sampling import Sampler
from tests.runtime.rig import CASES, inputs_of
from tests.serving.reference import loaded, started, steps
from tests.serving.rig import LANGUAGE, NAMES, STREAMED, Server

TEXT = "the dog ate it xyzzy read the book"


def state_of(server: Server, id_: str) -> bytes:
    response = server.http.get(f"/v1/sessions/{id_}/state")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    return response.content


def put(server: Server, id_: str, content: bytes) -> Any:
    response = server.http.put(f"/v1/sessions/{id_}/state", content=content)
    assert response.status_code == 200, response.text
    return response.json()


def feed(server: Server, id_: str, **body: Any) -> Any:
    return server.post(f"/v1/sessions/{id_}/feed", body)


def generate(server: Server, id_: str, **body: Any) -> Any:
    return server.post(f"/v1/sessions/{id_}/generate", body)


@pytest.mark.parametrize("name", STREAMED)
def test_a_new_session_has_read_nothing(server: Server, runs: dict[str, Path], name: str) -> None:
    made = server.post("/v1/sessions", {"model": name}, 201)
    assert made == {"id": made["id"], "model": name, "position": 0}
    assert len(made["id"]) >= 22
    assert server.get(f"/v1/sessions/{made['id']}") == {**made, "generating": False, "resumable": False}
    assert state_of(server, made["id"]) == started(loaded(runs[name])).save()
    response = server.http.delete(f"/v1/sessions/{made['id']}")
    assert (response.status_code, response.content) == (204, b"")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/state"), ("POST", "/fork"), ("GET", "/events?after=0")):
        gone = server.http.request(method, f"/v1/sessions/{made['id']}{path}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "no_session"), path


@pytest.mark.parametrize("name", LANGUAGE)
def test_feed_and_generate_continue_as_generate_does(server: Server, runs: dict[str, Path], name: str) -> None:
    lm = loaded(runs[name])
    ends = 0
    for seed, options in enumerate([{}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.6, "temperature": 1.4},
                                    {"temperature": 9.0}, {"temperature": 9.0}]):  # fmt: skip
        id_, own = server.session(name), started(lm)
        ids = lm.vocabulary.encode_line(TEXT)[:-1]
        assert feed(server, id_, text=TEXT) == {"tokens": ids, "position": len(ids)}
        lm.read(ids, own)
        assert state_of(server, id_) == own.save()
        found = generate(server, id_, max_tokens=30, seed=seed, **options)
        assert TEXT + found["text"] == lm.generate(TEXT, max_tokens=30, seed=seed, **options)
        tokens = list(steps(lm, own, count=30, sampler=Sampler(**options, seed=seed), fresh_line=False))
        assert found == {
            "text": "".join(one.text for one in tokens), "tokens": [one.id for one in tokens],
            "position": len(ids) + 30, "seed": seed,
        }  # fmt: skip
        assert state_of(server, id_) == own.save()
        more = generate(server, id_, max_tokens=7, seed=4)
        ends += sum(one.id == lm.vocabulary.eos_id for one in tokens[:-1])
        fresh = tokens[-1].text == "\n"
        again = list(steps(lm, own, count=7, sampler=Sampler(seed=4), fresh_line=fresh))
        assert more["text"] == "".join(one.text for one in again)
        assert more["position"] == len(ids) + 37
        assert state_of(server, id_) == own.save()
    assert ends, "no line ended"


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_new_text(server: Server, runs: dict[str, Path], name: str) -> None:
    id_ = server.session(name)
    found = generate(server, id_, max_tokens=20, seed=6)
    assert found["text"] == loaded(runs[name]).generate(max_tokens=20, seed=6)
    drawn = generate(server, server.session(name), max_tokens=20)
    assert drawn["text"] == loaded(runs[name]).generate(max_tokens=20, seed=drawn["seed"])
    assert drawn["seed"] != generate(server, server.session(name), max_tokens=20)["seed"]


@pytest.mark.parametrize("name", STREAMED)
def test_feed_in_any_pieces_is_feed_at_once(server: Server, runs: dict[str, Path], name: str) -> None:
    model, draw = loaded(runs[name]), np.random.default_rng(3)
    inputs = inputs_of(CASES[NAMES[name]], 40)
    field = "tokens" if name in LANGUAGE else "words" if isinstance(inputs, list) else "inputs"
    given = inputs if isinstance(inputs, list) else inputs.tolist()
    own = started(model)
    outputs = model.read_each([inputs], [own])[0]
    at_once, in_pieces = server.session(name), server.session(name)
    last = feed(server, at_once, **{field: given})
    places = [0, *sorted(draw.choice(np.arange(1, 40), 6, replace=False).tolist()), 40]
    for start, end in itertools.pairwise(places):
        found = feed(server, in_pieces, **{field: given[start:end]})
        assert found["position"] == end
    assert state_of(server, at_once) == state_of(server, in_pieces) == own.save()
    if name == "tagger":
        assert last["tags"][-len(found["tags"]) :] == found["tags"]
        one = started(model)
        assert last["tags"] == [model.tags[int(model.step([word], [one])[0].argmax())] for word in given]
        del last["tags"], found["tags"]
    if name in LANGUAGE:
        assert last == {"tokens": given, "position": 40}
        return
    assert found == last
    del last["position"]
    if "probabilities" in last:
        p = softmax(outputs)
        assert last == {
            "label": model.labels[int(p.argmax())],
            "probabilities": {str(label): float(q) for label, q in zip(model.labels, p, strict=True)},
        }
    elif name != "tagger":
        assert last == {"prediction": outputs.tolist()}


def test_feed_of_text_by_taggers_and_classifiers(server: Server, runs: dict[str, Path]) -> None:
    text = "the dog\nate  it"
    tagger, words = server.session("tagger"), server.session("tagger")
    assert feed(server, tagger, text=text) == feed(server, words, words=["the", "dog", "ate", "it"])
    assert state_of(server, tagger) == state_of(server, words)
    classifier, split = server.session("text"), server.session("text")
    assert feed(server, classifier, text=text) == feed(server, split, words=loaded(runs["text"]).split(text))


def test_a_sentence_model_begins_anew_with_each_sentence(server: Server, runs: dict[str, Path]) -> None:
    lm, id_ = loaded(runs["sentences"]), server.session("sentences")
    feed(server, id_, text="the dog ate it")
    assert feed(server, id_, text="the book! it read")["tokens"] == lm.vocabulary.encode_line("it read")[:-1]
    found = generate(server, id_, max_tokens=9, seed=1)
    assert "it read" + found["text"] == lm.generate("it read", max_tokens=9, seed=1)


@pytest.mark.parametrize("name", STREAMED)
def test_forks_and_saved_states_go_on_alike(server: Server, runs: dict[str, Path], name: str) -> None:
    model, inputs = loaded(runs[name]), inputs_of(CASES[NAMES[name]], 20)
    field = "tokens" if name in LANGUAGE else "words" if isinstance(inputs, list) else "inputs"
    given = inputs if isinstance(inputs, list) else inputs.tolist()
    id_ = server.session(name)
    feed(server, id_, **{field: given[:11]})
    fork = server.post(f"/v1/sessions/{id_}/fork", status=201)
    assert fork == {"id": fork["id"], "model": name, "position": 11}
    saved = state_of(server, id_)
    assert model.load_state(saved).save() == saved == state_of(server, fork["id"])
    feed(server, id_, **{field: given[11:]})
    assert state_of(server, fork["id"]) == saved != state_of(server, id_)
    other = server.session(name)
    assert put(server, other, saved) == {"position": 11}
    assert server.get(f"/v1/sessions/{other}")["position"] == 11
    for one in (fork["id"], other):
        feed(server, one, **{field: given[11:]})
        assert state_of(server, one) == state_of(server, id_)
    assert put(server, other, started(model).save()) == {"position": 0}
    if name in LANGUAGE:
        assert generate(server, other, max_tokens=5, seed=2)["text"] == model.generate(max_tokens=5, seed=2)
        assert generate(server, fork["id"], seed=3) == generate(server, id_, seed=3)


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_state_that_was_put_goes_on_with_a_separator(server: Server, runs: dict[str, Path], name: str) -> None:
    lm, state = loaded(runs[name]), started(loaded(runs[name]))
    lm.read(lm.vocabulary.encode_line(TEXT)[:-1], state)
    id_ = server.session(name)
    put(server, id_, state.save())
    assert TEXT + generate(server, id_, max_tokens=9, seed=1)["text"] == lm.generate(TEXT, max_tokens=9, seed=1)


def test_states_that_do_not_fit_change_nothing(server: Server) -> None:
    id_, other = server.session("words"), server.session("relu")
    feed(server, id_, text=TEXT)
    before, foreign = state_of(server, id_), state_of(server, other)
    nan = np.float32(np.nan).tobytes()
    damaged = [before[:-1], before + b"\0", b"", b"\0" * 8, foreign, before[:8] + b"[" + before[9:], before[:-4] + nan]
    damaged += [before[:-24] + nan * 6, before[:7] + b"\x01" + before[8:], before.replace(b"gatewise", b"gatewiss")]
    damaged += [before[:size] for size in range(0, len(before), 31)]
    assert before not in damaged
    for content in damaged:
        response = server.http.put(f"/v1/sessions/{id_}/state", content=content)
        assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid"), content
        assert state_of(server, id_) == before
    assert server.get(f"/v1/sessions/{id_}")["position"] == 8


def test_which_model_is_meant(server: Server, runs: dict[str, Path]) -> None:
    assert server.post("/v1/sessions", {}, 422)["error"]["message"].startswith("the body names no model; expected one")
    none = server.post("/v1/sessions", {"model": "nothing"}, 404)["error"]
    assert none["code"] == "no_model" and "'words'" in none["message"]
    both = server.post("/v1/sessions", {"model": "crf"}, 422)["error"]
    wanted = "a model that streams (in one direction, not relative to the last value)"
    assert both == {"code": "invalid", "message": f"'crf' is a tagger; expected {wanted}"}
    for name, wrong in (("n", 2.5), ("max_tokens", 1e300)):
        found = server.post("/v1/completions", {"model": "words", "prompt": "the", name: wrong}, 422)["error"][
            "message"
        ]
        assert found.startswith(f"{name} is {wrong!r}; expected "), found
    assert "expected a language model" in server.post("/v1/score", {"model": "crf", "texts": ["a"]}, 422)["error"][
        "message"
    ]  # fmt: skip
    for refused in ("tagger", "text", "regressor"):
        id_ = server.session(refused)
        message = server.post(f"/v1/sessions/{id_}/generate", {}, 422)["error"]["message"]
        assert "expected a language model" in message
