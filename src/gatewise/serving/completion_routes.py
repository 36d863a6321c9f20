"""``/v1/completions``, in the format of OpenAI's API: text without a session."""

import asyncio
import math
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gatewise.runtime import LanguageModel
from gatewise.runtime.generation import read_first
from gatewise.runtime.vocabulary import EOS
from gatewise.serving import schemas
from gatewise.serving.bodies import beside, read_json, size_of, whole
from gatewise.serving.catalog import Catalog, Served
from gatewise.serving.engine import Engine
from gatewise.serving.following import Client, as_text, watched
from gatewise.serving.operations import checked_ids, writing
from gatewise.serving.refusals import Refusal, invalid
from gatewise.serving.server_events import EventStream
from gatewise.serving.settings import MOST_ROWS
from gatewise.serving.work import Work


@dataclass
class Choice:
    """One continuation of one prompt.

    Attributes:
        work: reads the prompt, and writes.
        prompt: its text, where it is part of the answer; else "".
        count: the tokens of the prompt.
        written: how many tokens were written.
        text: what was written and not taken, without a stop.
        tokens: those not taken, each with its text, log-probability and alternatives.
        offset: where the next of them begins.
        place: the position of the last event.
    """

    work: Work
    prompt: str
    count: int
    written: int = 0
    text: str = ""
    tokens: list[tuple[str, float, dict[str, float]]] = field(default_factory=list)
    offset: int = 0
    place: int = 0
    _ended: bool = False

    def __post_init__(self) -> None:
        assert self.work.writing
        self.writing, self.offset = self.work.writing, len(self.prompt)
        self._begins_line = self.work.began_line

    def read_events(self) -> None:
        """Read the new events."""
        for position, event in self.work.events:
            if position > self.place:
                self.place = position
                self.written += 1
                self.tokens.append((event["text"], _log(event["probability"]), self._top(event)))
                self._begins_line = event["text"] == "\n"
                if not self._ended:
                    self.text += event["text"]
        self.work.sent = self.place
        if ends := [at for at in (self.text.find(one) for one in self.writing.stop) if at >= 0]:
            self.text, self._ended = self.text[: min(ends)], True

    def _top(self, event: dict[str, Any]) -> dict[str, float]:
        """Return the log-probabilities of the most probable tokens and of the one drawn, by the text that each adds."""
        vocabulary = self.work.served.model.vocabulary  # type: ignore[attr-defined]
        before = "" if self._begins_line else vocabulary.separator
        found = {"\n" if text == EOS else f"{before}{text}": _log(p) for text, p in event.get("top", [])}
        return {**found, event["text"]: _log(event["probability"])}

    def take(self, last: bool) -> str:
        """Take the text; unless it is the last, without what may become a stop."""
        end = len(self.text)
        if not last and not self._ended:
            held = (n for one in self.writing.stop for n in range(1, len(one)) if self.text.endswith(one[:n]))
            end -= max(held, default=0)
        text, self.text = self.text[:end], self.text[end:]
        return text

    def shown(self, k: int, text: str, logprobs: int | None, last: bool) -> dict[str, Any]:
        """Return a part of the answer, with the tokens that were not taken."""
        reason = ("stop" if self.writing.stopped else "length") if last else None
        found: dict[str, Any] = {"index": k, "text": text, "logprobs": None, "finish_reason": reason}
        some, self.tokens = self.tokens, []
        if logprobs is not None:
            offsets = [self.offset, *(self.offset + n for n in accumulate(len(one[0]) for one in some))]
            self.offset = offsets.pop()
            found["logprobs"] = {
                "tokens": [one[0] for one in some],
                "token_logprobs": [one[1] for one in some],
                "top_logprobs": [one[2] for one in some] if logprobs else None,
                "text_offset": offsets,
            }
        return found


class CompletionRoutes:
    """The route of completions.

    Args:
        catalog, engine: those of the server.
    """

    def __init__(self, catalog: Catalog, engine: Engine) -> None:
        self._catalog, self._engine = catalog, engine

    async def create(self, request: Request) -> Response:
        """Continue texts."""
        asked = await read_json(request, schemas.COMPLETION)
        served = self._catalog.choose(asked.get("model"), lambda one: one.is_language_model, "a language model")
        changed = asyncio.Event()
        choices = await beside(size_of(asked.get("prompt")), lambda: _choices(served, asked, changed))
        about = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.name,
        }
        if asked["stream"]:
            with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))

            def pieces(gone: Callable[[], bool]) -> AsyncGenerator[str, None]:
                return self._stream(choices, about, changed, asked.get("logprobs"), with_usage, gone)

            return EventStream(pieces, str, changed)
        with watched(Client(request.receive, changed)) as client:
            async for _ in self._follow(choices, changed, lambda: client.gone):
                pass
        logprobs = asked.get("logprobs")
        found = [choice.shown(k, choice.prompt + choice.take(True), logprobs, True) for k, choice in enumerate(choices)]
        return JSONResponse({**about, "choices": found, "usage": _usage(choices)})

    async def _follow(
        self, choices: list[Choice], changed: asyncio.Event, gone: Callable[[], bool]
    ) -> AsyncGenerator[list[tuple[int, Choice]], None]:
        """Do the works; yield the choices that have something new, until all have ended or the client has gone.

        Raises:
            Refusal: the server does not take them, or one failed.
        """
        engine, going = self._engine, dict(enumerate(choices))
        try:
            for choice in choices:
                engine.submit(choice.work)
            while going and not gone():
                news = [(k, choice) for k, choice in going.items()
                        if not choice.work.active or choice.place < choice.work.told]  # fmt: skip
                for k, choice in news:
                    blocked, ended = choice.work.blocked, not choice.work.active
                    choice.read_events()
                    if blocked:
                        engine.wake()
                    if ended:
                        del going[k]
                        if choice.work.problem:
                            raise choice.work.problem
                        if not choice.work.ended:
                            raise Refusal(503, "the server is shutting down; try again when it is back")
                if news:
                    yield news
                if going and not any(not choice.work.active for choice in going.values()):
                    await changed.wait()
                    changed.clear()
        finally:
            for choice in choices:
                if choice.work.active:
                    await asyncio.shield(asyncio.ensure_future(engine.pause(choice.work)))

    async def _stream(
        self,
        choices: list[Choice],
        about: dict[str, Any],
        changed: asyncio.Event,
        logprobs: int | None,
        with_usage: bool,
        gone: Callable[[], bool],
    ) -> AsyncGenerator[str, None]:
        begun, prompts = False, {k: choice.prompt for k, choice in enumerate(choices)}
        try:
            async for news in self._follow(choices, changed, gone):
                written = list[str]()
                for k, choice in news:
                    last = not choice.work.active
                    text = prompts.pop(k, "") + choice.take(last)
                    if text or last:
                        written.append(_data({**about, "choices": [choice.shown(k, text, logprobs, last)]}))
                if written:
                    begun = True
                    yield "".join(written)
        except Refusal as refusal:
            if not begun:
                raise
            yield _data(refusal.as_json())
            return
        if with_usage:
            yield _data({**about, "choices": [], "usage": _usage(choices)})
        yield "data: [DONE]\n\n"


def _choices(served: Served, asked: dict[str, Any], changed: asyncio.Event) -> list[Choice]:
    """Return what a body asks for: n continuations of each prompt.

    Raises:
        Refusal: a prompt is empty or has unknown ids, or there are too many.
    """
    model: LanguageModel = served.model  # type: ignore[assignment]
    given = asked.get("prompt")
    several = isinstance(given, list) and not isinstance(given[0], int | float)
    prompts: list[Any] = given if several else [given]  # type: ignore[assignment]
    if len(prompts) * whole(asked["n"]) > MOST_ROWS:  # type: ignore[operator]
        raise invalid(f"{len(prompts)} prompts, n = {asked['n']}; expected at most {MOST_ROWS} continuations")
    choices = list[Choice]()
    for prompt in prompts:
        # A new state has read the first id of a text.
        ids = checked_ids(model, prompt) if isinstance(prompt, list) else read_first(model.vocabulary, prompt)[1:]
        for k in range(int(asked["n"])):
            work = Work(
                served, served.fresh_state(), ids, writing(asked, k), each=True, quiet=True,
                top=whole(asked.get("logprobs")) or 0, fresh_line=_fresh_line(model, ids, prompt), changed=changed,
            )  # fmt: skip
            echoed = prompt if isinstance(prompt, str) else model.vocabulary.decode(ids)
            choices.append(Choice(work, echoed if asked["echo"] else "", len(ids)))
    return choices


def _fresh_line(model: LanguageModel, ids: list[int], prompt: object) -> bool:
    """Return whether what follows a prompt needs no separator before it."""
    if not ids:
        return prompt is None
    if isinstance(prompt, str) and model.vocabulary.separator and prompt[-1].isspace():
        return True
    return ids[-1] == model.vocabulary.eos_id


def _usage(choices: list[Choice]) -> dict[str, int]:
    read, written = sum(choice.count for choice in choices), sum(choice.written for choice in choices)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _log(p: float) -> float:
    return math.log(p) if p > 0 else -9999.0  # what JSON can hold, as OpenAI writes it


def _data(content: dict[str, Any]) -> str:
    return f"data: {as_text(content)}\n\n"
