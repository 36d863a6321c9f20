"""Sessions of the client, and streams whose connections are lost."""

import base64
from typing import Any

import numpy as np
import pytest

import gatewise as gw
from gatewise.client import session as sessions
from gatewise.client.replies import Step
from gatewise.errors import ServerError, UsageError
from tests.client.fake import MODEL, SESSION, Fake, Reply, S, done, events, refused, token

pytestmark = pytest.mark.usefixtures("waited")


def test_a_session_from_its_beginning_to_its_end(fake: Fake) -> None:
    fake.answers |= {
        f"POST {S}/feed": [Reply({"tokens": [7, 8], "position": 5})],
        f"POST {S}/generate": [Reply({"text": " of it", "tokens": [1, 2], "position": 7, "seed": 4})],
        f"POST {S}/fork": [Reply({"id": "s2", "model": "a model", "position": 7}, 201)],
        f"GET {S}/state": [Reply(b"\x00state")],
        f"PUT {S}/state": [Reply({"position": 2})],
    }
    with gw.Client(fake.url) as client, client.session(model="a model") as session:
        assert (session.id, session.model, session.position) == ("s/1", "a model", 3)
        answer = session.feed("the value")
        assert (answer.tokens, answer.position) == ([7, 8], 5)
        assert session.generate(max_tokens=2, seed=4) == " of it"
        assert session.fork().id == "s2"
        assert session.save() == b"\x00state"
        assert session.load(b"\x00state") == 2
    assert fake.routes()[-1] == f"DELETE {S}"
    put = fake.asked[-2]
    assert (put.content, put.headers["Content-Type"]) == (b"\x00state", "application/octet-stream")
    assert fake.asked[0].body == {"model": "a model"}


def test_a_session_that_exists(fake: Fake) -> None:
    assert gw.Client(fake.url).session(id="s/1").model == "a model"
    with pytest.raises(UsageError, match="either model or id"):
        gw.Client(fake.url).session("m", id="s/1")


def test_the_first_error_leaves_the_block(fake: Fake) -> None:
    fake.answers[f"DELETE {S}"] = [refused(500, "internal")]
    with pytest.raises(ZeroDivisionError), gw.Client(fake.url).session():
        _ = 1 / 0
    with pytest.raises(ServerError), gw.Client(fake.url).session():
        pass
    fake.answers[f"DELETE {S}"] = [refused(404, "no_session")]
    with gw.Client(fake.url).session():
        pass


@pytest.mark.parametrize(
    ("inputs", "sent"),
    [
        ("a text", {"text": "a text"}),
        (["a", "text"], {"words": ["a", "text"]}),
        ([3, 4], {"tokens": [3, 4]}),
        (np.array([3, 4]), {"tokens": [3, 4]}),
        ([[0.5, 1], [2, 3]], {"inputs": [[0.5, 1], [2, 3]]}),
        (np.ones((2, 1), np.float32), {"inputs": [[1.0], [1.0]]}),
        ([np.zeros(2), np.ones(2)], {"inputs": [[0.0, 0.0], [1.0, 1.0]]}),
    ],
)
def test_kinds_of_inputs(fake: Fake, inputs: Any, sent: Any) -> None:
    reply = {"position": 4, "label": 5, "probabilities": {"5": 1.0}, "tags": ["N"], "prediction": [2.5]}
    fake.answers[f"POST {S}/feed"] = [Reply(reply)]
    answer = gw.Client(fake.url).session().feed(inputs)
    assert fake.asked[-1].body == sent
    assert (answer.label, answer.probabilities, answer.tags, answer.prediction) == (5, {"5": 1.0}, ["N"], [2.5])


@pytest.mark.parametrize("inputs", [[], [1, "a"], [0.5, 1.0], 7, None, [True], b"ab", {"a": 1}, np.float32(2)])
def test_inputs_of_no_kind(fake: Fake, inputs: Any) -> None:
    with pytest.raises(UsageError, match="expected text, or a list of words, token ids or rows of numbers"):
        gw.Client(fake.url).session().feed(inputs)


def test_numbers_that_json_has_not(fake: Fake) -> None:
    with pytest.raises(UsageError, match=r"inputs: .*expected text, finite numbers"):
        gw.Client(fake.url).session().feed([[float("nan")]])
    assert fake.routes() == ["POST /v1/sessions"]


def test_tokens_with_their_gates(fake: Fake) -> None:
    content = bytes([0, 255, 51, 102, 0, 255, 51, 102])  # 2 arrays of 2 layers of 2 units
    first = token(4, "\u2028\x85 the", gates=base64.b64encode(content).decode(), top=[[" the", 0.5], [" a", 0.2]])
    fake.answers |= {
        "GET /v1/models/a%20model": [Reply(MODEL)],
        f"POST {S}/generate": [events(first, token(5, gates=base64.b64encode(content).decode()), done(5))],
    }
    one, two = gw.Client(fake.url).session().stream(max_tokens=2, seed=7, gates=True, top=2)
    assert (one.text, one.position, one.probability, one.read) == ("\u2028\x85 the", 4, 0.5, False)
    assert one.top == [(" the", 0.5), (" a", 0.2)]
    assert one.gates is not None and two.gates is not None
    np.testing.assert_allclose(one.gates["i"], [[0, 1], [0.2, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(one.gates["g"], [[-1, 1], [-0.6, -0.2]], rtol=1e-6)
    assert one.gates["i"].dtype == np.float32
    asked = fake.asked[-1].body
    assert asked == {"max_tokens": 2, "temperature": 1.0, "seed": 7, "gates": True, "top": 2, "stream": True}


@pytest.mark.parametrize("sent", ["AAAA", "not base64!", 7, ""])
def test_gates_that_do_not_fit(fake: Fake, sent: Any) -> None:
    fake.answers |= {
        "GET /v1/models/a%20model": [Reply(MODEL)],
        f"POST {S}/generate": [events(token(4, gates=sent), done(4))],
    }
    with pytest.raises(ServerError, match="gates of position 4 do not fit"):
        list(gw.Client(fake.url).session().stream(gates=True))


def test_steps_of_a_tagger(fake: Fake) -> None:
    step = {"type": "step", "position": 4, "word": "dog", "tag": "N", "probabilities": {"N": 0.9, "V": 0.1}}
    fake.answers[f"POST {S}/feed"] = [events(step, {"type": "done", "position": 4, "tags": ["N"]})]
    (found,) = gw.Client(fake.url).session().steps(["dog"])
    assert isinstance(found, Step)
    assert (found.word, found.tag, found.probabilities, found.gates) == ("dog", "N", {"N": 0.9, "V": 0.1}, None)


def test_a_stream_of_inputs_is_not_taken_up(fake: Fake) -> None:
    fake.answers[f"POST {S}/feed"] = [events(token(4, read=True))]
    read = gw.Client(fake.url).session().steps("a b")
    assert next(read).position == 4
    with pytest.raises(ServerError, match="read all of it or nothing, see position"):
        next(read)
    assert len(fake.asked) == 2


def test_a_stream_goes_on_after_lost_connections(fake: Fake, waited: list[float]) -> None:
    """Torn, ended, refused for a while, answered by a proxy, drained; events that come twice are given once."""
    fake.answers |= {
        f"POST {S}/generate": [events(token(4), token(5), torn=True)],
        f"GET {S}/events": [
            refused(409, "busy"),
            events(token(5), token(6)),
            Reply(silent=True),
            Reply(b"<html>Bad Gateway</html>", 502),
            refused(503, "draining", Retry_After="5"),
            events(token(7), done(7, "draining")),
            events(token(8), done(8)),
        ],
    }
    session = gw.Client(fake.url).session()
    assert [one.position for one in session.stream(max_tokens=50, seed=1)] == [4, 5, 6, 7, 8]
    after = [one.headers["Last-Event-ID"] for one in fake.asked if one.route == f"GET {S}/events"]
    assert after == ["5", "5", "6", "6", "6", "6", "7"]
    assert waited == [0.0, 0.25, 0.0, 0.25, 0.5, 1.0, 0.0]


def test_a_stream_whose_first_event_was_lost_begins_at_the_position_of_the_session(fake: Fake) -> None:
    fake.answers |= {f"POST {S}/generate": [events()], f"GET {S}/events": [events(token(4), done(4))]}
    assert [one.position for one in gw.Client(fake.url).session().stream()] == [4]
    assert fake.asked[-1].headers["Last-Event-ID"] == "3"


def test_the_end_of_an_older_generation_is_not_that_of_this_one(fake: Fake) -> None:
    """A server that was killed before it had stored anything of this one has only the older."""
    fake.answers |= {f"POST {S}/generate": [events(torn=True)], f"GET {S}/events": [events(done(3))]}
    with pytest.raises(ServerError, match="an older generation") as caught:
        list(gw.Client(fake.url).session().stream())
    assert caught.value.code == "no_generation"


def test_nothing_is_missing_when_only_the_end_is_lost(fake: Fake) -> None:
    fake.answers[f"POST {S}/generate"] = [events(token(4), token(5), torn=True)]
    assert len(list(gw.Client(fake.url).session().stream(max_tokens=2))) == 2


@pytest.mark.parametrize(
    ("again", "code", "message"),
    [
        (refused(409, "no_generation", "none"), "no_generation", "none"),
        (refused(404, "no_session", "gone"), "no_session", "gone"),
        (refused(503, "draining", "down"), "draining", "down; the generation stopped after position 4"),
        (events(token(6)), "no_generation", "after position 4 are lost"),
        (events(token(4)), "lost", "ended before the stream did; the generation stopped after position 4"),
    ],
)
def test_a_stream_that_cannot_go_on(fake: Fake, again: Reply, code: str, message: str) -> None:
    fake.answers |= {f"POST {S}/generate": [events(token(4))], f"GET {S}/events": [again]}
    fake.answers[f"GET {S}"] = [Reply({**SESSION, "position": 5})]
    with pytest.raises(ServerError, match=message) as caught:
        list(gw.Client(fake.url).session().stream())
    assert caught.value.code == code
    tries = fake.routes().count(f"GET {S}/events")
    assert tries == (len(sessions.RECONNECTING) if code in ("draining", "lost") else 1)


def test_a_killed_server_writes_again_what_is_lost(fake: Fake) -> None:
    fake.answers |= {
        f"POST {S}/generate": [events(token(4), token(5), torn=True), events(token(4), token(5), token(6), done(6))],
        f"GET {S}/events": [refused(409, "no_generation", "none")],
    }
    session = gw.Client(fake.url).session()
    assert [one.position for one in session.stream()] == [4, 5, 6]
    first, second = (one.body for one in fake.asked if one.route == f"POST {S}/generate")
    assert first == second and isinstance(first["seed"], int)


@pytest.mark.parametrize("position", [3, 5])
def test_a_session_that_has_changed_meanwhile_is_an_error(fake: Fake, position: int) -> None:
    other = events({**token(4), "token": 99}, token(5), done(5))
    fake.answers |= {
        f"GET {S}": [Reply({**SESSION, "position": position})],
        f"POST {S}/generate": [events(token(4), torn=True), other],
        f"GET {S}/events": [refused(409, "no_generation", "none")],
    }
    with pytest.raises(ServerError, match="has changed meanwhile" if position == 3 else "none"):
        list(gw.Client(fake.url).session().stream())


def test_an_error_in_a_stream(fake: Fake) -> None:
    failed = {"type": "error", "error": {"code": "invalid", "message": "too far from the training data"}}
    fake.answers[f"POST {S}/feed"] = [events(token(4), failed)]
    with pytest.raises(UsageError, match="too far"):
        list(gw.Client(fake.url).session().steps("a"))
    fake.answers[f"POST {S}/generate"] = [events({**failed, "error": {"code": "internal", "message": "oh"}})]
    with pytest.raises(ServerError, match="oh"):
        list(gw.Client(fake.url).session().stream())


def test_after_a_stream_that_was_left_early_the_session_may_be_busy_for_a_moment(fake: Fake) -> None:
    fake.answers |= {
        f"POST {S}/generate": [
            events(token(4), token(5), done(5)),
            events(token(4)),
            refused(409, "busy"),
            Reply({"text": "x"}),
        ],
        f"GET {S}/events": [refused(409, "busy"), events(token(5), done(5))],
        f"POST {S}/feed": [refused(409, "busy"), refused(409, "busy"), Reply({"tokens": [1], "position": 6})],
    }
    session = gw.Client(fake.url).session()
    for one in session.stream():
        assert one.position == 4
        break
    assert [one.position for one in session.resume()] == [5]
    assert fake.asked[-1].headers["Last-Event-ID"] == "4"
    for _ in session.stream():
        break
    assert session.feed("a").position == 6
    with pytest.raises(ServerError) as caught:  # the generation has ended: somebody else uses the session
        session.generate()
    assert (caught.value.status, caught.value.code) == (409, "busy")


def test_session_is_what_was_answered(fake: Fake) -> None:
    assert repr(gw.Client(fake.url).session()) == f"<Session {SESSION['id']} of a model>"
