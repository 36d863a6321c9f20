"""``/v1/tag``, ``/v1/classify``, ``/v1/forecast`` and ``/v1/score`` answer what the runtime does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.rig import numbers, plain, sentences
from tests.serving.reference import loaded
from tests.serving.rig import LANGUAGE, Server


@pytest.mark.parametrize("name", ["tagger", "crf"])
def test_tags(server: Server, runs: dict[str, Path], name: str) -> None:
    model, given = loaded(runs[name]), sentences([3, 1, 0, 9, 70, 2], 4)
    found = server.post("/v1/tag", {"model": name, "sentences": given})
    tags = model.tag(given)
    assert found == {"model": name, "sentences": [
        {"words": words, "tags": some} for words, some in zip(given, tags, strict=True)]}  # fmt: skip
    with_p = server.post("/v1/tag", {"model": name, "sentences": given, "probabilities": True})
    for one, words, some, rows in zip(with_p["sentences"], given, tags, model.tag_probabilities(given), strict=True):
        p = [dict(zip(model.tags, row, strict=True)) for row in rows.tolist()]
        assert one == {"words": words, "tags": some, "probabilities": p}
    text = server.post("/v1/tag", {"model": name, "text": "the dog\n\n ate\tit"})
    assert text == server.post("/v1/tag", {"model": name, "sentences": [["the", "dog"], [], ["ate", "it"]]})
    assert server.post("/v1/tag", {"model": name, "sentences": []})["sentences"] == []
    many = sentences([5] * 200, 2)
    assert [one["tags"] for one in server.post("/v1/tag", {"model": name, "sentences": many})["sentences"]] == (
        model.tag(many)
    )


@pytest.mark.parametrize(
    ("route", "body", "place"),
    [
        ("tag", {"model": "tagger", "text": "a\n" + "it " * 16_385}, "sentence 2"),
        ("classify", {"model": "text", "inputs": ["it", "it " * 16_385]}, "inputs[1]"),
        ("forecast", {"model": "regressor", "inputs": [[[1, 2, 3]] * 16_385]}, "inputs[0]"),
    ],
    ids=["tag", "classify", "forecast"],
)
def test_a_sequence_that_is_too_long(server: Server, route: str, body: Any, place: str) -> None:
    said = server.post(f"/v1/{route}", body, 422)["error"]["message"]
    assert said == f"{place} has 16,385 steps; expected at most 16,384: divide it"


def verdicts(model: Any, inputs: Any, over_time: bool) -> list[Any]:
    found = list[Any]()
    for verdict in model.classify(inputs, over_time):
        p = [
            {str(label): float(q) for label, q in zip(model.labels, row, strict=True)}
            for row in verdict.probabilities
        ]  # fmt: skip
        found.append({"label": verdict.label, "probabilities": p if over_time else p[0]})
    return found


@pytest.mark.parametrize("name", ["text", "text-mean"])
@pytest.mark.parametrize("over_time", [False, True])
def test_classes_of_texts(server: Server, runs: dict[str, Path], name: str, over_time: bool) -> None:
    model = loaded(runs[name])
    given: list[Any] = ["the dog ate it", "Read! the book", *sentences([4, 1, 30], 3)]
    words = [model.split(one) if isinstance(one, str) else one for one in given]
    found = server.post("/v1/classify", {"model": name, "inputs": given, "over_time": over_time})
    expected = verdicts(model, words, over_time)
    assert found == {"model": name, "results": [
        {**one, "words": some} for one, some in zip(expected, words, strict=True)]}  # fmt: skip
    assert server.post("/v1/classify", {"model": name, "inputs": given[:1]})["results"][0]["words"] == words[0]


@pytest.mark.parametrize("name", ["classifier", "classifier-both"])
@pytest.mark.parametrize("over_time", [False, True])
def test_classes_of_numbers(server: Server, runs: dict[str, Path], name: str, over_time: bool) -> None:
    model, given = loaded(runs[name]), [plain(1, steps, steps)[0] for steps in (5, 1, 9, 5)]
    body = {"model": name, "inputs": [one.tolist() for one in given], "over_time": over_time}
    assert server.post("/v1/classify", body) == {"model": name, "results": verdicts(model, given, over_time)}


def test_predictions(server: Server, runs: dict[str, Path]) -> None:
    for name in ("regressor", "forecaster"):
        model, given = loaded(runs[name]), [numbers(1, steps, steps)[0] for steps in (5, 2, 9)]
        found = server.post("/v1/forecast", {"model": name, "inputs": [one.tolist() for one in given]})
        assert found == {"model": name, "predictions": model.predict(given).reshape(3, -1).tolist()}


def test_forecasts(server: Server, runs: dict[str, Path]) -> None:
    model = loaded(runs["forecaster"])
    rows: list[list[Any]] = [[1000.0 + k, k * 0.1] for k in range(12)] + [[1000.0 + k, None] for k in range(12, 16)]
    values = np.array([[np.nan if x is None else x for x in row] for row in rows], np.float64)
    found = server.post("/v1/forecast", {"model": "forecaster", "values": rows})
    assert found == {"model": "forecaster", "values": model.forecast(values).tolist()}
    assert len(found["values"]) == model.horizon == 4
    two = server.post("/v1/forecast", {"model": "forecaster", "values": rows, "steps": 2})
    assert two["values"] == model.forecast(values, 2).tolist() == found["values"][:2]


@pytest.mark.parametrize("name", LANGUAGE)
def test_scores(server: Server, runs: dict[str, Path], name: str) -> None:
    lm, texts = loaded(runs[name]), ["the dog ate it", "xyzzy", "it! read the book\nthe dog", "", " ", "it " * 300]
    found = server.post("/v1/score", {"model": name, "texts": texts})
    for text, one in zip(texts, found["results"], strict=True):
        rows = lm.vocabulary.sequences(text)
        assert one["nll"] == sum(lm.score_each(rows).tolist())
        assert one["tokens"] == sum(len(row) - 1 for row in rows)
        assert one["perplexity"] == pytest.approx(lm.perplexity([text]), rel=1e-12)


REFUSED: list[tuple[str, Any]] = [
    ("tag", {"model": "tagger"}),
    ("tag", {"model": "tagger", "text": "a", "sentences": [["a"]]}),
    ("classify", {"model": "text", "inputs": [""]}),
    ("classify", {"model": "text", "inputs": [[]]}),
    ("classify", {"model": "text", "inputs": [], "over_time": True}),
    ("classify", {"model": "text", "inputs": ["", "a"], "over_time": True}),
    ("classify", {"model": "text", "inputs": [[[1, 2, 3]]]}),
    ("classify", {"model": "classifier", "inputs": ["a"]}),
    ("classify", {"model": "classifier", "inputs": [["a"]]}),
    ("classify", {"model": "classifier", "inputs": [[[1, 2]]]}),
    ("classify", {"model": "classifier", "inputs": [[[]]]}),
    ("classify", {"model": "classifier", "inputs": [[[1, 2, 3], [1, 2]]]}),
    ("classify", {"model": "classifier", "inputs": [[[1, 2, 3], [1, 2]]], "over_time": True}),
    ("classify", {"model": "classifier", "inputs": [[[1, 2, 3]], [[1, 2]]]}),
    ("classify", {"model": "classifier", "inputs": [[[1, 2, 1e300]]]}),
    ("classify", {"model": "classifier", "inputs": [[[1, 2, 10**299]]]}),
    ("classify", {"model": "classifier-both", "inputs": [[[1, 2, 3]] * 513], "over_time": True}),
    ("forecast", {"model": "forecaster"}),
    ("forecast", {"model": "forecaster", "values": [[1, 2]], "inputs": [[[1, 2, 3]]]}),
    ("forecast", {"model": "forecaster", "inputs": [[[1, 2, 3]]], "steps": 1}),
    ("forecast", {"model": "forecaster", "inputs": [[[1, 2, 3], [1]]]}),
    ("forecast", {"model": "forecaster", "inputs": [[[1, 2, 3]], [[1]]]}),
    ("forecast", {"model": "forecaster", "inputs": [[[1e300, 2, 3]]]}),
    ("forecast", {"model": "forecaster", "values": [[1, 2]]}),
    ("forecast", {"model": "forecaster", "values": [[]]}),
    ("forecast", {"model": "forecaster", "values": [[1, 2], [1]]}),
    ("forecast", {"model": "forecaster", "values": [[1, 2], 1]}),
    ("forecast", {"model": "forecaster", "values": [1, [1, 2]]}),
    ("forecast", {"model": "forecaster", "values": [None]}),
    ("forecast", {"model": "forecaster", "values": [[None, None]] * 20}),
    ("forecast", {"model": "forecaster", "values": [[1e300, 1e300]] * 20}),
    ("forecast", {"model": "forecaster", "values": [[1e300, 1e300]] * 12 + [[1e300, None]] * 4}),
    ("forecast", {"model": "forecaster", "values": [[1000, 2]] * 12 + [[1000, None]] * 4, "steps": 9}),
    ("forecast", {"model": "regressor", "values": [[1, 2]]}),
    ("score", {"model": "words", "texts": []}),
]


@pytest.mark.parametrize(("route", "body"), REFUSED, ids=str)
def test_what_a_model_does_not_take_is_said(server: Server, route: str, body: Any) -> None:
    error = server.post(f"/v1/{route}", body, 422)["error"]
    assert error["code"] == "invalid"
    assert error["message"] and "\n" not in error["message"]


@pytest.mark.parametrize(
    ("route", "name", "good", "bad"),
    [
        ("classify", "text", "a", ""),
        ("classify", "classifier", [[1, 2, 3]], [[1, 2]]),
        ("classify", "classifier", [[1, 2, 3]], [[]]),
        ("forecast", "regressor", [[1, 2, 3]], [[1, 2, 3, 4]]),
    ],
    ids=str,
)
def test_the_place_is_that_in_the_request(server: Server, route: str, name: str, good: Any, bad: Any) -> None:
    """However many the server computes at a time."""
    error = server.post(f"/v1/{route}", {"model": name, "inputs": [*[good] * 70, bad, good]}, 422)["error"]
    assert error["message"].startswith("inputs[70] has ")
    assert "expected" in error["message"]
