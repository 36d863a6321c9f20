"""The engine: one thread that steps all ready operations together (continuous batching).

Each tick takes up to 64 ready rows of each model: those that write draw a token, and all read one input in a common
step. Inputs that need no event are read in pieces, a bounded time each. What a row computes does not depend on the
others, to the last bit; a row that fails, fails alone. A row whose client does not keep up waits, and no other with it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import GatewiseError
from gatewise.runtime.language_model import LanguageModel
from gatewise.runtime.sampling import draw_each, masses_of
from gatewise.runtime.tagger import Tagger
from gatewise.serving.answers import answer
from gatewise.serving.catalog import Served
from gatewise.serving.log import log_unforeseen
from gatewise.serving.metrics import Metrics
from gatewise.serving.refusals import Refusal, draining, of_error, unforeseen
from gatewise.serving.settings import MOST_ROWS, MOST_WAITING
from gatewise.serving.work import Work

TOGETHER = 8
"""Rows whose probabilities are computed at a time, so that they stay in the processor's cache."""
PIECE_SECONDS = 0.01
"""How long the reading of a piece may take."""

Event = tuple[int, dict[str, Any]]


class Engine(threading.Thread):
    """Does works; started by ``start``, ended by ``stop``.

    The methods are for the event loop, which alone touches works that are not active.
    """

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(name="engine", daemon=True)
        self._metrics, self._loop = metrics, asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._arrived = list[Work]()
        self._signal = self._stopping = self._pausing = False
        self._works = list[Work]()
        self._told = list[tuple[Work, list[Event], bool]]()
        self._pieces = dict[Served, int]()
        self._last = dict[Served, tuple[tuple[Work, ...], npt.NDArray[np.floating]]]()
        self.active = 0
        metrics.observe("running", "Operations that are read or written.", lambda: self.active)
        self.closed = False

    def submit(self, work: Work) -> None:
        """Start a work, or go on with one that was paused.

        Raises:
            Refusal: the server stops, or has too much to do.
        """
        self.check_open()
        if self.active >= MOST_WAITING:
            raise Refusal(429, f"{self.active} operations are running, the most that may; try again soon")
        self.active += 1
        work.active, work.to_pause, work.last_event = True, False, 0.0
        work.changed.clear()
        with self._condition:
            self._arrived.append(work)
            self._condition.notify()

    def check_open(self) -> None:
        """Check that new work is taken.

        Raises:
            Refusal: the server stops.
        """
        if self.closed:
            raise draining()

    def wake(self) -> None:
        """Look again at works that waited for their clients."""
        with self._condition:
            self._signal = True
            self._condition.notify()

    async def pause(self, work: Work) -> None:
        """Stop a work after the current step, and return when it has stopped."""
        work.to_pause = True
        self.wake()
        while work.active:
            await work.changed.wait()
            work.changed.clear()

    async def finish(self, work: Work, gone: Callable[[], bool]) -> bool:
        """Do a work; return whether it ended. It is paused when the client has gone.

        Raises:
            Refusal: the server stops or has too much to do, or the work failed.
        """
        self.submit(work)
        while work.active:
            await work.changed.wait()
            work.changed.clear()
            if gone() and work.active:
                await self.pause(work)
        if work.problem:
            raise work.problem
        return work.ended

    async def pause_all(self) -> None:
        """Stop all works after the current step, and return when they have stopped."""
        with self._condition:
            self._pausing = self._signal = True
            self._condition.notify()
        while self.active:
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """Pause all works, and end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    # The thread.

    def run(self) -> None:
        """Step until ``stop``."""
        while ready := self._ready():
            for served in dict.fromkeys(work.served for work in ready):
                some = [work for work in ready if work.served is served][:MOST_ROWS]
                try:
                    self._advance(served, some)
                except Exception as error:  # the thread must go on for the others
                    log_unforeseen("a step", error)
                    for work in some:
                        work.problem = unforeseen()
                if len(some) < len(self._works):
                    done = set(some)
                    self._works = [work for work in self._works if work not in done] + some  # their turn is over
            self._leave([work for work in self._works if work.ended])
        self._leave(self._works)

    def _ready(self) -> list[Work]:
        """Wait for works that can go on; return none when the thread is to end."""
        while True:
            with self._condition:
                if self._stopping:
                    self._works += self._arrived
                    return []
                self._works += self._arrived
                self._arrived.clear()
                self._signal = False
            self._leave([work for work in self._works if work.to_pause or work.ended or self._pausing])
            if ready := [work for work in self._works if not work.blocked]:
                return ready
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._arrived or self._signal)

    def _leave(self, works: Sequence[Work]) -> None:
        """Hand works back, and all events."""
        leaving = set(works)
        if leaving:
            self._works = [work for work in self._works if work not in leaving]
            for work in works:
                work.outputs = None if work.writing else work.outputs
                self._told.append((work, [], True))
        if self._told:
            told, self._told = self._told, []
            self._loop.call_soon_threadsafe(self._deliver, told)

    def _deliver(self, told: Sequence[tuple[Work, list[Event], bool]]) -> None:
        for work, events, left in told:
            work.events.extend(events)
            if left:
                work.active = False
                self.active -= 1
            if events or left:
                work.changed.set()

    def _advance(self, served: Served, works: Sequence[Work]) -> None:
        """Let some works of a model do a step, or read a piece."""
        self._metrics.rows.observe(len(works))
        tags = isinstance(served.model, Tagger)  # which are those of single steps
        silent = [work for work in works if work.unread and (work.quiet or not work.each) and not tags]
        stepping = [work for work in works if work not in silent] if silent else list(works)
        if stepping and isinstance(served.model, LanguageModel):
            self._step_tokens(served, served.model, stepping)
        elif stepping:
            self._step_inputs(served, stepping)
        if silent:
            self._read(served, silent)

    def _read(self, served: Served, works: Sequence[Work]) -> None:
        size = max(self._pieces.get(served, 64) // len(works), 1)
        pieces = [work.inputs[work.place : work.place + size] for work in works]
        began = time.perf_counter()
        done = self._together(served.model.read_each, works, pieces)
        took, count = time.perf_counter() - began, sum(map(len, pieces))
        self._pieces[served] = int(min(max(count * PIECE_SECONDS / took, 1), 2 * count + 64))
        for work, piece, outputs in zip(works, pieces, done, strict=True):
            if outputs is not None:
                work.place, work.position, work.outputs = work.place + len(piece), work.position + len(piece), outputs
                self._metrics.read.inc(len(piece))

    def _step_tokens(self, served: Served, model: LanguageModel, works: Sequence[Work]) -> None:
        """Draw a token for each work that writes, take the next input of the others, and read them."""
        if without := [work for work in works if work.outputs is None]:
            self._last.pop(served, None)
            for work, logits in zip(without, model.outputs([work.state for work in without]), strict=True):
                work.outputs = logits
        logits = self._stacked(served, works)
        if (bos := model.vocabulary.bos_id) is not None:
            logits[:, bos] = -np.inf
        tokens = [work.inputs[work.place] if work.unread else -1 for work in works]
        masses = np.full(len(works), np.nan)
        for row, token in _draw(works, logits, masses):
            tokens[row] = token
        told = [row for row, work in enumerate(works) if work.each and not work.problem]
        shown = _seen(model, logits, tokens, works, told, masses)
        going = [row for row, work in enumerate(works) if not work.problem]
        self._one_each(served, [works[row] for row in going], [tokens[row] for row in going])
        now, read, written = time.monotonic(), 0, 0
        for row in going:
            work, token = works[row], int(tokens[row])
            if work.problem:
                continue
            work.position += 1
            text, reads = work.piece(token), bool(work.unread)
            if reads:
                work.place += 1
                read += 1
            elif work.writing:
                if not work.writing.drawn:
                    self._metrics.first.observe(now - work.began)
                work.writing.add(token, text)
                written += 1
            if bos is not None and token == model.vocabulary.eos_id and not reads:
                work.state, work.outputs = served.fresh_state(), None
            if work.each:
                if work.last_event:
                    self._metrics.between.observe(now - work.last_event)
                work.last_event = now
                event = {"type": "token", "position": work.position, "token": token, "text": text, "read": reads}
                self._tell(work, {**event, **shown[row], **work.shown})
        self._metrics.read.inc(read)
        self._metrics.written.inc(written)

    def _step_inputs(self, served: Served, works: Sequence[Work]) -> None:
        """Read the next word or row of each work."""
        self._one_each(served, works, [work.inputs[work.place] for work in works])
        for work in works:
            if work.problem or work.outputs is None:
                continue
            item = work.inputs[work.place]
            work.place, work.position = work.place + 1, work.position + 1
            self._metrics.read.inc()
            found = answer(served.model, work.outputs)
            if "tag" in found:
                work.tags.append(found["tag"])
            if work.each:
                word = {"word": item} if isinstance(item, str) else {}
                self._tell(work, {"type": "step", "position": work.position, **word, **found, **work.shown})

    def _one_each(self, served: Served, works: Sequence[Work], items: Sequence[Any]) -> None:
        """Read one input of each work into its outputs; with ``gates``, show what is inside."""
        plain = [row for row, work in enumerate(works) if not work.gates]
        together = [works[row] for row in plain]
        found = self._together(served.model.step, together, [items[row] for row in plain])
        self._last.pop(served, None)
        if isinstance(found, np.ndarray) and not any(work.unread or work.ended for work in together):
            self._last[served] = tuple(together), found
        for work, outputs in zip(together, found, strict=True):
            work.outputs = outputs
        for work, item in zip(works, items, strict=True):
            if work.gates:
                self._alone(work, lambda work=work, item=item: _show(served, work, item))  # type: ignore[misc]

    def _stacked(self, served: Served, works: Sequence[Work]) -> npt.NDArray[np.floating]:
        """Return the outputs of some works, (B, K): without a copy, where they are those of one step."""
        before, matrix = self._last.get(served, ((), None))
        if matrix is None or before != tuple(works):
            matrix = np.stack([work.outputs for work in works])  # type: ignore[misc]
        return matrix

    def _together(
        self, compute: Callable[[Any, Sequence[Any]], npt.NDArray[np.floating]], works: Sequence[Work], items: list[Any]
    ) -> npt.NDArray[np.floating] | list[npt.NDArray[np.floating] | None]:
        """Compute a row for each work; where that fails, for each alone, so that no other work fails with it."""
        if not works:
            return []
        try:
            return compute(items, [work.state for work in works])
        except GatewiseError:
            return [
                self._alone(work, lambda work=work, item=item: compute([item], [work.state])[0])  # type: ignore[misc]
                for work, item in zip(works, items, strict=True)
            ]

    def _alone(self, work: Work, compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except GatewiseError as error:
            work.problem = of_error(error)
            return None

    def _tell(self, work: Work, event: dict[str, Any]) -> None:
        work.told = work.position
        self._told.append((work, [(work.position, event)], False))


def _show(served: Served, work: Work, item: Any) -> None:
    gates = served.gate_bytes(work.state, item)
    work.outputs, work.shown = served.model.outputs([work.state])[0], {"gates": gates}


def _draw(
    works: Sequence[Work], logits: npt.NDArray[np.floating], masses: npt.NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Draw a token for each work that writes, and has no problem then; return (row, token).

    Of rows drawn from all tokens at temperature 1, ``masses`` gets Σ exp(logits), where events show a probability.
    """
    rows = [row for row, work in enumerate(works) if not work.unread and work.writing]
    samplers = [works[row].writing.sampler for row in rows]  # type: ignore[union-attr]
    found = list[tuple[int, int]]()
    try:
        some = logits if len(rows) == len(logits) else logits[rows]
        sums = np.full(len(rows), np.nan)
        found += zip(rows, draw_each(samplers, some, sums), strict=True)
        masses[rows] = np.where([sampler.temperature == 1 for sampler in samplers], sums, np.nan)
    except GatewiseError:
        for row, sampler in zip(rows, samplers, strict=True):
            try:
                found.append((row, sampler.draw(logits[row])))
            except GatewiseError as error:
                works[row].problem = of_error(error)
    # Whether drawing needs the sum depends on the other rows; what is shown must not.
    shown = {row for row, _ in found if works[row].each}
    if lacking := [
        row for row, sampler in zip(rows, samplers, strict=True)
        if row in shown and sampler.whole and sampler.temperature == 1 and masses[row] != masses[row]
    ]:  # fmt: skip
        masses[lacking] = masses_of(logits[lacking])
    return found


def _seen(
    model: LanguageModel,
    logits: npt.NDArray[np.floating],
    tokens: Sequence[int],
    works: Sequence[Work],
    rows: Sequence[int],
    masses: npt.NDArray[np.float64],
) -> dict[int, dict[str, Any]]:
    """Return, for the tokens of some rows, their probability and the most probable ones in their place.

    ``masses`` has Σ exp(logits) of each row, or NaN where it is not known.
    """
    known = [row for row in rows if masses[row] == masses[row] and not works[row].top]
    p = np.exp(logits[known, [tokens[row] for row in known]].astype(np.float64)) / masses[known]
    found: dict[int, dict[str, Any]] = {row: {"probability": q} for row, q in zip(known, p.tolist(), strict=True)}
    rows = [row for row in rows if row not in found]
    for first in range(0, len(rows), TOGETHER):
        some = rows[first : first + TOGETHER]
        z = logits[some]
        z -= z.max(1, keepdims=True)
        p = np.exp(z)
        total = p.sum(1)
        chosen = (p[np.arange(len(some)), [tokens[row] for row in some]] / total).tolist()
        for k, row in enumerate(some):
            about: dict[str, Any] = {"probability": chosen[k]}
            if count := min(works[row].top, z.shape[1]):
                top = np.argpartition(z[k], -count)[-count:]
                top = top[np.argsort(-z[k, top], kind="stable")]
                mass = (p[k, top] / total[k]).tolist()
                about["top"] = [[model.vocabulary.tokens[t], q] for t, q in zip(top.tolist(), mass, strict=True)]
            found[row] = about
    return found
