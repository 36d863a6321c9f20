"""A session on the server: a state that reads and writes, and streams that go on after a lost connection."""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gatewise.client import replies
from gatewise.client.replies import Answer, Step, Token
from gatewise.client.transport import Reply, Transport, refusal
from gatewise.errors import ServerError, UsageError

if TYPE_CHECKING:
    import httpx

RECONNECTING = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0)
"""Seconds before each try to take up a generation whose connection was lost; a server restarts meanwhile."""
_MAY_PASS = {"unreachable", "timeout", "lost", "draining", "full", "busy", "answer"}
"""The codes of errors that may be over at the next try; "answer" is a proxy's page while the server restarts."""


class Session:
    """A session of ``gatewise serve``: the state of one model, which lives on the server.

    ``Client.session`` makes one. Used with ``with``, it is deleted at the end of the block. One request at a time may
    use it: another is refused with the code ``busy``.

    Attributes:
        id: by which the server knows it. Whoever knows it, and the server's key, can use the session.
        model: the name of its model.
    """

    def __init__(self, transport: Transport, about: Reply) -> None:
        self._transport, self.id, self.model = transport, str(about["id"]), str(about["model"])
        self._known: int = about["position"]
        self._yielded: int | None = None  # the position of the last token that a stream gave
        self._given_up = False
        self._gates: tuple[Sequence[Reply], int] | None = None

    def __repr__(self) -> str:
        return f"<Session {self.id} of {self.model}>"

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.delete()
        except ServerError:
            if error is None:
                raise  # otherwise the first error is what matters

    @property
    def position(self) -> int:
        """How many inputs the session has read, including the tokens that it wrote; asks the server."""
        self._known = self._ask("GET", "")["position"]
        return self._known

    def feed(self, inputs: Any) -> Answer:
        """Read inputs: all of them, or none if it fails.

        Args:
            inputs: text, T words, T token ids of a language model, or T rows of I numbers; arrays, too.

        Returns:
            The answer after the last one.

        Raises:
            UsageError: the model does not read such inputs.
            ServerError: the session is busy or gone, or the server cannot be reached.
        """
        reply = self._ask("POST", "/feed", _inputs(inputs), repeatable=False)
        self._known = reply["position"]
        return replies.answer(reply)

    def steps(self, inputs: Any, *, gates: bool = False, top: int = 0) -> Iterator[Token | Step]:
        """Read inputs and yield the result of each; all are read when the last one has been yielded.

        Args:
            inputs: as for ``feed``.
            gates: whether the results include the gates.
            top: how many of the most probable tokens a language model names at each place.

        Raises:
            ServerError: as for ``feed``; if the connection is lost, either all has been read or nothing.
        """
        yield from self._stream("/feed", {**_inputs(inputs), "gates": gates, "top": top}, gates, None, resumable=False)

    def generate(
        self,
        *,
        max_tokens: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """Write tokens after what was read, and read them; all of them, or none if it fails.

        Args:
            max_tokens: number of tokens; one for the end of a line counts.
            temperature: divides the logits; 0 always takes the most probable token.
            top_k: sample from the k most probable tokens only.
            top_p: sample from the smallest set of tokens whose probabilities reach p.
            seed: None uses a new seed.

        Returns:
            Their text, without what was read before; it begins with the separator where one belongs.
        """
        options = {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        reply = self._ask("POST", "/generate", options, repeatable=False)
        self._known = reply["position"]
        return str(reply["text"])

    def stream(
        self,
        *,
        max_tokens: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        gates: bool = False,
        top: int = 0,
    ) -> Iterator[Token]:
        """Write tokens as ``generate`` does, and yield each as soon as it is there.

        The arguments are those of ``generate``; ``gates`` requests the gates of each step, ``top`` that many of the
        most probable tokens at each place.

        If the connection is lost, or the server restarts with ``--state-dir``, the client reconnects and continues
        without a gap; a server that was killed writes the lost tokens again. If you leave the loop early, the session
        has read what the server had written by then, up to a few hundred tokens more; ``resume`` yields them, and
        ``position`` counts them.

        Raises:
            ServerError: the generation cannot go on; ``position`` says where the session is.
        """
        seed = secrets.randbits(32) if seed is None else seed
        options = {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        body = {**options, "gates": gates, "top": top}
        for event in self._stream("/generate", body, gates, max_tokens, resumable=True):
            assert isinstance(event, Token)
            yield event

    def resume(self, after: int | None = None, *, gates: bool = False) -> Iterator[Token]:
        """Continue a generation that was left early, here or in another process.

        Args:
            after: the position after which to continue; by default that of the last token yielded.
            gates: whether tokens include the gates, if the generation requested them.

        Raises:
            ServerError: there is none to continue (code ``no_generation``).
        """
        self._know_gates(gates)
        if after is None:
            after = self._known if self._yielded is None else self._yielded
        response = self._events_after(after, settling=True)
        for event in self._follow(response, after, None, resumable=True):
            assert isinstance(event, Token)
            yield event

    def fork(self) -> "Session":
        """Return a new session with the same state, which continues independently."""
        return Session(self._transport, self._ask("POST", "/fork", repeatable=False))

    def save(self) -> bytes:
        """Return the state as a safetensors file, which ``load_state`` in ``gatewise.runtime`` reads, too."""
        response = self._transport.send("GET", f"{self._path}/state", settling=self._given_up)
        self._given_up = False
        return response.content

    def load(self, content: bytes) -> int:
        """Replace the session's state by a saved one, and return its position.

        Raises:
            UsageError: the bytes are damaged, or of another model or other weights; the session keeps its state.
        """
        self._known = self._ask("PUT", "/state", content=bytes(content))["position"]
        return self._known

    def delete(self) -> None:
        """Delete the session; one that is gone already is no error."""
        try:
            self._transport.send("DELETE", self._path, settling=self._given_up)
        except ServerError as problem:
            if problem.code != "no_session":
                raise

    @property
    def _path(self) -> str:
        return f"/v1/sessions/{quote(self.id, safe='')}"

    def _ask(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        reply = self._transport.ask(method, self._path + path, body, settling=self._given_up, **options)
        if method != "GET":
            self._given_up = False
        return reply

    def _know_gates(self, wanted: bool) -> None:
        """Ask for the table of the model's gates, once."""
        if wanted and self._gates is None:
            about = self._transport.ask("GET", f"/v1/models/{quote(self.model, safe='')}")
            self._gates = about["gates"] or (), about["layers"]

    def _stream(
        self, path: str, body: dict[str, Any], gates: bool, most: int | None, *, resumable: bool
    ) -> Iterator[Token | Step]:
        def begin() -> "httpx.Response":
            return self._transport.send(
                "POST",
                self._path + path,
                {**body, "stream": True},
                headers={"Accept": "text/event-stream"},
                stream=True,
                repeatable=False,
                settling=self._given_up,
            )

        self._know_gates(gates)
        yield from self._follow(begin(), self._known, most, resumable=resumable, again=begin if resumable else None)

    def _follow(
        self,
        response: "httpx.Response",
        after: int,
        most: int | None,
        *,
        resumable: bool,
        again: Callable[[], "httpx.Response"] | None = None,
    ) -> Iterator[Token | Step]:
        """Yield the tokens or steps of a stream, which goes on in another connection where one is lost.

        Args:
            response: the first connection.
            after: the position before the first event.
            most: how many tokens there are at most, if that is known.
            resumable: whether the server keeps the events.
            again: asks for the same stream once more.
        """
        table, layers = self._gates or (None, 1)
        last: int | None = None
        given = list[int]()
        delays = iter(RECONNECTING)
        self._given_up = True
        while True:
            lost = ServerError(f"the connection to {self._transport.url} ended before the stream did", code="lost")
            try:
                for name, data in self._transport.events(response):
                    if name in ("token", "step"):
                        position = int(data["position"])
                        if last is not None and position <= last:  # sent again
                            if last - position < len(given) and given[position - last - 1] != data.get("token", 0):
                                raise ServerError("the session has changed meanwhile", code="no_generation")
                            continue
                        if last is not None and position != last + 1:
                            raise ServerError(f"the events after position {last} are lost", code="no_generation")
                        last = self._known = self._yielded = position
                        given.append(data.get("token", 0))
                        delays = iter(RECONNECTING)
                        yield (replies.token if name == "token" else replies.step)(data, table, layers)
                    elif name == "done" and data.get("finish_reason") != "draining":
                        if again is not None and not given:  # it writes at least one
                            raise ServerError("the session has only an older generation", code="no_generation")
                        self._known = self._yielded = int(data["position"])
                        self._given_up = False
                        return
                    elif name == "error":
                        self._given_up = False
                        raise refusal(str(data["error"]["code"]), str(data["error"]["message"]))
            except ServerError as problem:
                if problem.code not in ("lost", "timeout"):
                    raise
                lost = problem
            finally:
                response.close()
            if most is not None and len(given) >= most:
                return  # all tokens have come, only their end is missing
            if not resumable:
                raise ServerError(f"{lost}; the session has read all of it or nothing, see position", code="lost")
            try:
                response = self._reconnect(after if last is None else last, delays, lost)
            except ServerError as problem:
                start = after if last is None else last - len(given)
                if problem.code != "no_generation" or again is None or self.position != start:
                    raise
                response = (
                    again()
                )  # the server was killed; it has the session as it was before, and the seed is the same

    def _reconnect(self, after: int, delays: Iterator[float], last: ServerError) -> "httpx.Response":
        for delay in delays:
            time.sleep(delay)
            try:
                return self._events_after(after, settling=False)
            except ServerError as problem:
                if problem.code not in _MAY_PASS:
                    raise
                last = problem
        raise ServerError(f"{last}; the generation stopped after position {after}", last.status, last.code)

    def _events_after(self, position: int, *, settling: bool) -> "httpx.Response":
        return self._transport.send(
            "GET",
            f"{self._path}/events",
            headers={"Accept": "text/event-stream", "Last-Event-ID": str(position)},
            stream=True,
            settling=settling,
            retries=0,
        )


def _inputs(inputs: Any) -> dict[str, Any]:
    """Return inputs under the name that the server has for their kind.

    Raises:
        UsageError: they are of no kind.
    """
    if isinstance(inputs, str):
        return {"text": inputs}
    listed = inputs.tolist() if hasattr(inputs, "tolist") else inputs
    if isinstance(listed, Sequence) and not isinstance(listed, bytes) and len(listed):
        if all(isinstance(one, str) for one in listed):
            return {"words": list(listed)}
        rows = [one.tolist() if hasattr(one, "tolist") else one for one in listed]
        if all(isinstance(one, int) and not isinstance(one, bool) for one in rows):
            return {"tokens": rows}
        if all(isinstance(one, Sequence) and not isinstance(one, str | bytes) for one in rows):
            return {"inputs": [list(one) for one in rows]}
    raise UsageError(
        f"the inputs ({type(inputs).__name__}) are empty or mix several kinds; expected text, or a list of words, "
        "token ids or rows of numbers"
    )
