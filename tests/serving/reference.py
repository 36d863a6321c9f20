"""What the server must answer, computed with ``gatewise.runtime`` one token at a time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gatewise import runtime
from gatewise.runtime.generation import start_of
from gatewise.runtime.model import State
from gatewise.runtime.sampling import Sampler


@cache
def loaded(run: Path) -> Any:
    """The model of a run folder."""
    return runtime.load(run)


def started(model: Any) -> State:
    """The state of a new session."""
    state: State = model.initial_state()
    if isinstance(model, runtime.LanguageModel):
        model.read([start_of(model.vocabulary)], state)
    return state


@dataclass
class Token:
    """A token with its text, and the probabilities of all in its place."""

    id: int
    text: str
    p: Any
    trace: Any


def steps(
    model: runtime.LanguageModel, state: State, read: Sequence[int] = (), count: int = 0,
    sampler: Sampler | None = None, *, fresh_line: bool = True,
) -> Iterator[Token]:  # fmt: skip
    """Read tokens, then draw some, and change the state."""
    vocabulary, logits = model.vocabulary, model.outputs([state])[0]
    for k in range(len(read) + count):
        if vocabulary.bos_id is not None:
            logits[vocabulary.bos_id] = -np.inf
        p = np.exp(logits.astype(np.float64) - logits.max())
        p /= p.sum()
        token = read[k] if k < len(read) else sampler.draw(logits)  # type: ignore[union-attr]
        text = "\n" if token == vocabulary.eos_id else ("" if fresh_line else vocabulary.separator) + (
            vocabulary.tokens[token]
        )  # fmt: skip
        fresh_line = token == vocabulary.eos_id
        trace = model.trace([token], state)
        logits = model.outputs([state])[0]
        yield Token(token, text, p, trace)
        if k >= len(read) and token == vocabulary.eos_id and vocabulary.bos_id is not None:
            replace(state, started(model))
            logits = model.outputs([state])[0]


def replace(state: State, other: State) -> None:
    """Let a state be what another is."""
    state._handle = other._handle


def gates_of(trace: Any, gates: Sequence[Any]) -> Iterator[float]:
    """The numbers that the bytes of an event stand for, array by array."""
    for gate in gates:
        for x in trace[gate["name"]].reshape(-1).tolist():
            yield math.tanh(x) if gate.get("squash") == "tanh" else x
