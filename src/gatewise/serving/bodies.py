"""Reading the body of a request, which may be anything."""

import asyncio
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import fastjsonschema
from starlette.requests import ClientDisconnect, Request

from gatewise.serving.refusals import Refusal, invalid
from gatewise.serving.schemas import Schema
from gatewise.serving.settings import AT_ONCE, DEEPEST, LARGEST_BODY

T = TypeVar("T")

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)
"""A string without an end reaches to that of the text: were it no match, each quote in it would be tried in turn."""
_LONE = re.compile("[\ud800-\udfff]")


async def read_bytes(request: Request, limit: int = LARGEST_BODY) -> bytes:
    """Return the body.

    Raises:
        Refusal: it is larger than ``limit`` bytes.
    """
    too_large = Refusal(413, f"the body is larger than {limit:,} bytes; send less at a time")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > limit:
        raise too_large
    parts, size = list[bytes](), 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_large
            parts.append(part)
    except ClientDisconnect:
        raise Refusal(400, "the client has gone") from None
    return b"".join(parts)


async def read_json(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the body, with the defaults of its schema.

    Raises:
        Refusal: it is too large, not JSON, or not of the schema.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"the body is {kind[:60]!r}; expected Content-Type: application/json")
    content = await read_bytes(request)
    return await beside(len(content), lambda: checked(parse(content), schema))


async def beside(size: int, compute: Callable[[], T]) -> T:
    """Compute something of so many characters, in a thread if it might hold up the streams of others."""
    return compute() if size <= AT_ONCE else await asyncio.to_thread(compute)


def size_of(value: Any) -> int:
    """Return about how many characters a value of a body has, or the longest value of a body."""
    if isinstance(value, dict):
        return max(map(size_of, value.values()))
    if isinstance(value, list):
        return sum(len(one) if isinstance(one, str | list) else 1 for one in value)
    return len(value) if isinstance(value, str) else 0


def checked(parsed: Any, schema: Schema) -> dict[str, Any]:
    """Return what was parsed, with the defaults of its schema.

    Raises:
        Refusal: it is not of the schema.
    """
    try:
        found: dict[str, Any] = _validator(schema)(parsed)
    except fastjsonschema.JsonSchemaValueException as problem:
        raise invalid(_sentence(problem)) from None
    for name, about in schema["properties"].items():
        if "default" in about and found[name] is None:
            found[name] = about["default"]
    return found


def parse(content: bytes | str) -> Any:
    """Return what is written as JSON: finite numbers, text that UTF-8 can hold, not nested too deep.

    Raises:
        Refusal: it is something else.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        if _deepest(text) > DEEPEST:
            raise Refusal(400, f"the body is nested deeper than {DEEPEST}; no route takes that")
        found = json.loads(text, parse_constant=_refuse_constant)
        if _SURROGATE.search(text) and _LONE.search(json.dumps(found, ensure_ascii=False)):
            raise Refusal(400, "the body has half of a character (a lone surrogate); expected valid text")
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON; expected an object as /openapi.json says") from None
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _deepest(text: str) -> int:
    """Return how deep JSON is nested."""
    depth = deepest = 0
    for bracket in _STRING_OR_BRACKET.finditer(text):
        if bracket[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket[0] in "]}":
            depth -= 1
    return deepest


@cache
def _compiled(schema: str) -> Callable[[Any], Any]:
    validate: Callable[[Any], Any] = fastjsonschema.compile({"$schema": _DRAFT, **json.loads(schema)})
    return validate


_DRAFT = "http://json-schema.org/draft-07/schema#"
_validators = dict[int, Callable[[Any], Any]]()


def _validator(schema: Schema) -> Callable[[Any], Any]:
    if (found := _validators.get(id(schema))) is None:
        found = _validators[id(schema)] = _compiled(json.dumps(schema))
    return found


def _sentence(problem: fastjsonschema.JsonSchemaValueException) -> str:
    """Return a sentence that names the place, and what is expected there."""
    place = (problem.name or "").partition(".")[2] or "the body"
    about = problem.definition if isinstance(problem.definition, dict) else {}
    match problem.rule:
        case "additionalProperties":
            known = ", ".join(about.get("properties", {})) or "none"
            unknown = sorted(set(problem.value) - set(about.get("properties", {})))[0]
            return f"{place}: unknown field {unknown[:60]!r}; expected {known}"
        case "required":
            missing = [name for name in about["required"] if name not in problem.value]
            return f"{place}: {missing[0]!r} is missing"
        case "anyOf":
            return f"{place} is invalid; expected {about.get('description', 'another type')}"
        case "type":
            kinds = problem.rule_definition
            kind = kinds if isinstance(kinds, str) else kinds[0]  # or null
            article = "an" if kind[0] in "aeiou" else "a"
            return f"{place} is {_kind(problem.value)}; expected {article} {kind}"
        case "minItems" | "minLength":
            return f"{place} is empty; expected at least {problem.rule_definition}"
        case "maxItems":
            return f"{place} has {len(problem.value)} items; expected at most {problem.rule_definition}"
        case "minimum" | "maximum" | "exclusiveMinimum":
            bound = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}[problem.rule]
            return f"{place} is {problem.value!r:.40}; expected {bound} {problem.rule_definition}"
    return f"{place} is invalid; see /openapi.json"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value)) or f"{value!r:.40}"


def whole(value: int | float | None) -> int | None:
    """Return a number of the schema's type "integer", for which JSON may write 5.0."""
    return None if value is None else int(value)
