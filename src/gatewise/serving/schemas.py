"""The bodies that routes take, as JSON Schema: what is checked is what ``/openapi.json`` says."""

from collections.abc import Sequence
from typing import Any

from gatewise.serving.settings import LONGEST

Schema = dict[str, Any]


def body(required: Sequence[str] = (), /, **properties: Schema) -> Schema:
    """Return the schema of an object that has no other properties."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(of: Schema, description: str = "", **limits: int) -> Schema:
    about = {"description": description} if description else {}
    return {"type": "array", "items": of, **limits, **about}


def _one_of(description: str, *schemas: Schema) -> Schema:
    return {"anyOf": list(schemas), "description": description}


def _or_null(schema: Schema) -> Schema:
    """Return a schema that also takes null, for the default, as OpenAI's does."""
    return {**schema, "type": [schema["type"], "null"]}


STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean", "default": False}
ID: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
NUMBER: Schema = {"type": "number", "minimum": -1e300, "maximum": 1e300}
WORDS = _list(STRING, "a list of words")
ROWS = _list(_list(NUMBER), "a list of rows of numbers", minItems=1)
MODEL: Schema = {"type": "string", "description": "the name of a model; may be left out where only one fits"}
SEED: Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
TOP: Schema = {"type": "integer", "minimum": 0, "maximum": 20, "default": 0}

SAMPLING: dict[str, Schema] = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 1e6, "default": 1.0},
    "top_k": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "seed": SEED,
}

COMPLETION = body(
    model=MODEL,
    prompt=_one_of(
        "a text, a list of texts, token ids, or a list of these",
        STRING,
        _list(STRING, minItems=1),
        _list(ID, minItems=1),
        _list(_list(ID, minItems=1), minItems=1),
        {"type": "null"},
    ),
    max_tokens=_or_null({"type": "integer", "minimum": 1, "maximum": LONGEST, "default": 16}),
    **{name: _or_null(one) for name, one in SAMPLING.items()},
    n=_or_null({"type": "integer", "minimum": 1, "maximum": 64, "default": 1}),
    stop=_one_of(
        "a text, or up to 4",
        {"type": "string", "minLength": 1},
        _list({"type": "string", "minLength": 1}, maxItems=4),
        {"type": "null"},
    ),
    logprobs=_one_of("0 to 5", {"type": "integer", "minimum": 0, "maximum": 5}, {"type": "null"}),
    echo=_or_null(BOOLEAN),
    stream=_or_null(BOOLEAN),
    stream_options=_one_of("an object", body(include_usage=BOOLEAN), {"type": "null"}),
    user={"type": "string", "description": "not used"},
)

SESSION = body(model=MODEL)

FEED = body(
    text={**STRING, "description": "of models that read text"},
    tokens=_list(ID, "ids, of a language model", minItems=1),
    words={**WORDS, "minItems": 1, "description": "of a tagger or a text classifier"},
    inputs={**ROWS, "description": "rows of numbers, of a classifier or a regressor"},
    stream=BOOLEAN,
    gates=BOOLEAN,
    top=TOP,
)

GENERATE = body(
    max_tokens={"type": "integer", "minimum": 1, "maximum": LONGEST, "default": 50},
    **SAMPLING,
    stream=BOOLEAN,
    gates=BOOLEAN,
    top=TOP,
)

TAG = body(model=MODEL, text=STRING, sentences=_list(WORDS, "a list of sentences, each a list of words"),
           probabilities=BOOLEAN)  # fmt: skip

CLASSIFY = body(
    ["inputs"],
    model=MODEL,
    inputs=_list(
        _one_of("a text, a list of words, or a list of rows of numbers", STRING, {**WORDS, "minItems": 1}, ROWS),
        minItems=1,
        maxItems=4096,
    ),
    over_time=BOOLEAN,
)

_VALUE = _one_of("a number or null", NUMBER, {"type": "null"})
FORECAST = body(
    model=MODEL,
    values=_one_of(
        "a list of numbers, or of rows of numbers", _list(_VALUE, minItems=1), _list(_list(_VALUE), minItems=1)
    ),
    steps={"type": "integer", "minimum": 1, "maximum": 10_000},
    inputs=_list(ROWS, "a list of sequences, each a list of rows of numbers", minItems=1, maxItems=4096),
)

SCORE = body(["texts"], model=MODEL, texts=_list(STRING, minItems=1, maxItems=4096))
