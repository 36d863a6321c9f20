"""``gatewise bench`` from the command line."""

import json
from pathlib import Path

import pytest

from gatewise.bench import layers, streaming
from gatewise.engines import why_not
from tests.cli.conftest import Gatewise


@pytest.mark.skipif(why_not("native") is not None, reason="the native engine was not built")
def test_every_kind_of_work_is_checked_and_timed(
    gatewise: Gatewise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is a peer: pip install --group peers")
    monkeypatch.setattr(layers, "PLAIN", ((3, 2, 4),))
    monkeypatch.setattr(layers, "RAGGED", ((5, 3, 4),))
    monkeypatch.setattr(layers, "EVALUATED", (3, 2, 4))
    monkeypatch.setattr(layers, "PROMPT", (7, 1, 4))
    monkeypatch.setattr(layers, "VOCABULARY", 20)
    monkeypatch.setattr(layers, "SECONDS_A_TURN", 0.001)
    monkeypatch.setattr(streaming, "SIZES", (6,))
    monkeypatch.setattr(streaming, "VOCABULARY", 20)
    monkeypatch.setattr(streaming, "SECONDS_A_TURN", 0.001)
    result = gatewise("bench", "native", "--turns", "3", "--threads", "2", "--json", "--out", str(tmp_path / "r.json"))
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert found == json.loads((tmp_path / "r.json").read_text())
    assert found["threads"] == 2
    assert found["command"] == "gatewise bench native --threads 2 --turns 3"
    assert {"machine", "date", "torch"} <= set(found)
    rows = [tuple(row["work"].split()[:2]) for row in found["rows"] if "T=" in row["work"]]
    expected = [(work, cell) for work in ("plain", "ragged") for cell in ("LSTM", "GRU", "RNN")]
    expected += [("traced", "LSTM"), ("traced", "GRU"), ("loss", "native"), ("loss", "torch"), ("prompt", "LSTM")]
    assert rows == [*expected, ("threads", "LSTM")]
    assert len(found["rows"]) == len(rows) + 6
    for row in found["rows"]:
        low, high = row["ratio_range"]
        assert 0 < low <= row["ratio"] <= high
        assert low * (1 - 1e-9) <= row["peer_ms"] / row["ours_ms"] <= high * (1 + 1e-9)


def test_a_step_is_timed_beside_the_peers(gatewise: Gatewise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"bench": "streaming", "threads": 2, "rows": [], "torch": "2"}
    monkeypatch.setattr("gatewise.bench.streaming.bench_streaming", lambda **given: kept | {"turns": given["turns"]})
    result = gatewise("bench", "streaming", "--turns", "3", "--json", "--out", str(tmp_path / "s.json"))
    assert result.status == 0
    found = json.loads(result.out)
    assert found == json.loads((tmp_path / "s.json").read_text())
    assert found["turns"] == 3
    assert found["command"] == "gatewise bench streaming --threads 2 --turns 3"


@pytest.mark.slow
def test_two_networks_are_measured(gatewise: Gatewise, tmp_path: Path) -> None:
    command = ("bench", "footprint", "--images", "300", "--turns", "2", "--threads", "1", "--json", "--out", "r.json")
    result = gatewise(*command)
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert found == json.loads((tmp_path / "r.json").read_text())
    assert found["command"] == "gatewise bench footprint --images 300 --threads 1 --turns 2"
    rows, convolution = found["contestants"]
    # By hand: gates·H·(I + H) and two biases per layer, and the decoder; kernels, dense layers, and their biases.
    assert rows["parameters"] == 4 * 256 * (28 + 256 + 2) + 4 * 256 * (256 + 256 + 2) + 257 * 10
    assert convolution["parameters"] == 26 * 32 + (25 * 32 + 1) * 64 + (49 * 64 + 1) * 1024 + 1025 * 10
    for side in (rows, convolution):
        assert 0 < side["start_mib"] <= side["peak_mib"]
        assert len(side["seconds"]) == 2
    assert found["memory_ratio"] == convolution["peak_mib"] / rows["peak_mib"]
    assert gatewise("inspect", "footprint", "r.json", "--out", "r.png").status == 0
