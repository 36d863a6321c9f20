"""What a request on a session asks the engine to do."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from gatewise.runtime import LanguageModel, SequenceClassifier, SequenceRegressor, Tagger, TextClassifier
from gatewise.runtime.level import split_lines
from gatewise.serving.bodies import whole
from gatewise.serving.catalog import Served
from gatewise.serving.engine import Engine
from gatewise.serving.following import Followed
from gatewise.serving.refusals import invalid
from gatewise.serving.sessions import Session, Sessions
from gatewise.serving.work import Work, Writing


class Operations:
    """Makes works from bodies that fit their schemas.

    Args:
        engine, sessions: those of the server.
    """

    def __init__(self, engine: Engine, sessions: Sessions) -> None:
        self.engine, self.sessions = engine, sessions

    def followed(self, session: Session, work: Work) -> Followed:
        """Return an operation whose events can be followed."""
        return Followed(self.engine, self.sessions, session, work)

    def feed(self, session: Session, asked: dict[str, Any], *, each: bool) -> Work:
        """Return the reading of what a body says.

        Args:
            session: which the caller owns.
            asked: of the schema ``FEED``.
            each: whether each step is shown.

        Raises:
            Refusal: the body has not exactly one kind of input, or not one that the model reads.
        """
        served = session.model
        given = [name for name in ("text", "tokens", "words", "inputs") if name in asked]
        reads = _reads(served)
        if len(given) != 1 or given[0] not in reads:
            found = " and ".join(map(repr, given)) or "no input"
            raise invalid(f"the body has {found}; expected {' or '.join(map(repr, reads))} for a {served.model.task}")
        restarts, inputs = _inputs(served, asked[given[0]])
        if not len(inputs):
            raise invalid(f"{given[0]} is empty; expected at least one token to read")
        work = Work(
            served, served.fresh_state() if restarts else session.value.copy(), inputs, each=each or asked["gates"],
            gates=asked["gates"], top=whole(asked["top"]) or 0, position=session.position,
            fresh_line=restarts or session.fresh_line,
        )  # fmt: skip
        if not work.each and isinstance(served.model, LanguageModel):
            work.fresh_line = int(inputs[-1]) == served.model.vocabulary.eos_id
        return work

    def generate(self, session: Session, asked: dict[str, Any], *, each: bool) -> Work:
        """Return the writing of what a body says.

        Args:
            session: which the caller owns.
            asked: of the schema ``GENERATE``.
            each: whether each token is shown.

        Raises:
            Refusal: the model is no language model.
        """
        served = session.model
        if not served.is_language_model:
            raise invalid(f"{served.name!r} is a {served.model.task}; expected a language model to generate text")
        return Work(
            served, session.value.copy(), writing=writing(asked), each=each, gates=asked["gates"],
            top=whole(asked["top"]) or 0, position=session.position, fresh_line=session.fresh_line,
        )  # fmt: skip

    def resumed(self, session: Session) -> Work:
        """Return the generation that a session was at."""
        assert session.work
        return session.work

    async def reset(self, session: Session) -> int:
        """Go back to the state before the first input; return the position, 0."""
        await self.sessions.commit(session, Work(session.model, session.model.fresh_state()))
        return 0


def writing(asked: dict[str, Any], seed_offset: int = 0) -> Writing:
    """Return what a body says about sampling.

    Args:
        asked: with what ``SAMPLING`` describes, and ``max_tokens``.
        seed_offset: added to the seed.
    """
    seed, stop = whole(asked.get("seed")), asked.get("stop") or ()
    return Writing(
        whole(asked["max_tokens"]) or 0,
        asked["temperature"],
        whole(asked.get("top_k")),
        asked.get("top_p"),
        None if seed is None else (seed + seed_offset) % 2**63,
        (stop,) if isinstance(stop, str) else stop,
    )


def size_of(asked: dict[str, Any]) -> int:
    """Return how much a body asks to read, in characters or numbers, about."""
    given = [value for value in asked.values() if value and isinstance(value, str | list)]
    return sum(sum(map(len, one)) if isinstance(one[0], list | str) else len(one) for one in given)


def checked_ids(model: LanguageModel, given: Iterable[float]) -> list[int]:
    """Return token ids, for which JSON may write 5.0.

    Raises:
        Refusal: the vocabulary has not as many tokens.
    """
    ids = [int(token) for token in given]
    if max(ids, default=0) >= len(model.vocabulary):
        raise invalid(f"the id {max(ids)} is out of range; the vocabulary has {len(model.vocabulary)} tokens")
    return ids


def _reads(served: Served) -> list[str]:
    if isinstance(served.model, LanguageModel):
        return ["text", "tokens"]
    return ["text", "words"] if isinstance(served.model, Tagger | TextClassifier) else ["inputs"]


def _inputs(served: Served, given: Any) -> tuple[bool, Any]:
    """Return whether the model starts anew with these inputs, and they."""
    model = served.model
    if isinstance(model, LanguageModel):
        if not isinstance(given, str):
            return False, checked_ids(model, given)
        sequences = model.vocabulary.sequences(given)
        return len(sequences) > 1, sequences[-1][1:-1]
    if isinstance(given, str):
        if isinstance(model, TextClassifier):
            return False, model.split(given)
        return False, [word for line in split_lines(given.split("\n")) for word in line]
    if isinstance(model, SequenceClassifier | SequenceRegressor):
        if any(len(row) != model.input_size for row in given):
            raise invalid(f"a row has not {model.input_size} numbers; expected {model.input_size} in each")
        return False, np.array(given, np.float64)
    return False, given
