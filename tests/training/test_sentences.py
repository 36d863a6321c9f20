"""Training sentence by sentence: the rate that falls, exact resume, what stops it."""

import json
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import gatewise as gw
from gatewise.config import TrainingConfig
from gatewise.errors import TrainingStopped
from gatewise.scratch import ScratchModel
from gatewise.tasks.evaluate import evaluate
from gatewise.training.checkpoints import load_newest
from gatewise.training.sentences import learning_rate
from tests.conftest import TINY_SCRATCH, real_data, write_comments
from tests.training.processes import FORKED, assert_same_end, finish, stop_after_a_checkpoint


def train(data: Path, out: Path, **changes: object) -> list[dict[str, Any]]:
    """Train on the small corpus; return the lines of its metrics."""
    overrides = {**TINY_SCRATCH, **{key.replace("__", "."): value for key, value in changes.items()}}
    gw.train("comments-scratch", data=data, out=out, overrides=overrides)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_rate_is_multiplied_after_each_rise() -> None:
    settings = TrainingConfig(learning_rate=0.8, lr_decay_on_rise=0.5)
    rates = [
        learning_rate(settings, [{"train_loss": loss} for loss in (5.0, 4.0, 4.5, 4.5, 4.2, 4.3)[:k]]) for k in range(7)
    ]
    assert rates == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2]


def test_where_the_loss_rises_the_rate_is_halved_and_the_best_epoch_kept(comments: Path, tmp_path: Path) -> None:
    *epochs, final = train(comments, tmp_path / "run", training__learning_rate=3.0, training__epochs=8)
    losses, rates = ([line[key] for line in epochs] for key in ("train_loss", "learning_rate"))
    rises = [after > before for before, after in pairwise(losses)]
    assert any(rises)
    assert rates[:2] == [3.0, 3.0]
    for k, rose in enumerate(rises[:-1]):
        assert rates[k + 2] == rates[k + 1] * (0.5 if rose else 1)
    assert final["best_epoch"] == 1 + losses.index(min(losses))
    assert final["train_loss"] == min(losses)
    assert evaluate(tmp_path / "run")["nll"] == pytest.approx(min(losses), rel=1e-6)


def test_weights_start_from_the_seed(comments: Path, tmp_path: Path) -> None:
    a, b, c = (train(comments, tmp_path / f"{k}", training__seed=seed)[0] for k, seed in enumerate((1, 1, 2)))
    assert a["train_loss"] == b["train_loss"] != c["train_loss"]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    comments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = ScratchModel.step, []

    def poisoned(self: ScratchModel, sentence: list[int], rate: float) -> float:
        calls.append(rate)
        return float("nan") if len(calls) == 9 else honest(self, sentence, rate)

    monkeypatch.setattr(ScratchModel, "step", poisoned)
    with pytest.raises(
        TrainingStopped, match=r"epoch 2, step 2 of 6: the loss of the next step is nan; the last good checkpoint is"
    ):
        train(comments, tmp_path / "run")
    checkpoint, damaged = load_newest(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and not damaged
    assert checkpoint.progress["step"] == 6
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint.tensors.values())


def test_a_rate_out_of_all_bounds_stops_in_one_line(comments: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped, match=r"lower training\.learning_rate"):
        train(comments, tmp_path / "run", training__learning_rate=1e38)


@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed_bit_for_bit(tmp_path: Path) -> None:
    data = write_comments(tmp_path / "many.csv", repeats=400)
    words = ["comments-scratch", "--data", str(data), "--set", "training.epochs=3", "--set", "model.hidden_size=30"]
    words += ["--set", "training.checkpoint_every=0.1"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish([*words, "--out", str(whole)], FORKED)
    for kill, number in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGKILL)):
        again = [*words, "--out", str(cut)] if kill == 0 else ["--out", str(cut), "--resume"]
        status, err = stop_after_a_checkpoint(again, cut, 0.05, number, FORKED)
        if number == signal.SIGINT:
            assert status == 130
            assert f"saved; resume with: gatewise train --out {cut} --resume" in err.strip().splitlines()[-1]
    _, err = finish(["--out", str(cut), "--resume"], FORKED)
    assert "resuming in epoch" in err
    assert_same_end(whole, cut)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, cut)]
    for a, b in zip(*lines, strict=True):
        for timing in ("seconds", "tokens_per_second"):
            a.pop(timing, None), b.pop(timing, None)
        assert a == b


@pytest.mark.slow
def test_three_epochs_of_real_comments(tmp_path: Path) -> None:
    """The comparison of the docs: 200 sentences, the recipe as it is."""
    overrides = {"data.max_sentences": 200, "training.epochs": 3, "logging.tensorboard": False}
    run = gw.train("comments-scratch", data=real_data("comments"), out=tmp_path / "run", overrides=overrides)
    *epochs, final = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["train_loss"] for line in epochs] == pytest.approx([8.7109, 7.4699, 6.8286], abs=2e-3)
    assert (final["train_sentences"], final["train_tokens"], final["best_epoch"]) == (200, 3508, 3)
    weights = load_file(run.path / "model.safetensors")
    assert weights["rnn.weight_ih_l0"].shape == (400, 8000)
    assert not np.any(weights["rnn.bias_hh_l0"])
    assert "embedding.weight" not in weights
