"""The bench of the layers: what it refuses, and the shape of what it says."""

import pytest
import torch

from gatewise.bench import recurrent
from gatewise.bench.training import OutputsDiffer
from gatewise.kernels import engine_named


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "PLAIN", ((3, 2, 4),))
    monkeypatch.setattr(recurrent, "RAGGED", ((5, 3, 4),))
    monkeypatch.setattr(recurrent, "_SECONDS_A_TURN", 0.001)


@pytest.mark.parametrize("work", ["plain", "ragged"])
def test_nothing_is_timed_where_outputs_differ(small: None, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    rounds = [r for r in recurrent._rounds("torch", 1) if r.work == work]
    wrong = [r.__class__(r.work, r.cell, r.shape, lambda r=r: [t + 0.01 for t in r.ours()], r.peer, "") for r in rounds]
    monkeypatch.setattr(recurrent, "_rounds", lambda *_: iter(wrong))
    monkeypatch.setattr(recurrent, "_in_turns", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(OutputsDiffer, match=f"{work} LSTM .* nothing is timed"):
        recurrent.bench_recurrent()


def test_the_outputs_that_are_compared_hold_every_gradient(small: None) -> None:
    for duel in recurrent._rounds(engine_named("auto"), 2):
        if duel.work != "traced":
            ours, peer = duel.ours(), duel.peer()
            assert len(ours) == len(peer) == 6  # y, dx and four weights
            assert all(float(t.abs().max()) > 0 for t in ours)
            assert all(torch.isfinite(t).all() for t in peer)
