"""The programs that measure the server under load, short: what they find is right, if not how fast."""

from pathlib import Path

import pytest

from benchmarks.serving.rates import first_tokens, tokens_per_second
from benchmarks.serving.solo import Generate
from benchmarks.serving.streams import compare, stream_together, summary
from tests.serving.rig import served


@pytest.mark.slow
def test_sessions_that_stream_together_write_what_each_writes_alone(runs: dict[str, Path]) -> None:
    with served([runs["words"]]) as server:
        sessions, about = stream_together(server.port, server.process.pid, 11, 30, 1.0)
        found = summary(sessions, about)
        assert server.stderr() == ""
    assert found["errors"] == 0
    assert found["tokens"] >= 30 * 100
    assert 0 < found["between_reads_ms"]["p50"] <= found["between_reads_ms"]["p99"] < 1000
    assert found["client_cpu"] < 1
    assert compare(runs["words"], sessions, 1) == 0
    last = sessions[-1].operations[-1]
    assert isinstance(last, Generate)
    sessions[-1].operations[-1] = Generate(last.count, last.seed + 1, last.temperature)
    assert compare(runs["words"], sessions, 1) == 1


def test_rates(runs: dict[str, Path]) -> None:
    with served([runs["sentences"]]) as server:
        for temperature in (0.0, 1.0):
            assert tokens_per_second(server.port, runs["sentences"], 20, 30, temperature) > 0
    with served([runs["words"]]) as server:
        theirs, own = first_tokens(server.port, runs["words"], 5)
        assert len(theirs) == len(own) == 5
        assert min(own) > 0 and max(theirs) < 1
