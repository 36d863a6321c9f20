"""The harness: only what agrees is timed, sides take turns, and a failing process is named."""

import os
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.bench.harness import OutputsDiffer, Runner, RunnerFailed, agree, circumstances, in_turns, ratios

PEER = {"cost": torch.tensor(5.0), "rnn.weight_hh_l0": torch.ones(4, 4)}


def changed(name: str, value: float) -> dict[str, torch.Tensor]:
    outputs = {key: tensor.clone() for key, tensor in PEER.items()}
    outputs[name].view(-1)[0] += value
    return outputs


def test_nothing_is_timed_where_outputs_differ() -> None:
    agree(changed("rnn.weight_hh_l0", 1e-5), PEER, 1e-4)
    with pytest.raises(OutputsDiffer, match=r"rnn\.weight_hh_l0 differs by"):
        agree(changed("rnn.weight_hh_l0", 1e-3), PEER, 1e-4)
    with pytest.raises(OutputsDiffer, match="cost differs by"):
        agree(changed("cost", float("nan")), PEER, 1e-4)
    with pytest.raises(OutputsDiffer, match=r"a step: only one side has rnn\.weight_hh_l0"):
        agree({"cost": torch.tensor(5.0)}, PEER, 1e-4, "a step")
    agree({"loss": np.array([1.0, 1 + 1e-12])}, {"loss": np.ones(2)}, 1e-11)  # in float64
    with pytest.raises(OutputsDiffer):
        agree({"loss": np.array([1.0, 1 + 1e-10])}, {"loss": np.ones(2)}, 1e-11)


def test_sides_take_turns_in_alternating_order() -> None:
    calls: list[tuple[str, int]] = []

    def side(name: str, seconds: float) -> Any:
        return lambda steps: calls.append((name, steps)) or seconds * steps

    steps, taken = in_turns({"a": side("a", 0.125), "b": side("b", 0.5)}, 3, 2.0)
    assert calls == [("a", 2), ("b", 2), ("a", 4), ("b", 4), ("b", 4), ("a", 4), ("a", 4), ("b", 4)]  # a warm-up first
    assert (steps, taken) == (4, {"a": [0.125] * 3, "b": [0.5] * 3})
    calls.clear()
    assert in_turns({"a": side("a", 1.0)}, 1, steps=1) == (1, {"a": [1.0]})
    assert calls == [("a", 1)]


def test_the_ratio_is_the_median_of_the_turns() -> None:
    assert ratios([1.0, 2.0, 1.0], [3.0, 3.0, 2.0]) == {"ratio": 2.0, "ratio_range": [1.5, 3.0]}


def test_every_result_names_its_machine() -> None:
    found = circumstances("gatewise bench x")
    assert {"command", "machine", "date", "torch", "numpy"} == set(found)
    assert all(found.values())


class Failing:
    """Work that fails in each way."""

    def __init__(self, arguments: str) -> None:
        assert arguments == "given"
        if os.environ.get("BENCH_MAKE"):
            raise KeyError("no data")

    def check(self, to: str) -> None:
        raise ValueError("no such weight")

    def run(self, steps: int) -> float:
        os._exit(3)


def test_a_runners_error_comes_with_what_made_it_and_its_last_line() -> None:
    with Runner(Failing, "given") as runner:
        with pytest.raises(RunnerFailed, match="test_harness, failed: ValueError: no such weight") as e:
            runner.ask("check", "")
        assert e.value.runner is Failing
        assert "in check" in str(e.value.__cause__)  # the full traceback
        assert 10 < runner.peak_mib < 5000
        with pytest.raises(RunnerFailed, match="its process ended with status 3"):
            runner.run(1)


def test_work_that_cannot_be_made_fails_when_it_is_asked_and_the_environment_is_the_runners_alone() -> None:
    with Runner(Failing, "given", {"BENCH_MAKE": "1"}) as runner:
        assert "BENCH_MAKE" not in os.environ
        with pytest.raises(RunnerFailed, match="KeyError: 'no data'"):
            runner.run(1)
