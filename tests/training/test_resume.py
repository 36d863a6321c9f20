"""Killed at random moments and resumed, training ends with the bits of a run that was never disturbed."""

import json
import random
import signal
from pathlib import Path

import pytest

from tests.training.processes import assert_same_end, finish, stop_after_a_checkpoint

KILLS = 4
DEMO = ["demo", "--set", "training.epochs=2", "--set", "training.checkpoint_every=0.1"]


@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed_bit_for_bit(tmp_path: Path) -> None:
    """On the demo's scale: dropout, Adam's moments, carried state, a decaying learning rate."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish([*DEMO, "--out", str(whole)])
    moments = random.Random(20)
    for kill in range(KILLS):
        words = [*DEMO, "--out", str(cut)] if kill == 0 else ["--out", str(cut), "--resume"]
        stop_after_a_checkpoint(words, cut, moments.uniform(0, 0.4), signal.SIGKILL)
    finish(["--out", str(cut), "--resume"])
    assert_same_end(whole, cut)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, cut)]
    for a, b in zip(*lines, strict=True):
        for timing in ("seconds", "tokens_per_second"):
            a.pop(timing, None), b.pop(timing, None)
        assert a == b


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    status, err = stop_after_a_checkpoint([*DEMO, "--out", str(run)], run, 0.2, number)
    assert status == 130
    last = err.strip().splitlines()[-1]
    assert last.startswith("gatewise: interrupted in epoch 1, step ")
    assert f"saved; go on with: gatewise train --out {run} --resume" in last
    assert "Traceback" not in err
    _, err = finish(["--out", str(run), "--resume", "--set", "training.epochs=1"])
    step = last.partition("step ")[2].partition(" ")[0]
    assert f"going on in epoch 1 after step {step} of" in err
