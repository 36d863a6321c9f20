"""The client against a server that answers as the contract says, or worse."""

import subprocess
import sys

import numpy as np
import pytest

import gatewise as gw
from gatewise.client import transport
from gatewise.errors import ServerError, UsageError
from tests.client.fake import MODEL, Fake, Reply, S, refused, serving

pytestmark = pytest.mark.usefixtures("waited")


def pieces(*texts: str) -> Reply:
    """A completion, streamed."""
    parts = [f'data: {{"choices": [{{"index": 0, "text": "{text}"}}]}}\n\n' for text in texts]
    return Reply("".join([*parts, 'data: {"choices": []}\n\n', "data: [DONE]\n\n"]).encode())


def test_a_completion_and_what_is_sent_for_it(fake: Fake) -> None:
    fake.answers["POST /v1/completions"] = [Reply({"choices": [{"index": 0, "text": " of it"}]})]
    client = gw.Client(fake.url + "/", key="a-key")
    assert client.complete("the value", max_tokens=5, seed=1, stop=("a", "b")) == " of it"
    (asked,) = fake.asked
    sent = {"prompt": "the value", "max_tokens": 5, "temperature": 1.0, "seed": 1, "stop": ["a", "b"]}
    assert asked.body == sent
    assert asked.headers["Authorization"] == "Bearer a-key"
    assert asked.headers["Content-Type"] == "application/json"


def test_the_key_comes_from_the_environment(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.answers["GET /v1/models"] = [Reply({"data": [MODEL]})]
    assert gw.Client(fake.url).models() == [MODEL]
    monkeypatch.setenv("GATEWISE_KEY", "from-there\n")
    gw.Client(fake.url).models()
    gw.Client(fake.url, key="").models()
    assert [one.headers.get("Authorization") for one in fake.asked] == [None, "Bearer from-there", None]


def test_pieces_of_a_completion_and_its_rest_after_a_lost_connection(fake: Fake) -> None:
    lost = pieces(" one", " t")
    lost.torn, lost.body = True, lost.body.removesuffix(b"data: [DONE]\n\n")
    cut = pieces(" one")
    cut.body = cut.body.removesuffix(b"data: [DONE]\n\n")
    fake.answers["POST /v1/completions"] = [lost, cut, Reply(silent=True), pieces(" o", "ne two", "\u2028 three")]
    client = gw.Client(fake.url)
    assert list(client.stream("zero")) == [" one", " t", "wo", "\u2028 three"]
    bodies = [one.body for one in fake.asked]
    assert len(bodies) == 4 and all(body == bodies[0] for body in bodies)
    assert isinstance(bodies[0]["seed"], int)


def test_another_text_at_the_second_try_is_an_error(fake: Fake) -> None:
    lost = pieces(" one")
    lost.torn, lost.body = True, lost.body.removesuffix(b"data: [DONE]\n\n")
    for other in (pieces(" two"), pieces(" on")):
        fake.answers["POST /v1/completions"] = [lost, other]
        with pytest.raises(ServerError, match="model has changed"):
            list(gw.Client(fake.url).stream("zero"))


def test_tags_labels_forecasts_scores(fake: Fake) -> None:
    fake.answers |= {
        "POST /v1/tag": [Reply({"model": "m", "sentences": [{"words": ["a"], "tags": ["D"]}]})],
        "POST /v1/classify": [
            Reply({"model": "m", "results": [{"label": 3, "probabilities": {"3": 1.0}}]}),
            Reply({"results": [{"label": "b", "words": ["x"], "probabilities": [{"b": 0.2}, {"b": 1.0}]}]}),
        ],
        "POST /v1/forecast": [
            Reply({"values": [1, 2]}),
            Reply({"predictions": [[1], [2]]}),
            Reply({"predictions": [[1, 2]]}),
            Reply({"values": [5]}),
        ],
        "POST /v1/score": [Reply({"results": [{"nll": 2.0, "tokens": 4, "perplexity": 1.65}]})],
    }
    client = gw.Client(fake.url)
    assert [(one.words, one.tags) for one in client.tag("a")] == [(["a"], ["D"])]
    assert client.tag([["a"]], probabilities=True)[0].probabilities is None
    (one,) = client.classify(np.zeros((1, 2, 1)), model="m")
    assert (one.label, one.probabilities, one.words) == (3, {"3": 1.0}, None)
    (one,) = client.classify(["x y"], over_time=True)
    assert (one.probabilities, one.over_time) == ({"b": 1.0}, [{"b": 0.2}, {"b": 1.0}])
    assert client.forecast(np.array([1.0, np.nan]), 2).tolist() == [1.0, 2.0]
    assert client.predict([[[1.0]], [[2.0]]]).tolist() == [1.0, 2.0]
    assert client.predict([np.zeros((3, 1))]).tolist() == [[1.0, 2.0]]
    assert client.score(["a b"])[0].tokens == 4
    assert [one.body for one in fake.asked] == [
        {"text": "a", "probabilities": False},
        {"sentences": [["a"]], "probabilities": True},
        {"model": "m", "inputs": [[[0.0], [0.0]]], "over_time": False},
        {"inputs": ["x y"], "over_time": True},
        {"values": [1.0, None], "steps": 2},
        {"inputs": [[[1.0]], [[2.0]]]},
        {"inputs": [[[0.0], [0.0], [0.0]]]},
        {"texts": ["a b"]},
    ]
    for call in (client.classify, client.score):
        with pytest.raises(UsageError, match="is a single text; expected a list"):
            call("a text")
    assert client.forecast([[1, None], np.array([2.5, np.nan])]).tolist() == [5.0]
    assert fake.asked[-1].body == {"values": [[1, None], [2.5, None]]}


def test_refusals_that_pass(fake: Fake, waited: list[float]) -> None:
    fake.answers[f"POST {S}/feed"] = [
        refused(429, "full", Retry_After="1"),
        refused(503, "draining", Retry_After="86400"),
        refused(503, "out_of_memory", Retry_After="Fri, 27 Nov 2026 12:00:00 GMT"),
        Reply({"tokens": [1], "position": 4}),
    ]
    assert gw.Client(fake.url).session().feed("a").position == 4
    assert waited == [1.0, transport.LONGEST_WAIT, 1.0]


def test_refusals_that_last(fake: Fake) -> None:
    fake.answers["POST /v1/sessions"] = [refused(429, "full", "1000 sessions are open")]
    for retries in (0, 2):
        fake.asked.clear()
        with pytest.raises(ServerError, match="1000 sessions are open") as caught:
            gw.Client(fake.url, retries=retries).session()
        assert (caught.value.status, caught.value.code) == (429, "full")
        assert len(fake.asked) == 1 + retries


def test_what_may_have_happened_is_not_sent_again(fake: Fake) -> None:
    """A proxy's refusal and a lost connection do not say that nothing was done; asking twice for a score is no harm."""
    silent, page = Reply(silent=True), Reply(b"busy", 503)
    fake.answers |= {f"POST {S}/feed": [silent, page], "POST /v1/score": [silent, page, Reply({"results": []})]}
    client = gw.Client(fake.url)
    session = client.session()
    for code in ("lost", "answer"):
        with pytest.raises(ServerError) as caught:
            session.feed("a")
        assert caught.value.code == code
    assert client.score(["a"]) == []
    assert fake.routes().count(f"POST {S}/feed") == 2
    assert fake.routes().count("POST /v1/score") == 3


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (refused(422, "invalid", "unknown field\n'x'"), UsageError, r"^unknown field\\n'x'$"),
        (refused(400, "bad_request"), UsageError, "no"),
        (refused(413, "too_large"), UsageError, "no"),
        (refused(401, "unauthorized", "wrong key"), ServerError, "wrong key"),
        (refused(404, "no_model", "no model is called 'x'"), ServerError, "no model"),
        (Reply(b"<html>", 502), ServerError, "answers with status 502; expected a JSON error"),
        (Reply(["error"], 500), ServerError, "answers with status 500; expected a JSON error"),
        (Reply(b"", 301, {"Location": "https://a.org/"}), ServerError, "301, which leads to https://a.org/; give"),
        (Reply(b"<html>"), ServerError, "does not answer with a JSON object; is it gatewise serve"),
        (Reply([1]), ServerError, "does not answer with a JSON object"),
        (Reply({"object": "list"}), ServerError, "the answer has no 'data'"),
    ],
)  # fmt: skip
def test_errors(fake: Fake, reply: Reply, kind: type[Exception], message: str) -> None:
    fake.answers["GET /v1/models"] = [reply]
    with pytest.raises(kind, match=message):
        gw.Client(fake.url, retries=0).models()


def test_a_server_that_is_not_there(fake: Fake) -> None:
    with serving(Fake()) as gone:
        pass
    client = gw.Client(gone.url)
    with pytest.raises(
        ServerError, match=rf"^no server answers at {gone.url} \(.*refused.*\); start one with: "
    ) as caught:
        client.models()
    assert (caught.value.status, caught.value.code) == (None, "unreachable")
    assert not client.ready()
    fake.answers["GET /ready"] = [Reply({"status": "ready"}), refused(503, "draining")]
    assert [gw.Client(fake.url).ready() for _ in range(2)] == [True, False]


def test_a_server_that_is_silent() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(ServerError, match=r"sent nothing for 0.1 seconds; ask for less, or"):
            gw.Client(f"http://127.0.0.1:{port}", timeout=0.1).models()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://a", "http://", "http://a b", "http://a:b", "http://a?b=c"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError, match="the server's address is"):
        gw.Client(url)


@pytest.mark.parametrize("key", ["schlüssel", "a\nb"])
def test_a_key_that_no_header_carries_is_not_shown(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        gw.Client("http://127.0.0.1:1", key=key)
    assert key not in str(caught.value) and "a\\nb" not in str(caught.value)
    assert "secret" not in repr(gw.Client("http://127.0.0.1:1", key="secret"))


def test_a_proxy_is_not_asked_for_this_machine(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    fake.answers["GET /v1/models"] = [Reply({"data": []})]
    assert gw.Client(fake.url).models() == []


def test_what_the_client_imports() -> None:
    """Neither PyTorch nor NumPy; and a line where httpx is missing."""
    program = "import sys, gatewise as gw; gw.Client('http://127.0.0.1:1'); print({'numpy', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
    program = (
        "import sys; sys.modules['httpx'] = None; import gatewise as gw\n"
        "try: gw.Client\nexcept gw.UsageError as problem: print(problem)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "gatewise.Client needs httpx, which is not installed; it comes with the extra 'client'\n"
