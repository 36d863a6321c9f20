"""Killed at random moments and resumed, training ends with the bits of a run that was never disturbed."""

import json
import random
import signal
from pathlib import Path

import pytest

from tests.training.processes import ALONE, FORKED, assert_same_end, finish, stop_after_a_checkpoint

DEMO = ["demo", "--set", "training.epochs=2", "--set", "training.checkpoint_every=0.1"]
STOPS = [(signal.SIGKILL, FORKED), (signal.SIGINT, ALONE), (signal.SIGKILL, ALONE), (signal.SIGTERM, FORKED)]


@pytest.mark.slow
def test_stopped_and_resumed_equals_undisturbed_bit_for_bit(tmp_path: Path) -> None:
    """On the demo's scale: dropout, Adam's moments, carried state, a decaying learning rate.

    A signal that asks to stop lets the step be finished and saved, and the last line says how to go on.
    """
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish([*DEMO, "--out", str(whole)], FORKED)
    moments, words, last = random.Random(20), [*DEMO, "--out", str(cut)], ""
    for number, launcher in STOPS:
        status, err = stop_after_a_checkpoint(words, cut, moments.uniform(0, 0.4), number, launcher)
        assert "Traceback" not in err
        assert not last or f"resuming in {last} of" in err
        words, last = ["--out", str(cut), "--resume"], ""
        if number == signal.SIGKILL:
            assert status == -signal.SIGKILL
            continue
        assert status == 130
        line = err.strip().splitlines()[-1]
        assert line.startswith("gatewise: interrupted in epoch ")
        assert f"saved; resume with: gatewise train --out {cut} --resume" in line
        last = line.removeprefix("gatewise: interrupted in ").partition(" of")[0].replace(", step", " after step")
    _, err = finish(words, FORKED)
    assert f"resuming in {last} of" in err
    assert_same_end(whole, cut)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, cut)]
    for a, b in zip(*lines, strict=True):
        for timing in ("seconds", "tokens_per_second"):
            a.pop(timing, None), b.pop(timing, None)
        assert a == b
