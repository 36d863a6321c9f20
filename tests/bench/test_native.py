"""The table of the native engine: its rows, and how the shares are computed."""

from typing import Any

import pytest
import torch

from gatewise.bench import layers, native, streaming_peers
from gatewise.engines import why_not
from gatewise.engines.native import module
from gatewise.errors import UsageError

pytestmark = pytest.mark.skipif(why_not("native") is not None, reason="the native engine was not built")

RATES = {"fp32": 100.0, "high": 300.0, "bf16": 1000.0}


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three layers that take 10 ms against the peer's 20, and one step; nothing is timed."""

    def run() -> list[torch.Tensor]:
        return [torch.ones(1)]

    sides = {"bf16": run}, {"fp32": run}
    shape = (35, 20, 256)
    made = [
        layers.Round("plain", "GRU", shape, *sides, "5 or more"),
        layers.Round("plain", "RNN", shape, *sides, ""),
        layers.Round("threads", "GRU", shape, *sides, "1.8 or more", "ours, one thread"),
        layers.Round("loss", "native", shape, *sides, "2 or more", "ours, with gradients"),
    ]
    step = {"work": "H=200", "against": "ONNX Runtime fp32", "ratio": 2.0, "ratio_range": [1.0, 3.0], "target": "1.5"}
    monkeypatch.setattr(native, "refuse_without_onnxruntime", lambda: None)
    monkeypatch.setattr(native, "product_rate", lambda threads, precision: RATES[precision] * threads)
    monkeypatch.setattr(native, "bench_streaming", lambda **_: {"rows": [{"memory": 0.9, **step}]})
    monkeypatch.setattr(layers, "_rounds", lambda *_: iter(made))
    monkeypatch.setattr(layers, "in_turns", lambda *_: (1, {"ours": [0.01, 0.01], "peer": [0.02, 0.02]}))


def test_the_rows_name_their_work_and_their_peers(rounds: None) -> None:
    lines: list[str] = []
    found: list[dict[str, Any]] = native.bench_native(threads=1, turns=2, report=lines.append)["rows"]
    rows = {row["work"]: row for row in found}
    assert rows["plain GRU T=35 B=20 H=256, bf16"]["against"] == "PyTorch fp32"
    assert rows["plain GRU T=35 B=20 H=256, bf16"]["ratio"] == 2.0
    assert rows["threads GRU T=35 B=20 H=256"]["against"] == "ours, one thread"
    assert rows["loss native T=35 B=20 H=256"]["against"] == "ours, with gradients"
    assert rows["H=200"]["memory"] == 0.9
    assert len(found) == 5
    assert len(lines) == 4


def test_the_share_of_the_machines_products_is_counted_from_the_operations(rounds: None) -> None:
    rows = {row["work"]: row for row in native.bench_native(threads=2)["rows"]}
    # For a GRU, 3 gates of H inputs and H units, one forward and two backward, in 10 ms.
    layer = 6 * 35 * 20 * 3 * 256 * 512
    assert rows["plain GRU T=35 B=20 H=256, bf16"]["share"] == pytest.approx(layer / 0.010 / 2000e9)
    assert rows["plain RNN T=35 B=20 H=256, bf16"]["share"] == pytest.approx(layer / 3 / 0.010 / 2000e9)
    assert "share" not in rows["threads GRU T=35 B=20 H=256"]


def test_the_rate_of_products_is_measured_at_each_precision() -> None:
    """``high`` is three bf16 products on tiles; without tiles, all products are of floats."""
    rates = {precision: module.product_rate(1, precision) for precision in RATES}
    assert 0.1 < min(rates.values()) <= max(rates.values()) < 1e5  # GFLOP/s of one core
    if module.instructions()[0] == "amx":
        assert rates["bf16"] > 2 * rates["high"] > 2 * rates["fp32"]


def test_a_peer_that_is_not_installed_is_missed_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming_peers, "find_spec", lambda name: None)
    monkeypatch.setattr(native, "product_rate", lambda *_: pytest.fail("it was measured"))
    with pytest.raises(UsageError, match="onnxruntime is not installed; expected the peers: pip install --group peers"):
        native.bench_native()
