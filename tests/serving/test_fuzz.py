"""Requests made from the OpenAPI document, valid and not: no server error, and no answer that it does not name.

``GATEWISE_FUZZ=1000`` makes 1,000 requests of each kind for each route; here it is a few.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewise.serving.openapi import OPERATIONS
from gatewise.serving.settings import LONGEST
from tests.serving.rig import Server, served

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis (the group peers) is not installed")
import schemathesis.checks as checks  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis.generation import GenerationMode  # noqa: E402
from schemathesis.specs.openapi import checks as openapi  # noqa: E402

EXAMPLES = int(os.environ.get("GATEWISE_FUZZ", 12))
CHECKS = [
    checks.not_a_server_error, openapi.status_code_conformance, openapi.content_type_conformance,
    openapi.response_schema_conformance, openapi.response_headers_conformance,
]  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one model of each task, so that bodies need no name, which keeps sessions on disk."""
    some = [runs[name] for name in ("words", "tagger", "text", "regressor")]
    with served(some, "--state-dir", tmp_path_factory.mktemp("states"), "--max-sessions", "100000") as server:
        yield server
        server.get("/health")
        assert server.stderr() == ""


@pytest.fixture(scope="module")
def schema(fuzzed: Server) -> Any:
    return schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_requests(fuzzed: Server, schema: Any, one: Any, mode: Any) -> None:
    operation = schema[one.path][one.method]
    id_ = fuzzed.session("words") if "{id}" in one.path else ""
    if mode is GenerationMode.NEGATIVE and "events" not in one.path and (one.body or {}).get("type") != "object":
        pytest.skip("nothing to get wrong")
    statuses = set[int]()

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=EXAMPLES < 100,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if id_ and len(statuses) % 4 != 3 and one.method != "DELETE":
            case.path_parameters["id"] = id_
        if EXAMPLES < 100 and isinstance(case.body, dict) and case.body.get("max_tokens") in range(1000, LONGEST + 1):
            case.body["max_tokens"] = 1000
        status = case.call_and_validate(checks=CHECKS, timeout=20).status_code
        assert mode is GenerationMode.POSITIVE or status >= 400, "what the document does not allow was accepted"
        statuses.add(status)

    ask()
    assert statuses and max(statuses) < 500
