"""Requests to a server: the key, errors in one line, what may be sent again, and server-sent events."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from gatewise.errors import GatewiseError, ServerError, UsageError
from gatewise.extras import import_extra

if TYPE_CHECKING:
    import httpx
else:
    httpx = import_extra("httpx", "httpx", "gatewise.Client", "client")

CONNECT_SECONDS = 10.0
"""How long a connection may take to open."""
LONGEST_WAIT = 10.0
"""The most seconds to wait before a request is sent again, whatever Retry-After says."""
SETTLING_SECONDS = 2.0
"""How long the server may take to notice that a stream was given up."""
IDLE_SECONDS = 2.0
"""How long a connection is kept for the next request; servers close theirs after 5 seconds."""
_OF_INPUT = {"bad_request", "invalid", "too_large", "not_json"}
"""The codes of errors that are the caller's own."""
_NOT_STARTED = {"full", "draining", "out_of_memory"}
"""The codes of refusals that left everything as it was, and that may be over soon."""


class Reply(dict[str, Any]):
    """An object of JSON; a missing name is an error of the server."""

    def __missing__(self, name: str) -> Any:
        raise ServerError(
            f"the answer has no {name!r}; expected one of gatewise serve, of the version of this client", code="answer"
        )


class Transport:
    """Sends requests to one server.

    Args:
        url: of the server, with the path before its routes if there is one.
        key: None takes $GATEWISE_KEY.
        timeout: seconds without a byte of the answer.
        retries: how many times a request that was not started is sent again.

    Raises:
        UsageError: the URL or the key is invalid.
    """

    def __init__(self, url: str, key: str | None, timeout: float, retries: int) -> None:
        if not re.match(r"https?://[^/?#\s]+[^?#\s]*$", url):
            raise UsageError(f"the server's address is {url!r}; expected one like http://127.0.0.1:8000")
        self.url, self._timeout, self._retries = url.rstrip("/"), timeout, retries
        headers = {"Accept": "application/json"}
        key = (os.environ.get("GATEWISE_KEY", "") if key is None else key).strip()
        if key:
            if not (key.isascii() and key.isprintable()):
                raise UsageError("the key has characters that no header can carry; expected printable ASCII")
            headers["Authorization"] = f"Bearer {key}"
        try:
            base = httpx.URL(self.url)
        except httpx.InvalidURL as problem:
            raise UsageError(f"the server's address is {url!r}: {problem}; expected http://HOST:PORT") from None
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            limits=httpx.Limits(keepalive_expiry=IDLE_SECONDS),
            trust_env=not re.fullmatch(r"localhost|127\.[\d.]+|::1", base.host),  # no proxy leads to this machine
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, **options: Any) -> Reply:
        """Send a request, and return the object that answers it; ``options`` are those of ``send``."""
        return self._object(self.send(method, path, body, **options).content)

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        repeatable: bool = True,
        settling: bool = False,
        retries: int | None = None,
    ) -> "httpx.Response":
        """Send a request, again where it was refused for the moment, and return the answer.

        Args:
            method: of HTTP.
            path: after the server's address.
            body: sent as JSON; entries that are None are left out.
            content: sent instead.
            headers: more headers.
            stream: return before the body is read.
            repeatable: whether doing it twice does no harm.
            settling: whether a stream of the same session was just given up, so that "busy" may be over soon.
            retries: instead of the client's.

        Raises:
            UsageError: the server or JSON cannot read what was sent.
            ServerError: all else that went wrong.
        """
        left = self._retries if retries is None else retries
        patient = time.monotonic() + SETTLING_SECONDS if settling else 0.0
        sent = {**(headers or {})}
        if body is not None:
            content, sent["Content-Type"] = as_json(body), "application/json"
        elif content is not None:
            sent["Content-Type"] = "application/octet-stream"
        again = repeatable and not stream
        while True:
            request = self._http.build_request(method, self.url + path, content=content, headers=sent)
            try:
                response = self._http.send(request, stream=stream)
                if response.is_success:
                    return response
                with closing(response):
                    error = self._error(response.status_code, response.read(), response.headers.get("Location", ""))
            except httpx.TransportError as problem:
                error = self.lost(problem)
                if error.code != "lost" or not again:
                    raise error from None
                again = False  # a connection that the server had closed meanwhile; once is enough
                continue
            wait = _seconds(response.headers.get("Retry-After", ""))
            if getattr(error, "code", "") == "busy" and time.monotonic() < patient:
                wait = 0.05
            elif left > 0 and (
                getattr(error, "code", "") in _NOT_STARTED or (repeatable and response.status_code in (429, 503))
            ):
                left -= 1
            else:
                raise error
            time.sleep(wait)

    def events(self, response: "httpx.Response") -> Iterator[tuple[str, Reply]]:
        """Yield the server-sent events of an answer, (name, data), until it ends; an unfinished one is left out.

        Raises:
            ServerError: the connection was lost.
        """
        name, data = "", list[str]()
        try:
            for line in _lines(response.iter_bytes()):
                if not line:
                    if data and data != ["[DONE]"]:
                        yield name, self._object("\n".join(data))
                    elif data:
                        yield "[DONE]", Reply()
                    name, data = "", []
                    continue
                key, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if key == "event":
                    name = value
                elif key == "data":
                    data.append(value)
        except httpx.TransportError as problem:
            raise self.lost(problem) from None

    def lost(self, problem: "httpx.TransportError") -> ServerError:
        """Return the error for a request without an answer."""
        if isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout):
            return ServerError(
                f"no server answers at {self.url} ({_why(problem)}); start one with: gatewise serve RUN",
                code="unreachable",
            )
        if isinstance(problem, httpx.TimeoutException):
            return ServerError(
                f"{self.url} sent nothing for {self._timeout:g} seconds; ask for less, or give Client a longer timeout",
                code="timeout",
            )
        return ServerError(f"the connection to {self.url} was lost ({_why(problem)})", code="lost")

    def _error(self, status: int, content: bytes, location: str) -> GatewiseError:
        """Return the error that an answer stands for."""
        try:
            error = json.loads(content)["error"]
            return refusal(str(error["code"]), str(error["message"]), status)
        except (ValueError, KeyError, TypeError):  # a proxy's, or another server's
            where = f", which leads to {location}; give Client that address" if location else "; expected a JSON error"
            return ServerError(f"{self.url} answers with status {status}{where}", status, "answer")

    def _object(self, content: bytes | str) -> Reply:
        try:
            found = json.loads(content, object_hook=Reply)
        except ValueError:
            found = None
        if not isinstance(found, Reply):
            raise ServerError(f"{self.url} does not answer with a JSON object; is it gatewise serve?", code="answer")
        return found


def refusal(code: str, message: str, status: int | None = None) -> GatewiseError:
    """Return the error for a code and a sentence of the server."""
    return UsageError(message) if code in _OF_INPUT else ServerError(message, status, code)


def as_json(body: Mapping[str, Any]) -> bytes:
    """Return a body as JSON; entries that are None are left out, and arrays are lists.

    Raises:
        UsageError: it has a value that JSON has not.
    """
    given = {name: value for name, value in body.items() if value is not None}
    try:
        return json.dumps(given, allow_nan=False, default=_listed).encode()
    except (TypeError, ValueError) as problem:
        raise UsageError(f"{', '.join(given)}: {problem}; expected text, finite numbers, lists or arrays") from None


def _listed(value: Any) -> Any:
    """Return an array or a number of NumPy as Python's."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
    return value.tolist()


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    """Yield complete lines; only line feeds end them, with or without carriage returns before."""
    rest = b""
    for piece in pieces:
        *complete, rest = (rest + piece).split(b"\n")
        for line in complete:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")


def _seconds(retry_after: str) -> float:
    """Return how long to wait; a date, which proxies may send, counts as a second."""
    return min(float(retry_after), LONGEST_WAIT) if re.fullmatch(r"\d{1,9}", retry_after) else 1.0


def _why(problem: Exception) -> str:
    return re.sub(r"^\[Errno -?\d+\] ", "", str(problem)) or type(problem).__name__
