"""The models of ``gatewise.runtime`` beside those of PyTorch: every task, cell, pooling and level."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise import runtime
from gatewise.errors import UsageError
from gatewise.runtime import generation
from tests.nn.test_crf import all_scores
from tests.runtime.rig import (
    CASES,
    LANGUAGE,
    NUMERIC,
    STREAMED,
    drawn_run,
    inputs_of,
    numbers,
    of_task,
    plain,
    sentences,
)

CLOSE = 2e-6
"""Of the largest output."""
TEXTS = ["the dog ate the book", "it read\nthe 中文 book!", "ΣΑΣ ate. The dog! xyzzy read", "the", "!"]

Both = tuple[Any, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Both]:
    """The model of a case, of the runtime and of PyTorch."""
    folder, known = tmp_path_factory.mktemp("drawn"), dict[str, Both]()

    def both(which: str) -> Both:
        if which not in known:
            run = drawn_run(folder / which.replace(" ", "-"), CASES[which])
            known[which] = runtime.load(run), gw.load(run)
        return known[which]

    return both


def assert_close(found: Any, expected: Any) -> None:
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert np.abs(found - expected).max() <= CLOSE * np.abs(expected).max()


@pytest.mark.parametrize("which", LANGUAGE)
def test_logits(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    V = len(theirs.vocabulary)
    ids = np.random.default_rng(3).integers(0, V, (7, 3))
    states = [own.initial_state() for _ in range(3)]
    expected, _ = theirs(torch.from_numpy(ids), theirs.initial_state(3))
    assert_close(np.stack([own.step(row, states) for row in ids]), expected)
    assert (own.vocabulary.tokens, own.vocabulary.level) == (theirs.vocabulary.tokens, theirs.vocabulary.level)


@pytest.mark.parametrize("which", LANGUAGE)
@pytest.mark.parametrize("prompt", [None, *TEXTS])
def test_the_same_text_is_generated(which: str, prompt: str | None, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    for options in ({"temperature": 0}, {"seed": 4}, {"seed": 5, "top_k": 5, "top_p": 0.8, "temperature": 2.0}):
        given = {"prompt": prompt, "max_tokens": 30, **options}
        assert own.generate(**given) == theirs.generate(**given)


@pytest.mark.parametrize("which", LANGUAGE)
def test_texts_have_the_same_perplexity_and_next_tokens(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    assert own.perplexity(TEXTS * 50) == pytest.approx(theirs.perplexity(TEXTS * 50), rel=1e-6)
    ids = np.random.default_rng(1).integers(0, len(own.vocabulary), 3000)
    assert own.score(ids) == (pytest.approx(theirs.score(ids)[0], rel=1e-6), 2999)
    assert own.score([1]) == own.score([]) == (0.0, 0)
    for prompt in (None, TEXTS[0]):
        found, expected = own.next_tokens(prompt, 5), theirs.next_tokens(prompt, 5)
        assert [token for token, _ in found] == [token for token, _ in expected]
        assert [p for _, p in found] == pytest.approx([p for _, p in expected], rel=1e-5)


def test_a_stream_is_scored_alike_in_any_pieces(made: Callable[[str], Both], monkeypatch: pytest.MonkeyPatch) -> None:
    own, _ = made("lm lstm")
    ids = np.random.default_rng(1).integers(0, len(own.vocabulary), 50)
    whole = own.score(ids)[0]
    monkeypatch.setattr("gatewise.runtime.language_model.SCORE_WINDOW", 7)
    assert own.score(ids)[0] == pytest.approx(whole, rel=1e-14)


@pytest.mark.parametrize("which", of_task("tagger"))
def test_tags(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    some = sentences([5, 0, 1, 12, *range(1, 30), 3], 5)
    assert own.tag(some) == theirs.tag(some)
    assert own.tags == theirs.tags and len({tag for tags in own.tag(some) for tag in tags}) > 1
    for found, expected in zip(own.scores(some), theirs.scores(some), strict=True):
        assert found.shape == expected.shape
        if len(found):
            assert_close(found, expected)
    for p, own_p in zip(theirs.tag_probabilities(some), own.tag_probabilities(some), strict=True):
        assert own_p.shape == tuple(p.shape) and own_p.dtype == np.float64
        assert np.abs(own_p - p.numpy()).max(initial=0) < 1e-5
        assert own_p.sum(1) == pytest.approx(1, abs=1e-12)
    assert own.tag([]) == own.tag_probabilities([]) == []


@pytest.mark.parametrize("which", [name for name in of_task("tagger") if "crf" in name])
def test_marginals_are_sums_over_all_sequences_of_tags(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    assert theirs.crf is not None
    crf = copy.deepcopy(theirs.crf).double()
    for sentence in sentences([1, 2, 4], 7):
        scores = own.scores([sentence])[0].astype(np.float64)
        expected = np.zeros(scores.shape)
        for tags, total in all_scores(crf, torch.from_numpy(scores)).items():
            expected[range(len(tags)), tags] += np.exp(total.item())
        assert own.tag_probabilities([sentence])[0] == pytest.approx(
            expected / expected.sum(1, keepdims=True), abs=1e-12
        )


@pytest.mark.parametrize("which", of_task("text-classifier"))
def test_texts_are_classified(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    texts: list[Any] = [*TEXTS, *(words for words in sentences([3, 9, 1], 6))]
    assert_close(own.predict_proba(texts), theirs.predict_proba(texts))
    assert own.predict(texts) == theirs.predict(texts) and own.labels == theirs.labels
    for text in (TEXTS[0], TEXTS[2], texts[-2]):
        assert_close(own.predict_proba_over_time(text), theirs.predict_proba_over_time(text))
    verdicts = own.classify(texts, over_time=True)
    assert [one.label for one in verdicts] == own.predict(texts) == [one.label for one in own.classify(texts)]
    assert [len(one.probabilities) for one in verdicts] == [
        len(own.split(text) if isinstance(text, str) else text) for text in texts
    ]


@pytest.mark.parametrize("which", of_task("classifier"))
def test_sequences_are_classified(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    x = plain(200, 9)
    assert_close(own.predict_proba(x), theirs.predict_proba(x))
    assert (own.predict(x) == theirs.predict(x)).all() and own.predict(x).dtype == theirs.predict(x).dtype
    assert_close(own.predict_proba_over_time(x[:20]), theirs.predict_proba_over_time(x[:20]))
    lengths = np.random.default_rng(2).integers(1, 10, 200)
    assert_close(own.predict_proba(x, lengths=lengths), theirs.predict_proba(x, lengths=lengths))
    ragged = [one[:steps] for one, steps in zip(x, lengths, strict=True)]
    assert_close(own.predict_proba(ragged), theirs.predict_proba(ragged))
    pixels = np.random.default_rng(2).integers(0, 256, (5, 4, 3), np.uint8)
    assert_close(own.predict_proba(pixels), theirs.predict_proba(pixels))
    assert_close(own.predict_proba(pixels.astype(np.int32)), theirs.predict_proba(pixels.astype(np.int32)))
    found = own.classify(ragged, over_time=True)
    assert [len(one.probabilities) for one in found] == lengths.tolist()
    assert np.array_equal(
        np.stack([one.probabilities[-1] for one in found]).argmax(1), own.predict_proba(ragged).argmax(1)
    )
    with pytest.raises(UsageError, match="differ in their steps"):
        own.predict_proba_over_time(ragged)


@pytest.mark.parametrize("which", of_task("regressor", "memory-task"))
def test_numbers_are_predicted(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    x = (numbers if own.scaling.x_mean else plain)(150, 7)
    assert_close(own.predict(x), theirs.predict(x))
    assert own.scaling == theirs.scaling and own.window == theirs.window
    if not own.scaling.relative:
        lengths = np.random.default_rng(2).integers(1, 8, 150)
        assert_close(own.predict(x, lengths), theirs.predict(x, lengths=lengths))


@pytest.mark.parametrize("which", ["regressor horizon", "regressor relative"])
def test_forecasts(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    rows = numbers(1, 40)[0, :, :2] / [1000, 1]
    rows[-12:, 1] = np.nan
    for steps in (None, 1, 3, 9):
        assert_close(own.forecast(rows, steps), theirs.forecast(rows, steps))
    import pandas as pd  # type: ignore[import-untyped]

    table = pd.DataFrame(rows, columns=["a", "b"])[["b", "a"]]
    assert np.array_equal(own.forecast(table, 5), own.forecast(rows, 5))


@pytest.mark.parametrize("which", [name for name in STREAMED if CASES[name].task not in ("tagger", "text-classifier")])
def test_what_is_inside(which: str, made: Callable[[str], Both]) -> None:
    own, theirs = made(which)
    given = inputs_of(CASES[which], 6)
    if which in LANGUAGE:
        ids = torch.from_numpy(given)[:, None]
        x = (
            torch.nn.functional.one_hot(ids, len(own.vocabulary)).float()
            if own._native.info.task == 0 and not hasattr(theirs, "embedding")
            else theirs.embedding(ids)
        )
    else:
        x = theirs.standardised(torch.from_numpy(given)[None]).float().transpose(0, 1)
    names = theirs.rnn.spec.about.traced
    _, _, expected = theirs.rnn(x, trace=names)
    found = own.trace(given)
    assert tuple(found) == names
    for name in names:
        assert_close(found[name], expected[name])
    state = own.initial_state()
    halves = [own.trace(part, state) for part in (given[:2], given[2:])]
    for name in names:
        assert np.array_equal(np.concatenate([half[name] for half in halves], 2), found[name])


def test_generation_goes_on_with_a_state(made: Callable[[str], Both]) -> None:
    """What follows a text is the same whether the state has read it, or the prompt is it."""
    for which in ("lm lstm", "lm gru tied characters"):
        own, _ = made(which)
        state = own.initial_state()
        whole = own.generate("the dog", max_tokens=6, temperature=0)
        own.step([own.vocabulary.eos_id], [state])
        first = own.generate("the dog", max_tokens=3, temperature=0, state=state)
        assert whole.startswith(first)
        read = own.initial_state()
        own.read(own.vocabulary.sequences(first)[0][:-1], read)
        assert state.save() == read.save()
    own, _ = made("scratch")
    state = own.initial_state()
    own.step([own.vocabulary.bos_id], [state])
    assert own.generate("the dog", max_tokens=5, temperature=0, state=state) == own.generate(
        "the dog", max_tokens=5, temperature=0
    )


def test_the_start_of_a_sentence_is_never_generated(made: Callable[[str], Both]) -> None:
    own, _ = made("scratch")
    assert "<bos>" not in own.generate(max_tokens=200, seed=1, temperature=10)
    assert "<bos>" not in dict(own.next_tokens(count=100)) or dict(own.next_tokens(count=100))["<bos>"] == 0


def test_one_thing_is_written_once() -> None:
    """The PyTorch models call the runtime's functions."""
    from gatewise.models import language_model, sequence_regressor, tagger

    assert language_model.generate is generation.generate
    assert tagger.check_sentences.__module__ == "gatewise.runtime.arguments"
    assert sequence_regressor.continued.__module__ == "gatewise.runtime.forecasting"


def test_the_arguments_of_the_pytorch_models_are_refused_alike(made: Callable[[str], Both]) -> None:
    calls: list[tuple[str, Callable[[Any], object]]] = [
        ("lm lstm", lambda m: m.generate(" ")),
        ("lm lstm", lambda m: m.generate(max_tokens=0)),
        ("lm lstm", lambda m: m.generate(top_p=2.0)),
        ("lm lstm", lambda m: m.perplexity("the")),
        ("lm lstm", lambda m: m.perplexity([])),
        ("lm lstm", lambda m: m.next_tokens("the", 0)),
        ("tagger", lambda m: m.tag("the dog")),
        ("tagger", lambda m: m.tag(["the dog"])),
        ("text last", lambda m: m.predict("the dog")),
        ("text last", lambda m: m.predict(["the", " "])),
        ("classifier last", lambda m: m.predict(np.zeros((2, 3)))),
        ("classifier last", lambda m: m.predict(np.zeros((0, 3, 3)))),
        ("classifier last", lambda m: m.predict(np.zeros((2, 3, 4)))),
        ("classifier last", lambda m: m.predict([])),
        ("classifier last", lambda m: m.predict([np.zeros((2, 3)), np.zeros((0, 3))])),
        ("classifier last", lambda m: m.predict(np.zeros((2, 3, 3)), lengths=[1, 4])),
        ("classifier last", lambda m: m.predict(np.zeros((2, 3, 3)), lengths=[1.0, 2.0])),
        ("regressor horizon", lambda m: m.forecast(np.zeros((3, 2)))),
        ("regressor horizon", lambda m: m.forecast(np.zeros((30, 3)))),
        ("regressor bare", lambda m: m.forecast(np.zeros(30))),
    ]
    for which, call in calls:
        messages = []
        for model in made(which):
            with pytest.raises(UsageError if which != "regressor horizon" else gw.GatewiseError) as caught:
                call(model)
            messages.append((type(caught.value), str(caught.value)))
        assert messages[0] == messages[1], which


def test_every_case_is_loaded(made: Callable[[str], Both]) -> None:
    for which, case in CASES.items():
        own, _ = made(which)
        assert own.streams == (which in STREAMED)
        assert own.weights == "fp32"
        assert own.task == {"scratch-language-model": "language-model", "memory-task": "regressor"}.get(
            case.task, case.task
        )
    assert NUMERIC
