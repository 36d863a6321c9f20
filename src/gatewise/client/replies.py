"""The server's answers as values."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gatewise.client.transport import Reply
from gatewise.errors import ServerError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Gates = Mapping[str, "npt.NDArray[np.float32]"]


@dataclass(frozen=True)
class Token:
    """A token that a session's language model read or wrote.

    Attributes:
        position: how many inputs the session has read with it.
        token: its id.
        text: what it adds to the text, with the separator before it.
        probability: what the model gave it before it was read, at temperature 1.
        top: the most probable tokens at its place, each with its probability, if requested.
        read: whether it was read, not written.
        gates: of the step that read it, each (L, H), to 1/255 of its range, if requested: an LSTM's i, f, g,
            o, c, h, with tanh(c) as c; a GRU's r, z, n, h; an RNN's h, with tanh(h) for a relu.
    """

    position: int
    token: int
    text: str
    probability: float
    top: Sequence[tuple[str, float]] = ()
    read: bool = False
    gates: Gates | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Step:
    """An input that a session's tagger, classifier or regressor read.

    Attributes:
        position: how many inputs the session has read with it.
        word: of a model of text.
        label: of a classifier, after this input.
        tag: of a tagger.
        probabilities: of the labels or tags.
        prediction: of a regressor, H numbers in the target's units.
        gates: as those of ``Token``.
    """

    position: int
    word: str | None = None
    label: int | str | None = None
    tag: str | None = None
    probabilities: Mapping[str, float] | None = None
    prediction: Sequence[float] | None = None
    gates: Gates | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Answer:
    """What a session answers after it has read.

    Attributes:
        position: how many inputs it has read.
        tokens: the ids that a language model read.
        label: of a classifier, after the last input.
        probabilities: of its labels.
        tags: of a tagger, one for each word.
        prediction: of a regressor, H numbers in the target's units.
    """

    position: int
    tokens: Sequence[int] = ()
    label: int | str | None = None
    probabilities: Mapping[str, float] | None = None
    tags: Sequence[str] = ()
    prediction: Sequence[float] | None = None


@dataclass(frozen=True)
class TaggedSentence:
    """A sentence with its tags.

    Attributes:
        words: its T words.
        tags: one for each.
        probabilities: of the tags of each word, if requested; with a CRF, its marginals.
    """

    words: Sequence[str]
    tags: Sequence[str]
    probabilities: Sequence[Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Classification:
    """What a classifier says of one text or sequence.

    Attributes:
        label: the most probable one, after the last step.
        probabilities: of each label, as text, after the last step.
        over_time: the probabilities after each step, if requested; otherwise only the last ones.
        words: what the text was split into.
    """

    label: int | str
    probabilities: Mapping[str, float]
    over_time: Sequence[Mapping[str, float]] = ()
    words: Sequence[str] | None = None


@dataclass(frozen=True)
class Score:
    """How well a language model predicts a text.

    Attributes:
        nll: the sum of the negative log-likelihoods in nats.
        tokens: how many were scored.
        perplexity: exp(nll / tokens).
    """

    nll: float
    tokens: int
    perplexity: float


def token(event: Reply, table: Sequence[Reply] | None, layers: int) -> Token:
    """Return the token of an event; ``table`` is the model's, of its gates."""
    return Token(
        event["position"],
        event["token"],
        event["text"],
        event["probability"],
        [(text, p) for text, p in event.get("top", ())],
        bool(event.get("read", False)),
        decoded(event, table, layers),
    )


def step(event: Reply, table: Sequence[Reply] | None, layers: int) -> Step:
    """Return the step of an event."""
    names = ("word", "label", "tag", "probabilities", "prediction")
    found = {name: event.get(name) for name in names}
    return Step(event["position"], **found, gates=decoded(event, table, layers))


def answer(reply: Reply) -> Answer:
    """Return the answer in the reply to ``feed``."""
    found = {name: reply[name] for name in ("label", "probabilities", "prediction") if name in reply}
    return Answer(reply["position"], reply.get("tokens", ()), tags=reply.get("tags", ()), **found)


def decoded(event: Reply, table: Sequence[Reply] | None, layers: int) -> Gates | None:
    """Return the gates of an event; None where it has none.

    Raises:
        ServerError: they do not fit the model.
    """
    sent: Any = event.get("gates")
    if sent is None or table is None:
        return None
    import numpy as np

    try:
        content = base64.b64decode(sent, validate=True)
    except (TypeError, binascii.Error):
        content = b""
    if not content or len(content) % (len(table) * layers):
        raise ServerError(f"the gates of position {event['position']} do not fit the model", code="answer")
    parts = np.frombuffer(content, np.uint8).reshape(len(table), layers, -1)
    return {
        about["name"]: np.float32(about["low"]) + part * np.float32((about["high"] - about["low"]) / 255)
        for about, part in zip(table, parts, strict=True)
    }
