"""``/v1/tag``, ``/v1/classify``, ``/v1/forecast`` and ``/v1/score``: whole sequences, in threads beside the engine."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from gatewise import runtime
from gatewise.errors import GatewiseError
from gatewise.runtime.level import split_lines
from gatewise.serving import schemas
from gatewise.serving.answers import by_name, encode
from gatewise.serving.bodies import beside, read_json, size_of, whole
from gatewise.serving.catalog import Catalog, Served
from gatewise.serving.engine import Engine
from gatewise.serving.following import Client, watched
from gatewise.serving.metrics import Metrics
from gatewise.serving.refusals import Refusal, draining, invalid, of_error

WORKERS = 2
"""Requests that are computed at a time."""
MOST_WAITING = 64
"""Requests that may wait for that."""
BATCH, BATCH_STEPS = 64, 8192
"""Sequences, and about how many steps, after which a request looks whether its client is still there."""
LONGEST_SEQUENCE = 16_384
"""The most steps of a sequence that is read in one go."""
LONGEST_PREFIXES = 512
"""The most steps of a sequence whose answers over time read both ways, each of them anew."""


class Left(Exception):
    """Nobody waits for the answer any more."""


class Waited:
    """Whether somebody waits for an answer.

    Attributes:
        over: set when nobody does.
    """

    def __init__(self) -> None:
        self.over = Event()

    def check(self) -> None:
        """Check that somebody waits.

        Raises:
            Left: nobody does.
        """
        if self.over.is_set():
            raise Left


class AnswerRoutes:
    """The routes of taggers, classifiers, regressors, and of the scores of language models.

    Args:
        catalog, engine, metrics: those of the server.
    """

    def __init__(self, catalog: Catalog, engine: Engine, metrics: Metrics) -> None:
        self._catalog, self._engine, self._threads = catalog, engine, ThreadPoolExecutor(WORKERS, "answers")
        self._waiting = 0
        self._jobs = set[Future[list[str]]]()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        metrics.observe("waiting", "Requests that wait for a thread.", lambda: max(self._waiting - WORKERS, 0))

    async def tag(self, request: Request) -> Response:
        """Tag sentences."""
        asked = await read_json(request, schemas.TAG)
        served = self._choose(asked, runtime.Tagger, "a tagger")
        model: runtime.Tagger = served.model  # type: ignore[assignment]
        if ("text" in asked) == ("sentences" in asked):
            raise invalid("the body has no input, or two; expected 'text' or 'sentences'")
        if "sentences" in asked:
            sentences = asked["sentences"]
        else:
            sentences = await beside(len(asked["text"]), lambda: split_lines(asked["text"].split("\n")))
        for place, words in enumerate(sentences):
            _check_length(words, f"sentence {place + 1}")

        def some(part: Sequence[list[str]]) -> Iterator[dict[str, Any]]:
            probabilities = model.tag_probabilities(part) if asked["probabilities"] else None
            for row, (words, tags) in enumerate(zip(part, model.tag(part), strict=True)):
                found: dict[str, Any] = {"words": words, "tags": tags}
                if probabilities is not None:
                    found["probabilities"] = [by_name(model.tags, p) for p in probabilities[row]]
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
                size_of(inputs), lambda: [split(one) if isinstance(one, str) else one for one in asked["inputs"]]
            )
            for place, one in enumerate(words):
                if not one:
                    raise invalid(f"inputs[{place}] has no words; expected at least one in each text")
        for place, one in enumerate(inputs):
            _check_length(one, f"inputs[{place}]")
        anew = asked["over_time"] and not served.model.streams
        if anew and max(map(len, inputs)) > LONGEST_PREFIXES:
            raise invalid(
                f"a sequence has more than {LONGEST_PREFIXES} steps, which this model, of both directions, would read "
                "anew for each step; expected a shorter one, or no over_time"
            )

        model: Any = served.model
        waited = Waited()

        def verdicts(given: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
            if anew:
                for one in given:
                    size, read = max(BATCH_STEPS // len(one), 1), list[Any]()
                    for start in range(0, len(one), size):
                        waited.check()
                        ends = range(start + 1, min(start + size, len(one)) + 1)
                        read += model.classify([one[:end] for end in ends])
                    yield read[-1].label, [verdict.probabilities[0] for verdict in read]
            else:
                yield from ((one.label, one.probabilities) for one in model.classify(given, asked["over_time"]))

        def some(part: Sequence[Any]) -> Iterator[dict[str, Any]]:
            given = part if words is not None else [np.array(one, np.float64) for one in part]
            for one, (label, p) in zip(part, verdicts(given), strict=True):
                each = [by_name(model.labels, row) for row in p]
                found = {"label": label, "probabilities": each if asked["over_time"] else each[0]}
                yield {**found, "words": one} if words is not None else found

        return await self._answer(request, served, "results", inputs, some, waited)

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
                _check_length(one, f"inputs[{place}]")

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

        waited = Waited()

        def some(part: Sequence[str]) -> Iterator[dict[str, Any]]:
            rows = [model.vocabulary.sequences(text) for text in part]
            nll = iter(model.score_each([ids for row in rows for ids in row], waited.check).tolist())
            for row in rows:
                total, tokens = sum(next(nll) for _ in row), sum(len(ids) - 1 for ids in row)
                mean = total / tokens
                yield {"nll": total, "tokens": tokens, "perplexity": float(np.exp(mean)) if mean < 700 else None}

        return await self._answer(request, served, "results", asked["texts"], some, waited)

    @property
    def waiting(self) -> int:
        """How many requests are computed or wait for it."""
        return self._waiting

    @property
    def computing(self) -> bool:
        """Whether a thread computes, perhaps for nobody any more."""
        return any(job.running() for job in tuple(self._jobs))  # which the threads change

    def end(self) -> None:
        """Refuse the requests that are not answered yet."""
        if not self._end.done():
            self._end.set_result(None)

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
        waited: Waited | None = None,
    ) -> Response:
        """Compute some items at a time in a thread, until the client has gone or the server ends.

        Args:
            request: whose body has been read.
            served: the model.
            name: of what was found, in the answer.
            items: what the body has.
            compute: yields what is found for each of some items.
            waited: is told when nobody waits for the answer any more; ``compute`` may ask it.

        Raises:
            Refusal: too many requests wait, an item is not what the model reads, or the server ends.
        """
        self._engine.check_open()
        if self._waiting >= WORKERS + MOST_WAITING:
            raise Refusal(429, f"{self._waiting} requests wait to be computed, the most that may; try again soon")
        found, waited = list[str](), waited or Waited()
        self._waiting += 1
        try:
            with watched(Client(request.receive, waited.over)):
                for part in _parts(items):
                    job = self._threads.submit(lambda part=part: [*map(_json, compute(part))])  # type: ignore[misc]
                    self._jobs.add(job)
                    job.add_done_callback(self._jobs.discard)
                    computed: asyncio.Future[Any] = asyncio.wrap_future(job)
                    await asyncio.wait([computed, self._end], return_when=asyncio.FIRST_COMPLETED)
                    if not computed.done():
                        waited.over.set()
                        computed.cancel()
                        raise draining()
                    found += computed.result()
                    if waited.over.is_set():
                        break
        except Left:
            pass
        except GatewiseError as error:
            raise of_error(error) from None
        finally:
            self._waiting -= 1
        content = f'{{"model":{encode(served.name)},"{name}":[{",".join(found)}]}}'
        return Response(content, media_type="application/json")


def _parts(items: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield the items some at a time, by their number and their length."""
    start = total = 0
    for place, item in enumerate(items):
        if place > start and (place - start == BATCH or total + len(item) > BATCH_STEPS):
            yield items[start:place]
            start, total = place, 0
        total += len(item)
    if len(items):
        yield items[start:]


def _json(value: Any) -> str:
    """Return an answer as JSON; a long one bit by bit, so that other threads have their turn."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{encode(name)}:{_json(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list) and len(value) > BATCH:
        some = (value[start : start + BATCH] for start in range(0, len(value), BATCH))
        return "[" + ",".join(encode(one)[1:-1] for one in some) + "]"
    return encode(value)


def _check_length(one: Sequence[Any], name: str) -> None:
    """Check that a sequence is not longer than what is read in one go."""
    if len(one) > LONGEST_SEQUENCE:
        raise invalid(f"{name} has {len(one):,} steps; expected at most {LONGEST_SEQUENCE:,}: divide it")


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
