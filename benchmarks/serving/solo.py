"""What a session gives on its own: the same operations, one after another, by ``gatewise.runtime`` alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatewise import runtime
from gatewise.runtime.generation import start_of
from gatewise.runtime.sampling import Sampler


@dataclass(frozen=True)
class Feed:
    """Ids that are read."""

    ids: tuple[int, ...]

    def body(self) -> dict[str, Any]:
        """Return the body of the request."""
        return {"tokens": list(self.ids)}


@dataclass(frozen=True)
class Generate:
    """Tokens that are drawn."""

    count: int
    seed: int = 0
    temperature: float = 1.0
    top_k: int | None = None

    def body(self) -> dict[str, Any]:
        """Return the body of the request."""
        more = {} if self.top_k is None else {"top_k": self.top_k}
        return {"max_tokens": self.count, "seed": self.seed, "temperature": self.temperature, **more}


Operation = Feed | Generate


class Solo:
    """A language model in this process.

    Args:
        run: its folder or file.
    """

    def __init__(self, run: Path) -> None:
        model = runtime.load(run)
        assert isinstance(model, runtime.LanguageModel)
        self.model, self.vocabulary = model, model.vocabulary

    def fresh(self) -> runtime.State:
        """Return the state of a new session."""
        state = self.model.initial_state()
        self.model.read([start_of(self.vocabulary)], state)
        return state

    def do(self, state: runtime.State, operation: Operation) -> list[int]:
        """Do an operation on a state; return the tokens read or written."""
        if isinstance(operation, Feed):
            self.model.read(list(operation.ids), state)
            return list(operation.ids)
        sampler = Sampler(operation.temperature, operation.top_k, None, operation.seed)
        logits, drawn = self.model.outputs([state])[0], list[int]()
        bos, eos = self.vocabulary.bos_id, self.vocabulary.eos_id
        while len(drawn) < operation.count:
            if bos is not None:
                logits[bos] = -np.inf
            drawn.append(sampler.draw(logits))
            logits = self.model.step(np.array(drawn[-1:]), [state])[0]
            if bos is not None and drawn[-1] == eos:
                state.reset()
                logits = self.model.read([bos], state)
        return drawn

    def after(self, operations: Sequence[Operation]) -> tuple[runtime.State, list[int]]:
        """Return the state and all tokens of a session after some operations."""
        state, tokens = self.fresh(), list[int]()
        for operation in operations:
            tokens += self.do(state, operation)
        return state, tokens

    def reading(self, tokens: Sequence[int]) -> runtime.State:
        """Return the state of a session that has read these tokens."""
        state = self.fresh()
        if tokens:
            self.model.read(list(tokens), state)
        return state
