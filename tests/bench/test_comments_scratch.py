"""The benchmark: the dense program is correct without its faults, each fault is detected, timing requires agreement."""

from pathlib import Path
from statistics import median

import numpy as np
import pytest

from gatewise.bench import comments_scratch
from gatewise.bench.comments_scratch import _check, _losses_agree, bench_speed, check_faults, compare_losses
from gatewise.bench.comments_scratch_dense import FAULTS, DenseLSTM
from gatewise.bench.harness import OutputsDiffer
from gatewise.scratch import ScratchModel, initial_weights

SENTENCE = [0, 5, 9, 5, 5, 2, 1]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe with ten units."""
    honest = comments_scratch.load_config
    monkeypatch.setattr(
        comments_scratch, "load_config", lambda name, keys: honest(name, {**keys, "model.hidden_size": 10})
    )


def test_the_dense_program_without_faults_trains_as_ours() -> None:
    weights = {name: 3 * w.astype(float) for name, w in initial_weights(11, 4, seed=2).items()}
    ours, dense = ScratchModel(weights), DenseLSTM(weights, ())
    for _ in range(3):
        assert ours.step(SENTENCE, 0.2) == pytest.approx(dense.step(SENTENCE, 0.2), rel=1e-12)
    for name, weight in dense.weights.items():
        np.testing.assert_allclose(ours.weights()[name], weight, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_the_gradient_check_finds_each_fault_by_name() -> None:
    found = {name: set(failures) for name, failures in check_faults().items()}
    w, u, b = "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0"
    assert found == {
        "ours": set(),
        "none": set(),
        "hidden": {w, u, b},
        "forget": {w, u, b},
        "outer": {u},
        "columns": {w},
        "all": {w, u, b},
    }
    assert set(FAULTS) < set(found)


def test_nothing_is_timed_where_outputs_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {name: 3 * w.astype(float) for name, w in initial_weights(11, 4, seed=2).items()}
    _check(SENTENCE, weights)
    honest = ScratchModel.gradients

    def wrong(self: ScratchModel, sentence: list[int]) -> object:
        loss, gradients = honest(self, sentence)
        gradients["rnn.weight_hh_l0"][0, 0] += 1e-6
        return loss, gradients

    monkeypatch.setattr(ScratchModel, "gradients", wrong)
    with pytest.raises(OutputsDiffer, match=r"the dense program: rnn\.weight_hh_l0 differs by"):
        _check(SENTENCE, weights)
    ours = np.array([1.0, 2.0])
    _losses_agree(np.array([1.000001, 2.0]), ours)
    for wrong in ([1.0, 2.001], [1.0, np.nan]):
        with pytest.raises(OutputsDiffer, match="relative loss differs by"):
            _losses_agree(np.array(wrong), ours)


@pytest.mark.slow
def test_both_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch, small: None, comments: Path) -> None:
    monkeypatch.setattr(comments_scratch, "SECONDS_A_TURN", 0.05)
    result = bench_speed(comments, turns=3)
    ratios = sorted(p / o for o, p in zip(result["ours_seconds"], result["dense_seconds"], strict=True))
    assert (len(ratios), result["ratio"]) == (3, ratios[1])
    assert 2 <= result["sentences"] <= 6  # as many as fit into a turn
    ours, dense = (
        result[f"{side}_tokens_per_second"] * median(result[f"{side}_seconds"]) for side in ("ours", "dense")
    )
    assert ours == pytest.approx(dense)
    assert 2 <= ours <= 20  # tokens in a sentence


def test_losses_with_each_fault(small: None, comments: Path) -> None:
    told: list[str] = []
    losses = compare_losses(comments, sentences=4, epochs=2, report=told.append)
    assert list(losses) == ["ours", *FAULTS, "all"]
    assert len(told) == len(losses)
    assert len({line[0] for line in losses.values()}) == 1 or np.ptp([line[0] for line in losses.values()]) < 1e-5
    assert len({line[2] for line in losses.values()}) == len(losses)
    assert losses["ours"][2] < losses["ours"][0]
