"""An operation on a state: inputs that are read, then tokens that are written. The engine does it, step by step."""

import asyncio
import base64
import secrets
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.runtime.language_model import LanguageModel
from gatewise.runtime.model import State
from gatewise.runtime.sampling import Sampler
from gatewise.serving.answers import answer
from gatewise.serving.catalog import Served
from gatewise.serving.refusals import Refusal

UNSENT, UNSENT_BYTES = 256, 1 << 18
"""The events, and about how many bytes of gates, that may wait for a client; then the operation waits, too."""
SAVED_BYTES = 1 << 20
"""About how many bytes of the latest events are stored with a session: more than are on their way to a client."""
KEPT = 8
"""How many times as many events an operation keeps for a client that connects again: what buffers hold, and more."""


class Writing:
    """Tokens to draw: how, how many, and those drawn so far.

    Args:
        max_tokens, temperature, top_k, top_p, seed: as those of ``LanguageModel.generate``; None draws a seed.
        stop: texts of which the first to appear ends the writing.
        drawn: tokens drawn before, by another process: the numbers that drew them are skipped.
        stopped: whether a client has ended it.
    """

    def __init__(
        self,
        max_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        drawn: Sequence[int] = (),
        stopped: bool = False,
    ) -> None:
        self.max_tokens = max_tokens
        self.seed = secrets.randbits(32) if seed is None else seed
        self.sampler = Sampler(temperature, top_k, top_p, self.seed)
        self.stop, self._longest, self._tail = stop, max(map(len, stop), default=0), ""
        self.options = {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.drawn, self.stopped = list(drawn), stopped
        if temperature > 0:
            for _ in drawn:
                self.sampler.uniform()

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to draw."""
        return self.stopped or len(self.drawn) >= self.max_tokens

    def add(self, token: int, text: str) -> None:
        """Take a token that was drawn and read."""
        self.drawn.append(token)
        if self.stop:
            tail = self._tail + text
            self.stopped = any(one in tail for one in self.stop)
            self._tail = tail[-self._longest :]


class Work:
    """An operation on a state.

    Only the engine changes it while it is active; only the event loop before and after.

    Args:
        served: the model.
        state: changed in place.
        inputs: what to read: ids, words, or rows of numbers (n, I).
        writing: what to write then; of a language model.
        each: whether there is an event for each step.
        quiet: whether reading needs no events, whatever ``each`` says.
        gates: whether events show the gates.
        top: how many probable tokens they name.
        fresh_line: whether the next token needs no separator before it.
        began_line: the same, when the first token was written.
        changed: set when there are new events, or the work is no longer active; several works may share one.

    Attributes:
        position: the inputs that the state has read since its session began.
        events: the latest, each (position, event).
        outputs: after the last step (K,); of a language model, logits.
        tags: of a tagger, the tag of each word.
        shown: what the last step shows besides its result.
        told, sent: the positions of the last event, and of the last that the client was sent.
        problem: why it failed.
        active: whether the engine has it.
    """

    def __init__(
        self,
        served: Served,
        state: State,
        inputs: Sequence[Any] | npt.NDArray[Any] = (),
        writing: Writing | None = None,
        *,
        each: bool = False,
        quiet: bool = False,
        gates: bool = False,
        top: int = 0,
        position: int = 0,
        fresh_line: bool = True,
        changed: asyncio.Event | None = None,
    ) -> None:
        self.served, self.state, self.writing = served, state, writing
        self.inputs, self.place = inputs, 0
        self.each, self.quiet, self.gates, self.top = each, quiet, gates, top
        self.position = self.told = self.sent = position
        self.fresh_line = self.began_line = fresh_line
        size = served.gates_size if gates else 1
        self._window = min(max(UNSENT_BYTES // size, 4), UNSENT)
        self.events = deque[tuple[int, dict[str, Any]]](maxlen=KEPT * self._window)
        self.outputs: npt.NDArray[np.floating] | None = None
        self.tags = list[str]()
        self.shown: dict[str, Any] = {}
        self.problem: Refusal | None = None
        self.active = self.to_pause = False
        self.changed = changed or asyncio.Event()
        self.began, self.last_event = time.monotonic(), 0.0

    @property
    def unread(self) -> int:
        """How many inputs are still to be read."""
        return len(self.inputs) - self.place

    @property
    def ended(self) -> bool:
        """Whether all is done, or nothing more can be."""
        return self.problem is not None or (not self.unread and (self.writing is None or self.writing.ended))

    @property
    def blocked(self) -> bool:
        """Whether the client has to take events first."""
        return self.each and self.told - self.sent >= self._window

    def piece(self, token: int) -> str:
        """Return the text that a token adds, with the separator before it."""
        vocabulary = self.served.model.vocabulary  # type: ignore[attr-defined]
        if token == vocabulary.eos_id:
            self.fresh_line = True
            return "\n"
        before = "" if self.fresh_line else vocabulary.separator
        self.fresh_line = False
        return f"{before}{vocabulary.tokens[token]}"

    def text(self) -> str:
        """Return what was written: the text that all tokens add to what was read before."""
        assert self.writing
        line, self.fresh_line = self.fresh_line, self.began_line
        text = "".join(map(self.piece, self.writing.drawn))
        self.fresh_line = line
        return text

    def saved_events(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the latest events as JSON can hold them."""
        found, size = list[tuple[int, dict[str, Any]]](), 0
        for position, event in reversed(self.events):
            gates = base64.b64encode(event.get("gates", b"")).decode()
            size += len(gates) + 120 + 25 * self.top
            if size > SAVED_BYTES:
                break
            found.append((position, {**event, "gates": gates} if gates else event))
        return found[::-1]

    def load_events(self, saved: Sequence[Any]) -> None:
        """Take events that ``saved_events`` returned, by another process."""
        for position, event in saved:
            gates = {"gates": base64.b64decode(event["gates"])} if "gates" in event else {}
            self.events.append((position, {**event, **gates}))

    def answer(self) -> dict[str, Any]:
        """Return what came of reading."""
        model = self.served.model
        if isinstance(model, LanguageModel):
            return {"tokens": [int(token) for token in self.inputs]}
        if self.tags:
            return {"tags": self.tags}
        return {} if self.outputs is None else answer(model, self.outputs)
