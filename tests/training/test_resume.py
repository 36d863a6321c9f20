"""Killed at random moments and resumed, training ends with the bits of a run that was never disturbed."""

import json
import random
import re
import signal
from pathlib import Path

import pytest

from tests.training.processes import ALONE, FORKED, assert_same_end, finish, stop_after_a_checkpoint

DEMO = ["demo", "--set", "training.epochs=2", "--set", "training.checkpoint_every=0.1"]
STEPS = 91
"""Steps of an epoch of the demo."""
STOPS = [(signal.SIGKILL, FORKED), (signal.SIGINT, ALONE), (signal.SIGKILL, ALONE), (signal.SIGTERM, FORKED)]


@pytest.mark.slow
def test_stopped_and_resumed_equals_undisturbed_bit_for_bit(tmp_path: Path) -> None:
    """On the demo's scale: dropout, Adam's moments, carried state, a decaying learning rate.

    A signal that asks to stop lets the step be finished and saved, and the last line says how to go on. It may come
    in an epoch or while the model is evaluated after it.
    """
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish([*DEMO, "--out", str(whole)], FORKED)
    moments, words, stopped = random.Random(20), [*DEMO, "--out", str(cut)], 0
    for number, launcher in STOPS:
        status, err = stop_after_a_checkpoint(words, cut, moments.uniform(0, 0.2), number, launcher)
        assert "Traceback" not in err
        assert not stopped or step_resumed(err) == stopped
        words, stopped = ["--out", str(cut), "--resume"], 0
        if number == signal.SIGKILL:
            assert status == -signal.SIGKILL
            continue
        assert status == 130
        line = err.strip().splitlines()[-1]
        assert line.endswith(f"; saved; resume with: gatewise train --out {cut} --resume")
        stopped = step_stopped(line)
    _, err = finish(words, FORKED)
    assert step_resumed(err) == stopped
    assert_same_end(whole, cut)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, cut)]
    for a, b in zip(*lines, strict=True):
        for timing in ("seconds", "tokens_per_second"):
            a.pop(timing, None), b.pop(timing, None)
        assert a == b


def step_stopped(line: str) -> int:
    """Return how many steps training had made, by the line with which it ended."""
    here, there = r"in epoch (\d), step (\d+) of 91", r"(?:before|after) the evaluation (?:after|of) step (\d+)"
    found = re.match(f"gatewise: interrupted (?:{here}|{there});", line)
    assert found, line
    epoch, step, evaluated = found.groups()
    return int(evaluated or (int(epoch) - 1) * STEPS + int(step))


def step_resumed(err: str) -> int:
    """Return after how many steps training went on, by what it printed."""
    found = re.search(r"resuming in epoch (\d) after step (\d+) of 91", err)
    assert found, err
    return (int(found[1]) - 1) * STEPS + int(found[2])
