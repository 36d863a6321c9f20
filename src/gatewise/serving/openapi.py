"""The OpenAPI document of the server."""

from dataclasses import dataclass
from typing import Any

from gatewise.extras import installed_version
from gatewise.serving import schemas
from gatewise.serving.schemas import Schema


@dataclass(frozen=True)
class Operation:
    """A route of the API.

    Attributes:
        method: of HTTP.
        path: its parameters in braces.
        name: the method of the class of routes that serves it, as ``class.method``.
        summary: what it does.
        body: the schema of its body; None where there is none.
        status: of its success.
        refusals: the statuses of what it may refuse, besides 401 and 403.
        answer: the type of the content of its success: JSON, or another.
    """

    method: str
    path: str
    name: str
    summary: str
    body: Schema | None = None
    status: int = 200
    refusals: tuple[int, ...] = ()
    answer: str = "application/json"


_BODY = (400, 413, 415, 422, 503)
_OWNED = (404, 409, 500, 507)
OPERATIONS = (
    Operation("GET", "/health", "about.health", "Say that the server lives.", refusals=(500,)),
    Operation("GET", "/ready", "about.ready", "Say whether the server takes new work.", refusals=(503,)),
    Operation("GET", "/metrics", "about.metrics", "Return metrics for Prometheus.", answer="text/plain"),
    Operation("GET", "/openapi.json", "about.openapi", "Return this document."),
    Operation("GET", "/v1/models", "about.models", "List the models."),
    Operation("GET", "/v1/models/{name}", "about.model", "Say what a model is.", refusals=(404,)),
    Operation(
        "POST", "/v1/completions", "completions.create", "Continue texts, in the format of OpenAI's API.",
        schemas.COMPLETION, refusals=(*_BODY, 404, 429),
    ),
    Operation("POST", "/v1/sessions", "sessions.create", "Make a session.", schemas.SESSION, 201,
              refusals=(*_BODY, 404, 429, 507)),
    Operation("GET", "/v1/sessions/{id}", "sessions.show", "Say where a session is.", refusals=_OWNED),
    Operation("DELETE", "/v1/sessions/{id}", "sessions.delete", "Delete a session.", status=204, refusals=_OWNED),
    Operation("POST", "/v1/sessions/{id}/fork", "sessions.fork", "Make a session that goes on from where this one is.",
              status=201, refusals=(*_OWNED, 413, 422, 429, 503)),
    Operation("GET", "/v1/sessions/{id}/state", "sessions.state", "Return the state as a safetensors file.",
              refusals=_OWNED, answer="application/octet-stream"),
    Operation("PUT", "/v1/sessions/{id}/state", "sessions.put_state", "Take a state that was saved.",
              {"type": "string", "format": "binary"}, refusals=(*_OWNED, 413, 422, 503)),
    Operation("POST", "/v1/sessions/{id}/feed", "sessions.feed", "Read text, words or rows of numbers.", schemas.FEED,
              refusals=(*_BODY, *_OWNED, 429)),
    Operation("POST", "/v1/sessions/{id}/generate", "sessions.generate", "Write text.", schemas.GENERATE,
              refusals=(*_BODY, *_OWNED, 429)),
    Operation("GET", "/v1/sessions/{id}/events", "sessions.events",
              "Go on with a generation after a lost connection, as server-sent events.",
              refusals=(*_OWNED, 422, 429, 503), answer="text/event-stream"),
    Operation("POST", "/v1/tag", "answers.tag", "Tag the words of sentences.", schemas.TAG,
              refusals=(*_BODY, 404, 429)),
    Operation("POST", "/v1/classify", "answers.classify", "Classify texts, or sequences of numbers.", schemas.CLASSIFY,
              refusals=(*_BODY, 404, 429)),
    Operation("POST", "/v1/forecast", "answers.forecast", "Forecast a series, or predict numbers from sequences.",
              schemas.FORECAST, refusals=(*_BODY, 404, 429)),
    Operation("POST", "/v1/score", "answers.score", "Score texts with a language model.", schemas.SCORE,
              refusals=(*_BODY, 404, 429)),
)  # fmt: skip
"""All routes of the API; besides them there are the page and the WebSocket ``/v1/sessions/{id}/ws``."""

_ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}
_REASONS = {
    400: "not JSON, or nested too deep",
    401: "a key is needed",
    403: "a foreign Host or Origin",
    404: "no such model or session",
    409: "another request owns the session, or there is nothing to go on with",
    413: "the body is too large",
    415: "the body is no JSON",
    422: "the body is not what the route or the model takes",
    429: "as many sessions or operations as may be",
    500: "the server is at fault",
    503: "the server is shutting down",
    507: "the session could not be stored",
}


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths = dict[str, dict[str, Any]]()
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gatewise",
            "summary": "Recurrent models behind HTTP, with sessions that carry their state.",
            "version": installed_version() or "0",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "done"}
    if operation.status != 204:
        success["content"] = {operation.answer: {}}
        if "stream" in (operation.body or {}).get("properties", {}):
            success["content"]["text/event-stream"] = {}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers = {str(operation.status): success}
    for status in sorted({401, 403, *operation.refusals}):
        answers[str(status)] = {"description": _REASONS[status], "content": error}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.name.replace(".", "_"),
        "responses": answers,
    }
    if names := [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if operation.name == "sessions.events":
        found["parameters"].append(
            {"name": "after", "in": "query", "required": False, "schema": {"type": "string"},
             "description": "as the header Last-Event-ID: the position of the last event that arrived"}
        )  # fmt: skip
    if operation.body is not None:
        kind = "application/octet-stream" if operation.body.get("format") == "binary" else "application/json"
        found["requestBody"] = {"required": True, "content": {kind: {"schema": operation.body}}}
    return found
