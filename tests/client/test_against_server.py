"""The client against ``gatewise serve``: what it returns is what ``gatewise.runtime`` computes."""

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import gatewise as gw
from gatewise import runtime
from gatewise.client import session as sessions
from gatewise.errors import ServerError, UsageError
from tests.library.builds import model_file, varied_language, varied_tagger
from tests.runtime.rig import plain
from tests.serving.rig import serve

pytest.importorskip("uvicorn")

CASES = {"text": "text last", "rows": "classifier mean", "waves": "regressor horizon", "bare": "regressor bare"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of every task, by name."""
    folder = tmp_path_factory.mktemp("models")
    found = {"lm": varied_language(folder), "tagger": varied_tagger(folder)}
    found |= {name: model_file(folder, case) for name, case in CASES.items()}
    for name, file in found.items():
        found[name] = Path(shutil.copy(file, folder / f"{name}.gatewise"))
    return found


@pytest.fixture(scope="module")
def client(files: dict[str, Path]) -> Iterator[gw.Client]:
    """A client of a server of all models."""
    with serve(*files.values(), key="a-key") as (address, _), gw.Client(address, key="a-key") as client:
        yield client


@pytest.fixture(scope="module")
def lm(files: dict[str, Path]) -> runtime.LanguageModel:
    model = runtime.load(files["lm"])
    assert isinstance(model, runtime.LanguageModel)
    return model


def test_models(client: gw.Client, files: dict[str, Path]) -> None:
    assert client.ready()
    assert {one["id"]: one["streams"] for one in client.models()} == dict.fromkeys(files, True)
    assert client.model("rows")["labels"] == [3, 5, 8, 13]


def test_completions(client: gw.Client, lm: runtime.LanguageModel) -> None:
    for seed in range(3):
        expected = lm.generate("the dog", max_tokens=20, seed=seed)
        assert "the dog" + client.complete("the dog", max_tokens=20, seed=seed) == expected
        assert "the dog" + "".join(client.stream("the dog", max_tokens=20, seed=seed)) == expected
    assert client.complete(max_tokens=5, temperature=0.0) == lm.generate(max_tokens=5, temperature=0.0)
    stop = expected.split()[4]
    assert client.complete("the dog", max_tokens=20, seed=seed, stop=stop).split() == expected.split()[2:4]


def test_a_session_reads_and_writes_as_the_runtime_does(client: gw.Client, lm: runtime.LanguageModel) -> None:
    the_dog = [lm.vocabulary.ids[word] for word in ("the", "dog")]
    with client.session("lm") as session:
        assert session.feed("the dog").tokens == the_dog
        fork = session.fork()
        written = "the dog" + session.generate(max_tokens=12, seed=5)
        assert written == lm.generate("the dog", max_tokens=12, seed=5)
        assert session.position == 14
        with fork:
            tokens = list(fork.stream(max_tokens=12, seed=5, gates=True, top=3))
        assert "the dog" + "".join(one.text for one in tokens) == written
        assert [one.position for one in tokens] == list(range(3, 15))
        state, ids = lm.initial_state(), [lm.vocabulary.eos_id, *the_dog]
        logits = lm.read(ids, state)
        for one in tokens:
            p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            assert one.probability == pytest.approx(p[one.token], rel=1e-5)
            assert [word for word, _ in one.top] == [lm.vocabulary.tokens[k] for k in np.argsort(-p)[:3]]
            gates = lm.trace([one.token], state.copy())
            logits = lm.step([one.token], [state])[0]
            assert one.gates is not None and set(one.gates) == set(gates)
            for name, values in one.gates.items():
                exact = np.tanh(gates[name]) if name == "c" else gates[name]
                np.testing.assert_allclose(
                    values, exact[:, 0, 0, 0], atol=1.001 / 255 / (1 if name in "ifo" else 0.5) / 2
                )
        content = session.save()
        again = lm.load_state(content)
        assert again.save() == content
        assert session.load(state.save()) == 14
        assert session.generate(max_tokens=4, seed=1)
    with pytest.raises(ServerError, match="no such session"):
        _ = session.position


def test_a_stream_that_was_left_goes_on_whatever_is_asked_meanwhile(client: gw.Client) -> None:
    expected = client.session("lm").generate(max_tokens=400, seed=4)
    for ask in (lambda one: one.position, lambda one: one.fork().delete(), lambda one: (one.save(), one.position)):
        with client.session("lm") as session:
            stream = session.stream(max_tokens=400, seed=4)
            text = "".join(token.text for token in itertools.islice(stream, 5))
            stream.close()
            ask(session)
            assert text + "".join(token.text for token in session.resume()) == expected
            assert session.position == 400
            assert list(session.resume()) == []


def test_a_state_of_another_model_leaves_the_session_as_it_was(client: gw.Client) -> None:
    with client.session("tagger") as other, client.session("lm") as session:
        session.feed("the dog")
        before = session.save()
        for content in (other.save(), before[:-1], b""):
            with pytest.raises(UsageError):
                session.load(content)
            assert session.save() == before


def test_a_stream_that_is_left_early_goes_on(client: gw.Client, lm: runtime.LanguageModel) -> None:
    with client.session("lm") as session:
        session.feed("the dog")
        stream = session.stream(max_tokens=2000, seed=3)
        tokens = list(itertools.islice(stream, 5))
        stream.close()  # type: ignore[attr-defined]
        tokens += itertools.islice(session.resume(), 5)
        tokens += session.resume()
        expected = lm.generate("the dog", max_tokens=2000, seed=3)
        assert "the dog" + "".join(one.text for one in tokens) == expected
        for _ in session.stream(max_tokens=2000, seed=4):
            break
        assert session.feed("the").tokens == [lm.vocabulary.ids["the"]]  # as soon as the server has noticed
        with pytest.raises(ServerError) as caught:
            next(session.resume())
        assert caught.value.code == "no_generation"


def test_of_two_clients_that_follow_a_generation_the_first_hears_of_the_second(client: gw.Client) -> None:
    expected = client.session("lm").generate(max_tokens=3000, seed=6)
    with client.session("lm") as first:
        stream = first.stream(max_tokens=3000, seed=6)
        text = "".join(token.text for token in itertools.islice(stream, 5))
        for token in client.session(id=first.id).resume(5):
            text += token.text
        assert text == expected
        with pytest.raises(ServerError, match="another connection goes on") as caught:
            list(stream)
        assert caught.value.code == "taken_over"


def test_sessions_of_the_other_tasks(client: gw.Client, files: dict[str, Path]) -> None:
    tagger = runtime.load(files["tagger"])
    assert isinstance(tagger, runtime.Tagger)
    words = ["the", "dog", "ate", "xyzzy"]
    with client.session("tagger") as session:
        assert [one.tag for one in session.steps(words)] == tagger.tag([words])[0]  # type: ignore[union-attr]
    with client.session("rows") as session:
        x = plain(1, 4)[0]
        answer = session.feed(x)
        rows = runtime.load(files["rows"])
        assert isinstance(rows, runtime.SequenceClassifier)
        (verdict,) = rows.classify(x[None])
        assert answer.label == verdict.label
        assert answer.probabilities == pytest.approx(verdict.as_json()["probabilities"])
        assert [one.position for one in session.steps(x)] == [5, 6, 7, 8]
    with client.session("bare") as session:
        bare = runtime.load(files["bare"])
        assert isinstance(bare, runtime.SequenceRegressor)
        assert session.feed(x).prediction == pytest.approx([bare.predict(x[None])[0]])


def test_answers_without_a_session(client: gw.Client, files: dict[str, Path], lm: runtime.LanguageModel) -> None:
    tagger, text, waves = (runtime.load(files[name]) for name in ("tagger", "text", "waves"))
    assert isinstance(tagger, runtime.Tagger) and isinstance(text, runtime.TextClassifier)
    assert isinstance(waves, runtime.SequenceRegressor)
    (one,) = client.tag("the dog ate it", probabilities=True)
    assert list(one.tags) == tagger.tag([one.words])[0]
    assert one.probabilities is not None and [max(p, key=lambda tag: p[tag]) for p in one.probabilities] == one.tags
    texts = ["the dog", "it ate the book"]
    assert [one.label for one in client.classify(texts, model="text")] == text.predict(texts)
    over_time = client.classify(texts, over_time=True, model="text")[1].over_time
    expected = text.predict_proba_over_time(texts[1])
    np.testing.assert_allclose([list(p.values()) for p in over_time], expected, rtol=1e-6)
    series = np.random.default_rng(1).standard_normal((20, 2))
    series[-4:, 1] = np.nan
    np.testing.assert_array_equal(client.forecast(series, model="waves"), waves.forecast(series))
    x = plain(3, 5)
    bare = runtime.load(files["bare"])
    assert isinstance(bare, runtime.SequenceRegressor)
    np.testing.assert_array_equal(client.predict(x, model="bare"), bare.predict(x))
    (score,) = client.score(["the dog ate"])
    assert score.perplexity == pytest.approx(lm.perplexity(["the dog ate"]))


@pytest.mark.slow
def test_a_stream_goes_on_after_a_restart(
    files: dict[str, Path], lm: runtime.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM hands the generation over to the next process with the same sessions; the client sees no gap."""
    again = list[int]()
    reconnect = sessions.Session._reconnect
    monkeypatch.setattr(
        sessions.Session, "_reconnect", lambda self, after, *rest: again.append(after) or reconnect(self, after, *rest)
    )
    count = 60_000  # more than are written while the server drains
    expected = lm.generate("the dog", max_tokens=count, seed=3)
    with ExitStack() as second:

        def restart() -> None:
            first.close()
            second.enter_context(serve(files["lm"], "--state-dir", tmp_path, port=int(address.rpartition(":")[2])))

        with ExitStack() as first:
            address, _ = first.enter_context(serve(files["lm"], "--state-dir", tmp_path))
            session = gw.Client(address).session()
            session.feed("the dog")
            stream = session.stream(max_tokens=count, seed=3)
            tokens = list(itertools.islice(stream, 10))
            thread = Thread(target=restart)
            thread.start()
            tokens += stream
            thread.join()
        assert "the dog" + "".join(one.text for one in tokens) == expected
        assert session.position == count + 2
    assert len(again) == 1 and 10 < again[0] < count


@pytest.mark.parametrize("signal", ["kill", "terminate"])
def test_a_stream_that_nobody_read_goes_on_after_the_servers_end(
    files: dict[str, Path], lm: runtime.LanguageModel, tmp_path: Path, signal: str
) -> None:
    count = 5000
    with serve(files["lm"], "--state-dir", tmp_path) as (address, server):
        session = gw.Client(address).session()
        session.feed("the dog")
        stream = session.stream(max_tokens=count, seed=3, gates=True, top=20)
        tokens = list(itertools.islice(stream, 10))
        getattr(server, signal)()
        server.wait(20)
    with serve(files["lm"], "--state-dir", tmp_path, port=int(address.rpartition(":")[2])):
        tokens += stream
        assert "the dog" + "".join(one.text for one in tokens) == lm.generate("the dog", max_tokens=count, seed=3)
        assert session.position == count + 2


def test_no_server_any_more(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "RECONNECTING", (0.0, 0.05))
    with serve(files["lm"]) as (address, server):
        stream = gw.Client(address).session().stream(max_tokens=100_000)
        next(stream)
        server.kill()
        with pytest.raises(ServerError, match=r"no server answers at .*; the generation stopped after position \d+$"):
            list(stream)


def test_a_wrong_key(files: dict[str, Path]) -> None:
    with serve(files["lm"], key="right") as (address, _):
        assert gw.Client(address, key="right").models()
        for client in (gw.Client(address, key="wrong"), gw.Client(address, key="")):
            assert client.ready()
            with pytest.raises(ServerError) as caught:
                client.models()
            assert (caught.value.status, caught.value.code) == (401, "unauthorized")


def test_ids_begin_with_a_prefix_also_after_a_restart_without_it(files: dict[str, Path], tmp_path: Path) -> None:
    with serve(files["lm"], "--state-dir", tmp_path, "--id-prefix", "8001-") as (address, _):
        session = gw.Client(address).session()
        assert session.id.startswith("8001-") and session.fork().id.startswith("8001-")
        session.feed("the dog")
    with serve(files["lm"], "--state-dir", tmp_path) as (address, _):
        assert gw.Client(address).session(id=session.id).position == 2


@pytest.mark.parametrize("prefix", ["a/b", "a b", "ä", "a" * 21])
def test_a_prefix_that_no_id_can_begin_with(files: dict[str, Path], prefix: str) -> None:
    command = [sys.executable, "-m", "gatewise", "serve", str(files["lm"]), "--port", "0", "--id-prefix", prefix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "expected at most 20 letters, digits, - and _" in done.stderr and done.stderr.count("\n") == 1
