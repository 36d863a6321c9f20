"""The layer benchmark: what it refuses, and the form of its output."""

import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gatewise.bench import layers
from gatewise.bench.harness import OutputsDiffer, line_of
from gatewise.engines import engine_named, why_not


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PLAIN", ((3, 2, 4),))
    monkeypatch.setattr(layers, "RAGGED", ((5, 3, 4),))
    monkeypatch.setattr(layers, "EVALUATED", (3, 2, 4))
    monkeypatch.setattr(layers, "PROMPT", (7, 1, 4))
    monkeypatch.setattr(layers, "VOCABULARY", 20)
    monkeypatch.setattr(layers, "SECONDS_A_TURN", 0.001)


@pytest.mark.parametrize(
    ("work", "cell"), [("plain", "LSTM"), ("ragged", "LSTM"), ("loss", r"\w+"), ("prompt", "LSTM")]
)
def test_nothing_is_timed_where_outputs_differ(
    small: None, monkeypatch: pytest.MonkeyPatch, work: str, cell: str
) -> None:
    rounds = [r for r in layers._rounds("torch", 1) if r.work == work]
    wrong = [replace(r, ours={"fp32": lambda r=r: [t * 1.01 + 0.01 for t in r.ours["fp32"]()]}) for r in rounds]
    monkeypatch.setattr(layers, "_rounds", lambda *_: iter(wrong))
    monkeypatch.setattr(layers, "in_turns", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(OutputsDiffer, match=f"{work} {cell} .* nothing is timed"):
        layers.bench_layers()


def test_the_outputs_that_are_compared_hold_every_gradient(small: None) -> None:
    for comparison in layers._rounds(engine_named("auto").name, 2):
        if comparison.work not in ("traced", "loss", "prompt"):
            ours, peer = comparison.ours["fp32"](), comparison.peer["fp32"]()
            assert len(ours) == len(peer) == 6  # y, dx and four weights
            assert all(float(t.abs().max()) > 0 for t in ours)
            assert all(torch.isfinite(t).all() for t in peer)


@pytest.mark.parametrize("engine", [name for name in ("native", "torch") if why_not(name) is None])
def test_the_loss_of_every_engine_and_a_prompt_stand_beside_what_they_would_cost_in_training(
    small: None, engine: str
) -> None:
    rounds = {(r.work, r.cell): r for r in layers._rounds(engine, 1)}
    comparison = rounds["loss", engine]
    layers._check(comparison, "fp32", "fp32")
    assert comparison.peer["fp32"]()[0] > 0
    layers._check(rounds["prompt", "LSTM"], "fp32", "fp32")


@pytest.mark.skipif(why_not("native") is not None, reason="the native engine was not built")
def test_both_sides_compute_the_same_in_every_precision_that_they_are_tried_in(small: None) -> None:
    tried: set[str] = set()
    for comparison in layers._rounds("native", 2):
        if comparison.work not in ("plain", "ragged"):
            continue
        assert set(comparison.ours) == {"fp32", "bf16"}
        for peer in ("fp32", "bf16 module"):  # supported by every processor
            for precision in comparison.ours:
                layers._check(comparison, precision, peer)
                tried.add(precision)
        exact, rounded = comparison.ours["fp32"](), comparison.ours["bf16"]()
        assert not all(torch.equal(a, b) for a, b in zip(exact, rounded, strict=True))
    assert tried == {"fp32", "bf16"}


def test_each_side_is_measured_in_the_precision_in_which_it_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes(seconds: float) -> layers.Run:
        def run() -> list[Tensor]:
            time.sleep(seconds)
            return [torch.ones(1)]

        return run

    def fails() -> list[Tensor]:
        raise RuntimeError("no bf16 here")

    comparison = layers.Round(
        "plain",
        "GRU",
        (1, 1, 1),
        {"fp32": takes(0.05), "bf16": takes(0.001)},
        {"fp32": takes(0.001), "bf16": fails, "bf16 module": takes(0.05)},
        "",
    )
    monkeypatch.setattr(layers, "_rounds", lambda *_: iter([comparison]))
    monkeypatch.setattr(layers, "SECONDS_A_TURN", 0.001)
    (row,) = layers.bench_layers(turns=1)
    assert (row["precision"], row["peer_precision"]) == ("bf16", "fp32")
    assert "T=1 B=1 H=1, bf16 " in line_of(row)
    with pytest.raises(RuntimeError, match="no bf16 here"):
        layers._fastest({"fp32": fails, "bf16": takes(0.001)})


def test_a_precision_that_takes_far_longer_is_run_once() -> None:
    runs: list[str] = []

    def takes(name: str, seconds: float) -> layers.Run:
        def run() -> list[Tensor]:
            runs.append(name)
            time.sleep(seconds)
            return []

        return run

    assert layers._fastest({"fp32": takes("fp32", 0.002), "bf16": takes("bf16", 0.2)}) == "fp32"
    assert runs.count("bf16") == 1
    assert runs.count("fp32") > 1
