"""What the server answers where it does not do what was asked: a status, a code and a sentence."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from gatewise.errors import GatewiseError, OutOfMemory, RunError
from gatewise.printable import one_line

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    404: "no_route",
    405: "no_method",
    409: "busy",
    413: "too_large",
    415: "not_json",
    422: "invalid",
    429: "full",
    500: "internal",
    503: "draining",
}
"""The code of a status where a refusal names none."""


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: of HTTP.
        message: one sentence: what was found, what was expected, what to do.
        code: a word for programs; by default that of the status.
        headers: more headers of the answer.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, one_line(message)
        self.code = code or _CODES.get(status, "refused")
        self.headers = {**_RETRIES.get(status, {}), **(headers or {})}

    def as_json(self) -> dict[str, dict[str, str]]:
        """Return the body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.as_json(), self.status, self.headers)


_RETRIES = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "5"},
}
"""Headers that a status brings."""


def invalid(message: str) -> Refusal:
    """Return the refusal of a body that is JSON, but not what the route or the model takes."""
    return Refusal(422, message)


def busy() -> Refusal:
    """Return the refusal of a second request on a session."""
    return Refusal(409, "another request is using this session; wait until it ends, or fork the session before")


def taken_over() -> Refusal:
    """Return the last event of a connection whose generation goes on in another."""
    return Refusal(409, "another connection goes on with this generation", "taken_over")


def draining() -> Refusal:
    """Return the refusal of work while the server stops."""
    return Refusal(503, "the server is shutting down; try again when it is back")


def unforeseen() -> Refusal:
    """Return the refusal where the server has a defect."""
    return Refusal(500, "unforeseen; the server's log has the place")


def of_error(error: GatewiseError) -> Refusal:
    """Return the refusal for an error of the runtime: of the input, where it is not the server's own."""
    if isinstance(error, OutOfMemory):
        return Refusal(503, "the server is out of memory; send less at a time, or try again later", "out_of_memory")
    if isinstance(error, RunError):
        return Refusal(500, "a model's file cannot be read any more")
    return invalid(str(error))
