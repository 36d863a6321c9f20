"""The table of the native engine: its rows, their peers, and how the ratios are computed."""

from collections.abc import Callable
from typing import Any

import pytest

from gatewise.bench import native, streaming_peers
from gatewise.bench.runners import RunnerFailed
from gatewise.engines import why_not
from gatewise.engines.native import module
from gatewise.errors import UsageError

pytestmark = pytest.mark.skipif(why_not("native") is not None, reason="the native engine was not built")

SECONDS = {"fp32": 4.0, "bf16": 3.0, "bf16 module": 5.0}
"""Seconds of PyTorch's training step."""
RATES = {"fp32": 100.0, "high": 300.0, "bf16": 1000.0}
TASKS = ("mnist-rows", "ewt-upos")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record every requested training step; nothing is timed."""
    calls: list[dict[str, Any]] = []

    def language_model(recipe: str, precision: str = "fp32", peer_precision: str = "fp32", **_: Any) -> dict[str, Any]:
        calls.append({"recipe": recipe, "precision": precision, "peer": peer_precision})
        return comparison(SECONDS[peer_precision])

    def task(recipe: str) -> Callable[..., dict[str, Any]]:
        return lambda data=None, **others: language_model(recipe, **others)

    def comparison(peer: float) -> dict[str, Any]:
        memory = {"ours_peak_mib": 60, "peer_peak_mib": 100}
        return {"ratio": peer / 2, "ours_seconds": [2.0, 2.0], "peer_seconds": [peer, peer], **memory}

    layer = {"cell": "GRU", "T": 35, "B": 20, "H": 256, "ours_ms": 10.0, "ratio": 2.0, "ratio_range": [1.0, 3.0]}
    precisions = {"precision": "bf16", "peer_precision": "fp32"}
    works = [{"work": work, "target": "5 or more", **layer, **precisions} for work in ("plain", "threads")]
    works.append({"work": "loss", "target": "2 or more", **layer, **precisions, "cell": "native"})
    step = {"work": "H=200", "against": "ONNX Runtime fp32", "ratio": 2.0, "ratio_range": [1.0, 3.0], "target": "1.5"}
    monkeypatch.setattr(native, "refuse_without_onnxruntime", lambda: None)
    monkeypatch.setattr(native, "product_rate", lambda threads, precision: RATES[precision] * threads)
    monkeypatch.setattr(native, "bench_language_model", language_model)
    monkeypatch.setattr(native, "bench_recurrent", lambda *_: works)
    monkeypatch.setattr(native, "bench_streaming", lambda **_: {"rows": [{"share": 0.9, **step}]})
    monkeypatch.setattr(native, "bench_rows", task("mnist-rows"))
    monkeypatch.setattr(native, "bench_tagger", task("ewt-upos"))
    return calls


def test_bf16_is_set_against_the_peers_fastest_precision_and_the_others_against_its_fp32(asked: list[Any]) -> None:
    result = native.bench_native(threads=1, turns=2)
    rows = {row["work"]: row for row in result["rows"]}
    for recipe in native.TARGETS:
        measured = [(call["precision"], call["peer"]) for call in asked if call["recipe"] == recipe]
        assert sorted(measured[:3]) == [("fp32", peer) for peer in sorted(native.PEER_PRECISIONS)]
        assert sorted(measured[3:]) == [("bf16", "bf16"), ("fp32", "fp32"), ("high", "fp32")]
        assert rows[f"{recipe}, training step, bf16"]["ratio"] == 1.5
        assert rows[f"{recipe}, training step, high"]["against"] == "PyTorch fp32"
    assert rows["ptb-large, peak memory"]["ratio"] == 0.6
    for recipe in TASKS:
        measured = [(call["precision"], call["peer"]) for call in asked if call["recipe"] == recipe]
        assert measured == [*(("fp32", peer) for peer in native.PEER_PRECISIONS), ("bf16", "bf16"), ("fp32", "fp32")]
        assert rows[f"{recipe}, training step, bf16"]["ratio"] == 1.5
        assert rows[f"{recipe}, training step, bf16"]["against"] == "PyTorch bf16"
        assert rows[f"{recipe}, training step, fp32"]["ratio"] == 2.0
    assert rows["plain GRU T=35 B=20 H=256, bf16"]["against"] == "PyTorch fp32"
    assert rows["threads GRU T=35 B=20 H=256"]["against"] == "ours, one thread"
    assert rows["loss native T=35 B=20 H=256"]["against"] == "ours, with gradients"
    assert len(result["rows"]) == 3 * 3 + 1 + 3 + 1 + 2 * 2


def test_the_share_of_the_machines_products_is_counted_from_the_operations(asked: list[Any]) -> None:
    result = native.bench_native(threads=2)
    rows = {row["work"]: row for row in result["rows"]}
    # By hand: for ptb-small, 400 words, two layers of 4·200·400 weights, a decoder of 200·10,000; 6 operations each.
    step = 6 * 400 * (2 * 4 * 200 * 400 + 200 * 10_000)
    for precision, rate in RATES.items():
        share = rows[f"ptb-small, training step, {precision}"]["share"]
        assert share == pytest.approx(step / 2.0 / (2e9 * rate))
    # For an image, 28 rows of 28 numbers, 128 images, two layers of 256.
    step = 6 * 128 * 28 * (4 * 256 * (28 + 256) + 4 * 256 * 512)
    assert rows["mnist-rows, training step, fp32"]["share"] == pytest.approx(step / 2.0 / 200e9)
    assert rows["mnist-rows, training step, bf16"]["share"] == pytest.approx(step / 2.0 / 2000e9)
    # For a GRU, 3 gates of H inputs and H units, one forward and two backward, in 10 ms.
    layer = 6 * 35 * 20 * 3 * 256 * 512
    assert rows["plain GRU T=35 B=20 H=256, bf16"]["share"] == pytest.approx(layer / 0.010 / 2000e9)


def test_a_precision_in_which_the_peer_does_not_train_is_left_out_and_said(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = native.bench_language_model

    def without_bf16(recipe: str, peer_precision: str = "fp32", **others: Any) -> dict[str, Any]:
        if peer_precision == "bf16":
            raise RunnerFailed("bench.language_model_pytorch", "no bf16 here")
        return dict(every(recipe, peer_precision=peer_precision, **others))

    monkeypatch.setattr(native, "bench_language_model", without_bf16)
    lines: list[str] = []
    rows = {row["work"]: row for row in native.bench_native(report=lines.append)["rows"]}
    assert rows["ptb-small, training step, bf16"]["against"] == "PyTorch fp32"  # the next fastest
    assert "ptb-small: PyTorch does not train in bf16 here: no bf16 here" in lines


def test_a_precision_that_takes_twice_the_time_is_not_tried_on_the_larger_recipes(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, "bf16 module", 6.1)
    native.bench_native()
    first, *larger = native.TARGETS
    assert len([call for call in asked if call["recipe"] == first and call["peer"] == "bf16 module"]) == 1
    assert not [call for call in asked if call["recipe"] in larger and call["peer"] == "bf16 module"]
    assert [call for call in asked if call["recipe"] == larger[1] and call["peer"] == "bf16"]


def test_a_failure_of_ours_is_not_taken_for_one_of_the_peer(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(recipe: str, **_: Any) -> dict[str, Any]:
        raise RunnerFailed("bench.language_model_ours", "a fault")

    monkeypatch.setattr(native, "bench_language_model", fails)
    with pytest.raises(RunnerFailed, match="language_model_ours, failed: a fault"):
        native.bench_native()


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
