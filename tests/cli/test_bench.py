"""``gatewise bench recurrent`` from the command line."""

import json
from pathlib import Path

import pytest

from gatewise.bench import recurrent
from tests.cli.conftest import Gatewise


def test_every_kind_of_work_is_checked_and_timed(
    gatewise: Gatewise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent, "PLAIN", ((3, 2, 4),))
    monkeypatch.setattr(recurrent, "RAGGED", ((5, 3, 4),))
    monkeypatch.setattr(recurrent, "_SECONDS_A_TURN", 0.001)
    result = gatewise(
        "bench", "recurrent", "--turns", "3", "--threads", "2", "--json", "--out", str(tmp_path / "r.json")
    )
    assert result.status == 0
    found = json.loads(result.out)
    assert found == json.loads((tmp_path / "r.json").read_text())
    assert found["threads"] == 2
    assert found["command"] == "gatewise bench recurrent --threads 2 --turns 3"
    rows = [(row["work"], row["cell"]) for row in found["rows"]]
    assert rows == [(work, cell) for work in ("plain", "ragged", "traced") for cell in ("LSTM", "GRU")]
    for row in found["rows"]:
        low, high = row["ratio_range"]
        assert 0 < low <= row["ratio"] <= high
        assert row["ours_ms"] > 0
        assert row["peer_ms"] > 0
