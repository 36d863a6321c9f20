"""The table of training steps: its rows, their peers, and how the ratios are computed."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.training import table
from benchmarks.training.language_model import LanguageModelPeer
from benchmarks.training.ours import make
from gatewise.bench.harness import RunnerFailed
from gatewise.engines import why_not

pytestmark = pytest.mark.skipif(why_not("native") is not None, reason="the native engine was not built")

SECONDS = {"fp32": 4.0, "bf16": 3.0, "bf16 module": 5.0}
"""Seconds of PyTorch's training step."""
RATES = {"fp32": 100.0, "high": 300.0, "bf16": 1000.0}
TASKS = ("mnist-rows", "ewt-upos")
LANGUAGE_MODELS = ("ptb-small", "ptb-medium", "ptb-large")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record every requested training step; nothing is timed."""
    calls: list[dict[str, Any]] = []

    def compare(recipe: str, data: Any = None, precision: str = "fp32", peer_precision: str = "fp32", **_: Any) -> Any:
        calls.append({"recipe": recipe, "precision": precision, "peer": peer_precision, "data": data})
        peer = SECONDS[peer_precision]
        memory = {"ours_peak_mib": 60, "peer_peak_mib": 100}
        return {"ratio": peer / 2, "ours_seconds": [2.0, 2.0], "peer_seconds": [peer, peer], **memory}

    monkeypatch.setattr(table, "product_rates", lambda threads: {name: rate * threads for name, rate in RATES.items()})
    monkeypatch.setattr(table, "compare_training", compare)
    monkeypatch.setattr(table, "has_fast_high", lambda: True)
    return calls


def test_bf16_is_set_against_the_peers_fastest_precision_and_the_others_against_its_fp32(asked: list[Any]) -> None:
    result = table.bench_training(threads=1, turns=2)
    rows = {row["work"]: row for row in result["rows"]}
    for recipe in LANGUAGE_MODELS:
        measured = [(call["precision"], call["peer"]) for call in asked if call["recipe"] == recipe]
        assert sorted(measured[:3]) == [("fp32", peer) for peer in sorted(table.PEER_PRECISIONS)]
        assert sorted(measured[3:]) == [("bf16", "bf16"), ("fp32", "fp32"), ("high", "fp32")]
        assert rows[f"{recipe}, training step, bf16"]["ratio"] == 1.5
        assert rows[f"{recipe}, training step, high"]["against"] == "PyTorch fp32"
    assert rows["ptb-large, peak memory"]["ratio"] == 0.6
    for recipe in TASKS:
        measured = [(call["precision"], call["peer"]) for call in asked if call["recipe"] == recipe]
        assert measured == [*(("fp32", peer) for peer in table.PEER_PRECISIONS), ("bf16", "bf16"), ("fp32", "fp32")]
        assert rows[f"{recipe}, training step, bf16"]["ratio"] == 1.5
        assert rows[f"{recipe}, training step, bf16"]["against"] == "PyTorch bf16"
        assert rows[f"{recipe}, training step, fp32"]["ratio"] == 2.0
    assert len(result["rows"]) == 3 * 3 + 1 + 2 * 2


def test_without_amx_high_is_not_measured_and_targets_are_others(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_amx = {row["work"]: row["target"] for row in table.bench_training(recipes=["ptb-small"])["rows"]}
    monkeypatch.setattr(table, "has_fast_high", lambda: False)
    without = {row["work"]: row["target"] for row in table.bench_training(recipes=["ptb-small"])["rows"]}
    step = "ptb-small, training step,"
    assert with_amx == {f"{step} bf16": "3.5", f"{step} high": "2.3", f"{step} fp32": "1.5"}
    assert without == {f"{step} bf16": "1.9", f"{step} fp32": "1.4"}


def test_the_tasks_read_their_own_folders_and_language_models_synthetic_text(asked: list[Any]) -> None:
    table.bench_training(Path("corpora"))
    places = {call["recipe"]: call["data"] for call in asked}
    assert [places[recipe] for recipe in LANGUAGE_MODELS] == [None] * 3
    assert (places["mnist-rows"], places["ewt-upos"]) == (Path("corpora/mnist"), Path("corpora/ud_en_ewt"))


def test_the_share_of_the_machines_products_is_counted_from_the_operations(asked: list[Any]) -> None:
    result = table.bench_training(threads=2)
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


def test_a_precision_in_which_the_peer_does_not_train_is_left_out_and_said(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = table.compare_training

    def without_bf16(recipe: str, data: Any, peer_precision: str = "fp32", **others: Any) -> dict[str, Any]:
        if peer_precision == "bf16":
            raise RunnerFailed(LanguageModelPeer, "no bf16 here")
        return every(recipe, data, peer_precision=peer_precision, **others)

    monkeypatch.setattr(table, "compare_training", without_bf16)
    lines: list[str] = []
    rows = {row["work"]: row for row in table.bench_training(report=lines.append)["rows"]}
    assert rows["ptb-small, training step, bf16"]["against"] == "PyTorch fp32"  # the next fastest
    assert "ptb-small: PyTorch does not train in bf16 here: no bf16 here" in lines


def test_a_precision_that_takes_twice_the_time_is_not_tried_on_the_larger_recipes(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, "bf16 module", 6.1)
    table.bench_training()
    first, *larger = LANGUAGE_MODELS
    assert len([call for call in asked if call["recipe"] == first and call["peer"] == "bf16 module"]) == 1
    assert not [call for call in asked if call["recipe"] in larger and call["peer"] == "bf16 module"]
    assert [call for call in asked if call["recipe"] == larger[1] and call["peer"] == "bf16"]


def test_a_failure_of_ours_is_not_taken_for_one_of_the_peer(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(recipe: str, *_: Any, **others: Any) -> dict[str, Any]:
        raise RunnerFailed(make, "a fault")

    monkeypatch.setattr(table, "compare_training", fails)
    with pytest.raises(RunnerFailed, match=r"training\.ours, failed: a fault"):
        table.bench_training()
