"""``/v1/tag``, ``/v1/classify``, ``/v1/forecast`` and ``/v1/score``: whole sequences, in threads beside the engine."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from gatewise import runtime
from gatewise.errors import GatewiseError
from gatewise.runtime.answers import softmax
from gatewise.runtime.level import split_lines
from gatewise.serving import schemas
from gatewise.serving.answers import by_name
from gatewise.serving.bodies import beside, read_json, size_of, whole
from gatewise.serving.catalog import Catalog, Served
from gatewise.serving.engine import Engine
from gatewise.serving.following import Client, watched
from gatewise.serving.metrics import Metrics
from gatewise.serving.refusals import Refusal, invalid, of_error

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

WORKERS = 2
"""Requests that are computed at a time."""
MOST_WAITING = 64
"""Requests that may wait for that."""
BATCH = 64
"""Sequences after which a request looks whether its client is still there."""
LONGEST_PREFIXES = 512
"""The most steps of a sequence whose answers over time read both ways, each of them anew."""


class AnswerRoutes:
    """The routes of taggers, classifiers, regressors, and of the scores of language models.

    Args:
        catalog, engine, metrics: those of the server.
    """

    def __init__(self, catalog: Catalog, engine: Engine, metrics: Metrics) -> None:
        self._catalog, self._engine, self._threads = catalog, engine, ThreadPoolExecutor(WORKERS, "answers")
        self._waiting = 0
        metrics.observe("waiting", "Requests that wait for a thread.", lambda: max(self._waiting - WORKERS, 0))

    async def tag(self, request: Request) -> Response:
        """Tag sentences."""
        asked = await read_json(request, schemas.TAG)
        served = self._choose(asked, runtime.Tagger, "a tagger")
        model: runtime.Tagger = served.model  # type: ignore[assignment]
        if ("text" in asked) == ("sentences" in asked):
            raise invalid("the body has no input, or two; expected 'text' or 'sentences'")
        if "text" in asked:
            text: str = asked["text"]
            sentences = await beside(len(text), lambda: split_lines(text.split("\n")))
        else:
            sentences = asked["sentences"]

        def some(part: Sequence[list[str]]) -> Iterator[dict[str, Any]]:
            scores = model.scores(part) if asked["probabilities"] else None
            for row, (words, tags) in enumerate(zip(part, model.tag(part), strict=True)):
                found: dict[str, Any] = {"words": words, "tags": tags}
                if scores is not None:
                    found["probabilities"] = [by_name(model.tags, p) for p in softmax(scores[row])]
                yield found

        return await self._answer(request, served, "sentences", sentences, some)

    async def classify(self, request: Request) -> Response:
        """Classify texts, or sequences of numbers."""
        asked = await read_json(request, schemas.CLASSIFY)
        kinds = (runtime.TextClassifier, runtime.SequenceClassifier)
        served = self._choose(asked, kinds, "a classifier")
        inputs: list[Any] = asked["inputs"]
        for place, one in enumerate(inputs):
            numbers = isinstance(one, list) and isinstance(one[0], list)
            if numbers != isinstance(served.model, runtime.SequenceClassifier):
                kind = "a list of rows of numbers" if not numbers else "a text, or a list of words"
                raise invalid(f"inputs[{place}] is not what {served.name!r} reads; expected {kind}")
            if numbers:
                _check_rows(one, f"inputs[{place}]", served.model.input_size)  # type: ignore[attr-defined]
        words = None
        if isinstance(served.model, runtime.TextClassifier):
            split = served.model.split
            inputs = words = await beside(
                size_of(inputs), lambda: [split(one) if isinstance(one, str) else one for one in inputs]
            )
            for place, one in enumerate(words):
                if not one:
                    raise invalid(f"inputs[{place}] has no words; expected at least one in each text")
        if asked["over_time"] and not served.model.streams and max(map(len, inputs)) > LONGEST_PREFIXES:
            raise invalid(
                f"a sequence has more than {LONGEST_PREFIXES} steps, which this model, of both directions, would read "
                "anew for each step; expected a shorter one, or no over_time"
            )

        def some(part: Sequence[Any]) -> Iterator[dict[str, Any]]:
            given = part if words is not None else [np.array(one, np.float64) for one in part]
            verdicts = served.model.classify(given, asked["over_time"])  # type: ignore[attr-defined]
            for one, verdict in zip(part, verdicts, strict=True):
                each = [by_name(verdict.labels, p) for p in verdict.probabilities]
                found = {"label": verdict.label, "probabilities": each if asked["over_time"] else each[0]}
                yield {**found, "words": one} if words is not None else found

        return await self._answer(request, served, "results", inputs, some)

    async def forecast(self, request: Request) -> Response:
        """Forecast a series, or predict from sequences."""
        asked = await read_json(request, schemas.FORECAST)
        forecasts = "values" in asked
        wanted = "a regressor with a window, which forecasts" if forecasts else "a regressor"
        served = self._choose(asked, runtime.SequenceRegressor, wanted, forecasts)
        model: runtime.SequenceRegressor = served.model  # type: ignore[assignment]
        if ("values" in asked) == ("inputs" in asked):
            raise invalid("the body has no input, or two; expected 'values' of a series, or 'inputs'")
        if "inputs" in asked:
            if "steps" in asked:
                raise invalid("'steps' goes with 'values'; expected no steps with 'inputs'")
            for place, one in enumerate(asked["inputs"]):
                _check_rows(one, f"inputs[{place}]", model.input_size)

            def some(part: Sequence[Any]) -> Iterator[list[float]]:
                for y in model.predict([np.array(one, np.float64) for one in part]):
                    yield np.atleast_1d(y).tolist()

            return await self._answer(request, served, "predictions", asked["inputs"], some)
        values = _table(asked["values"])
        steps = whole(asked.get("steps"))
        return await self._answer(
            request, served, "values", [values], lambda part: iter(model.forecast(part[0], steps).tolist())
        )

    async def score(self, request: Request) -> Response:
        """Score texts with a language model."""
        asked = await read_json(request, schemas.SCORE)
        served = self._choose(asked, runtime.LanguageModel, "a language model")
        model: runtime.LanguageModel = served.model  # type: ignore[assignment]

        def some(part: Sequence[str]) -> Iterator[dict[str, Any]]:
            rows = [model.vocabulary.sequences(text) for text in part]
            nll = iter(model.score_each([ids for row in rows for ids in row]).tolist())
            for row in rows:
                total, tokens = sum(next(nll) for _ in row), sum(len(ids) - 1 for ids in row)
                mean = total / tokens
                yield {"nll": total, "tokens": tokens, "perplexity": float(np.exp(mean)) if mean < 700 else None}

        return await self._answer(request, served, "results", asked["texts"], some)

    def close(self) -> None:
        """End the threads, after what they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _choose(self, asked: dict[str, Any], kind: Any, wanted: str, forecasts: bool = False) -> Served:
        def fits(served: Served) -> bool:
            return isinstance(served.model, kind) and (not forecasts or served.model.window > 0)

        return self._catalog.choose(asked.get("model"), fits, wanted)

    async def _answer(
        self,
        request: Request,
        served: Served,
        name: str,
        items: Sequence[Any],
        compute: Callable[[Any], Iterator[Any]],
    ) -> Response:
        """Compute some items at a time in a thread; stop when the client has gone."""
        self._engine.check_open()
        if self._waiting >= WORKERS + MOST_WAITING:
            raise Refusal(429, f"{self._waiting} requests wait to be computed, the most that may; try again soon")
        found, loop = list[str](), asyncio.get_running_loop()
        self._waiting += 1
        try:
            with watched(Client(request.receive, asyncio.Event())) as client:
                for start in range(0, len(items), BATCH):
                    part = items[start : start + BATCH]
                    found += await loop.run_in_executor(self._threads, lambda part=part: [*map(_json, compute(part))])  # type: ignore[misc]
                    if client.gone:
                        break
        except GatewiseError as error:
            raise of_error(error) from None
        finally:
            self._waiting -= 1
        content = f'{{"model":{_encode(served.name)},"{name}":[{",".join(found)}]}}'
        return Response(content, media_type="application/json")


def _json(value: Any) -> str:
    """Return an answer as JSON; a long one bit by bit, so that other threads have their turn."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_encode(name)}:{_json(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list) and len(value) > BATCH:
        some = (value[start : start + BATCH] for start in range(0, len(value), BATCH))
        return "[" + ",".join(_encode(one)[1:-1] for one in some) + "]"
    return _encode(value)


def _check_rows(rows: list[list[float]], name: str, size: int | None = None) -> None:
    """Check that the steps of a sequence have so many numbers, or equally many."""
    if any(len(row) != len(rows[0]) for row in rows):
        raise invalid(f"the rows of {name} differ in their length; expected equally many numbers in each")
    if size is not None and len(rows[0]) != size:
        raise invalid(f"{name} has rows of {len(rows[0])} numbers; expected {size} in each")


def _table(values: list[Any]) -> Any:
    """Return the numbers of a series, (N,) or (N, K); null stands for NaN."""
    rows = isinstance(values[0], list)
    if rows:
        _check_rows(values, "values")
    return np.array([[np.nan if x is None else x for x in row] if rows else (np.nan if row is None else row)
                     for row in values], np.float64)  # fmt: skip
