"""The benchmark: it times only programs that agree, and both do the same work."""

from pathlib import Path

import pytest

from gatewise.bench import runners
from gatewise.bench.language_model import bench_language_model
from gatewise.errors import UsageError


@pytest.mark.slow
def test_both_programs_agree_and_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "SECONDS_A_TURN", 0.05)
    result = bench_language_model("ptb-test", turns=3)
    assert len(result["ours_seconds"]) == len(result["peer_seconds"]) == 3
    ratios = sorted(p / o for o, p in zip(result["ours_seconds"], result["peer_seconds"], strict=True))
    assert result["ratio"] == ratios[1]
    assert 50 < result["ours_peak_mib"] < 5000
    assert 50 < result["peer_peak_mib"] < 5000


def test_a_recipe_that_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="LSTMs trained by SGD"):
        bench_language_model("demo")
