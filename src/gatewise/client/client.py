"""The client of ``gatewise serve``."""

import math
import secrets
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gatewise.client.replies import Classification, Score, TaggedSentence
from gatewise.client.session import RECONNECTING, Session
from gatewise.client.transport import Reply, Transport, refusal
from gatewise.errors import ServerError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Client:
    """A client of ``gatewise serve``.

    Threads may share it. ``model`` may be left out wherever the server has exactly one model for the purpose. Results
    are those of ``gatewise.runtime``, to the last bit of what the server writes as JSON.

    >>> client = gatewise.Client("http://127.0.0.1:8000")
    >>> client.complete("the value of", max_tokens=20, seed=1)
    >>> with client.session() as session:
    ...     session.feed("the value of")
    ...     for token in session.stream(max_tokens=20, gates=True):
    ...         print(token.text, token.probability, token.gates["f"].mean())

    Args:
        url: the server's address; behind a proxy, with the path before the routes.
        key: the server's key; by default the environment variable ``GATEWISE_KEY``.
        timeout: seconds without a byte of the answer after which a request fails.
        retries: how many times a request is sent again if the server did nothing because it is full or shutting down;
            in between, the client waits as long as the server says, at most 10 seconds.

    Raises:
        MissingPackage: httpx is not installed (extra ``client``).
        UsageError: the address or the key is invalid. Of the methods: the server cannot take what was sent.
        ServerError: of the methods: the server cannot be reached, or does not do what was asked for another reason.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 60.0, retries: int = 3) -> None:
        self._transport = Transport(url, key, timeout, retries)

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; sessions stay on the server."""
        self._transport.close()

    def ready(self) -> bool:
        """Return whether the server takes work; False while it starts, shuts down, or is not there."""
        try:
            self._transport.send("GET", "/ready", retries=0)
        except ServerError as problem:
            if problem.code not in ("unreachable", "lost", "timeout", "draining", "answer"):
                raise
            return False
        return True

    def models(self) -> list[dict[str, Any]]:
        """Return what the server says about each of its models: ``id``, ``task``, ``cell``, ``streams`` and more."""
        return list(self._transport.ask("GET", "/v1/models")["data"])

    def model(self, name: str) -> dict[str, Any]:
        """Return what the server says about one model."""
        return self._transport.ask("GET", f"/v1/models/{quote(name, safe='')}")

    def complete(
        self,
        prompt: str | None = None,
        *,
        model: str | None = None,
        max_tokens: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
    ) -> str:
        """Return the continuation of a text, without the text itself.

        Args:
            prompt: the text; None starts a new one.
            model: the name of a language model.
            max_tokens: number of tokens; one for the end of a line counts.
            temperature: divides the logits; 0 always takes the most probable token.
            top_k: sample from the k most probable tokens only.
            top_p: sample from the smallest set of tokens whose probabilities reach p.
            seed: None uses a new seed.
            stop: up to 4 texts, of which the first to appear ends the continuation; it is left out.
        """
        body = _completion(prompt, model, max_tokens, temperature, top_k, top_p, seed, stop)
        reply = self._transport.ask("POST", "/v1/completions", body)
        return str(_first(reply)["text"])

    def stream(
        self,
        prompt: str | None = None,
        *,
        model: str | None = None,
        max_tokens: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
    ) -> Iterator[str]:
        """Yield the continuation of a text piece by piece, as soon as each is there; arguments as for ``complete``.

        If the connection is lost, the client requests the same continuation again, which the seed determines, and
        yields the rest. The ``stream`` of a session computes nothing twice.
        """
        seed = secrets.randbits(32) if seed is None else seed
        body = _completion(prompt, model, max_tokens, temperature, top_k, top_p, seed, stop)
        given, tries = "", iter(RECONNECTING)
        while True:
            before = len(given)
            try:
                for piece in self._pieces(body, given):
                    given += piece
                    yield piece
                return
            except ServerError as problem:
                if problem.code not in ("lost", "timeout", "draining") and (problem.code != "unreachable" or not given):
                    raise
                if len(given) > before:
                    tries = iter(RECONNECTING)
                if (delay := next(tries, None)) is None:
                    raise
                time.sleep(delay)

    def _pieces(self, body: dict[str, Any], given: str) -> Iterator[str]:
        """Yield the pieces of a completion after those that were given before."""
        response = self._transport.send(
            "POST", "/v1/completions", {**body, "stream": True}, headers={"Accept": "text/event-stream"}, stream=True
        )
        try:
            for name, data in self._transport.events(response):
                if name == "[DONE]":
                    if given:
                        break
                    return
                if "error" in data:
                    raise refusal(str(data["error"]["code"]), str(data["error"]["message"]))
                piece = str(_first(data)["text"]) if data["choices"] else ""
                same = min(len(piece), len(given))
                if piece[:same] != given[:same]:
                    break
                given = given[same:]
                if len(piece) > same:
                    yield piece[same:]
            else:
                raise ServerError(f"the connection to {self._transport.url} ended before the stream did", code="lost")
        finally:
            response.close()
        raise ServerError("the server's model has changed, so that the continuation cannot go on", code="no_generation")

    def session(self, model: str | None = None, *, id: str | None = None) -> Session:
        """Return a new session, or one that exists.

        Args:
            model: the name of a model that reads step by step (``streams`` in ``models``).
            id: the id of an existing session to use instead.
        """
        if id is None:
            return Session(
                self._transport, self._transport.ask("POST", "/v1/sessions", {"model": model}, repeatable=False)
            )
        if model is not None:
            raise UsageError("a session that exists has its model; expected either model or id")
        return Session(self._transport, self._transport.ask("GET", f"/v1/sessions/{quote(id, safe='')}"))

    def tag(
        self, sentences: str | Sequence[Sequence[str]], *, model: str | None = None, probabilities: bool = False
    ) -> list[TaggedSentence]:
        """Tag the words of sentences.

        Args:
            sentences: the words of each sentence, or a text, which the server splits.
            model: the name of a tagger.
            probabilities: whether to return those of all tags.
        """
        given = {"text": sentences} if isinstance(sentences, str) else {"sentences": _rows(sentences, "sentences")}
        body = {**given, "model": model, "probabilities": probabilities}
        found = self._transport.ask("POST", "/v1/tag", body)["sentences"]
        return [TaggedSentence(one["words"], one["tags"], one.get("probabilities")) for one in found]

    def classify(self, inputs: Any, over_time: bool = False, *, model: str | None = None) -> list[Classification]:
        """Classify texts or sequences of numbers.

        Args:
            inputs: texts, lists of words, or sequences (T, I) of numbers; an array (N, T, I), too.
            over_time: whether to return the probabilities after each step.
            model: the name of a classifier.
        """
        body = {"model": model, "inputs": _rows(inputs, "inputs"), "over_time": over_time}
        found = self._transport.ask("POST", "/v1/classify", body)["results"]
        return [
            Classification(one["label"], p[-1], p, one.get("words"))
            for one in found
            for p in [one["probabilities"] if over_time else [one["probabilities"]]]
        ]

    def forecast(self, values: Any, steps: int | None = None, *, model: str | None = None) -> "npt.NDArray[np.float64]":
        """Return the values of the target that follow a series, (steps,).

        Args:
            values: (N,) or (N, K), as for ``gatewise.runtime.SequenceRegressor.forecast``, but no table; NaN or None
                for what is not known.
            steps: how many; the model's horizon by default.
            model: the name of a forecaster.
        """
        import numpy as np

        body = {"model": model, "values": _with_gaps(_rows(values, "values")), "steps": steps}
        return np.array(self._transport.ask("POST", "/v1/forecast", body)["values"], np.float64)

    def predict(self, inputs: Any, *, model: str | None = None) -> "npt.NDArray[np.float64]":
        """Return the predictions for sequences of numbers, (N,) or, where H exceeds 1, (N, H).

        Args:
            inputs: (N, T, I) numbers, or N sequences (T, I).
            model: the name of a regressor.
        """
        import numpy as np

        body = {"model": model, "inputs": _rows(inputs, "inputs")}
        found = np.array(self._transport.ask("POST", "/v1/forecast", body)["predictions"], np.float64)
        return found[:, 0] if found.shape[1:] == (1,) else found

    def score(self, texts: Sequence[str], *, model: str | None = None) -> list[Score]:
        """Score texts, each as ``gatewise.runtime.LanguageModel.perplexity`` reads it.

        Args:
            texts: the texts.
            model: the name of a language model.
        """
        found = self._transport.ask("POST", "/v1/score", {"model": model, "texts": _rows(texts, "texts")})["results"]
        return [Score(one["nll"], one["tokens"], one["perplexity"]) for one in found]


def _completion(
    prompt: str | None,
    model: str | None,
    max_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    stop: str | Sequence[str] | None,
) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": stop if stop is None or isinstance(stop, str) else list(stop),
    }


def _first(reply: Reply) -> Reply:
    choice: Reply = reply["choices"][0]
    return choice


def _rows(given: Any, name: str) -> Any:
    """Return a list of several; arrays in it are written as lists.

    Raises:
        UsageError: it is a single text.
    """
    if isinstance(given, str | bytes):
        raise UsageError(f"{name} is a single text; expected a list of them")
    return given.tolist() if hasattr(given, "tolist") else list(given)


def _with_gaps(values: Any) -> Any:
    """Return numbers in lists, with None for NaN, which JSON has not."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, list | tuple):
        return [_with_gaps(one) for one in values]
    return None if isinstance(values, float) and math.isnan(values) else values
