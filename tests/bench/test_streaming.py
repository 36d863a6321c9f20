"""The streaming benchmark: what it refuses, and that the peers compute the same model."""

from typing import Any

import pytest
import torch

from gatewise.bench import streaming
from gatewise.bench.harness import OutputsDiffer
from gatewise.bench.streaming_peers import onnxruntime_step, pytorch_step
from gatewise.engines.native.module import why_not_built
from gatewise.runtime.model_file import STORED

pytest.importorskip("onnx", reason="ONNX is a peer: pip install --group peers")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is a peer: pip install --group peers")
pytestmark = pytest.mark.skipif(why_not_built() is not None, reason="the native engine was not built")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SIZES", (6,))
    monkeypatch.setattr(streaming, "VOCABULARY", 20)
    monkeypatch.setattr(streaming, "SECONDS_A_TURN", 0.004)


def test_all_sides_compute_the_same_model(small: None) -> None:
    model = streaming.drawn_model(6)
    ours, peers = streaming._ours(model, "fp32"), [pytorch_step(model, 7), onnxruntime_step(model, 7, 1)]
    for _ in range(5):
        found = streaming._flat(ours())
        assert len(found) == 5  # logits, and two layers' h and c
        assert all(float(part.abs().max()) > 0 for part in found)
        for peer in peers:
            for a, b in zip(found, streaming._flat(peer()), strict=True):
                assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("side", ["_ours", "onnxruntime_step"])
@pytest.mark.parametrize("part", range(3))
def test_nothing_is_timed_where_outputs_differ(
    small: None, monkeypatch: pytest.MonkeyPatch, side: str, part: int
) -> None:
    right = getattr(streaming, side)

    def wrong(*arguments: Any) -> Any:
        step = right(*arguments)
        return lambda: [p + 0.01 * (k == part) for k, p in enumerate(step())]

    monkeypatch.setattr(streaming, side, wrong)
    seen = list[str]()
    monkeypatch.setattr(streaming, "in_turns", lambda *_: seen.append("timed"))
    with pytest.raises(OutputsDiffer, match=r"of its largest entry; .*nothing is timed"):
        streaming.bench_streaming()
    assert not seen


@pytest.mark.parametrize("weights", STORED)
def test_the_peer_of_the_check_has_the_weights_as_they_are_stored(weights: str) -> None:
    model = streaming.drawn_model(40)
    side = streaming._ours(model, weights)
    streaming._check("all", side, pytorch_step(streaming.stored_as(model, weights), 7))
    for other in {*STORED} - {weights}:
        with pytest.raises(OutputsDiffer):
            streaming._check("all", streaming._ours(model, weights), pytorch_step(streaming.stored_as(model, other), 7))


def test_every_weights_and_peer_has_its_row(small: None) -> None:
    lines: list[str] = []
    found = streaming.bench_streaming(threads=2, turns=3, report=lines.append)
    rows = [(row["weights"], row["against"], row["target"]) for row in found["rows"]]
    assert rows == [
        ("int8", "ONNX Runtime fp32", "2.5"),
        ("int8", "PyTorch fp32", ""),
        ("bf16", "ONNX Runtime fp32", "1.5"),
        ("bf16", "PyTorch fp32", ""),
        ("fp32", "ONNX Runtime fp32", ""),
        ("fp32", "PyTorch fp32", ""),
    ]
    assert len(lines) == 6
    for row in found["rows"]:
        low, high = row["ratio_range"]
        assert 0 < low <= row["ratio"] <= high
        assert low * (1 - 1e-9) <= row["peer_ms"] / row["ours_ms"] <= high * (1 + 1e-9)
        assert min(row["memory"], row["gigabytes_per_second"]) > 0
        assert {row["ours_threads"], row["peer_threads"]} <= {1, 2}
