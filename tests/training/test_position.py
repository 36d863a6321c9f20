"""The learning rate at each position of a run, and that a resumed run keeps to it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import TrainingConfig
from gatewise.errors import UsageError
from gatewise.training.position import Position, learning_rate
from gatewise.training.update import Update
from tests.conftest import TINY_CLASSIFIER

QUICK = {
    **TINY_CLASSIFIER,
    "data.batch_size": 30,
    "model.hidden_size": 3,
    "training.max_steps": 0,
    "training.eval_every": 0,
}


def rates(settings: TrainingConfig, losses: list[float]) -> list[float]:
    """Return the rate of each epoch of a run whose evaluations give these losses."""
    at, found = Position(), []
    for epoch, loss in enumerate(losses, 1):
        at.epoch = epoch
        found.append(learning_rate(settings, at, epoch - 1, 1))
        at.history.append({"epoch": epoch, "learning_rate": found[-1]})
        if loss < at.best:
            at.best, at.best_epoch = loss, epoch
    return found


def test_decay_is_zarembas() -> None:
    small = TrainingConfig(learning_rate=1.0, lr_decay=0.5, lr_decay_after_epoch=4)
    assert rates(small, [1.0] * 7) == [1, 1, 1, 1, 0.5, 0.25, 0.125]


def test_cosine_is_pytorchs() -> None:
    settings = TrainingConfig(learning_rate=0.3, schedule="cosine", epochs=4)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.3)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    for step in range(12):
        assert learning_rate(settings, Position(), step, 3) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        peer.step()
    by_steps = TrainingConfig(learning_rate=0.3, schedule="cosine", max_steps=10)
    assert learning_rate(by_steps, Position(), 5, 3) == pytest.approx(0.15)
    assert learning_rate(by_steps, Position(), 12, 3) == 0


def test_plateau_is_pytorchs() -> None:
    """Its patience is the number of evaluations that may pass; ours, the one after which the rate falls."""
    losses = [3.0, 2.0, 2.5, 2.1, 2.0, 1.9, 1.9, 1.9, 1.9, 1.9, 1.8, 5.0, math.inf, 5.0]
    settings = TrainingConfig(learning_rate=1.0, schedule="plateau", lr_decay=0.5, plateau_patience=2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0, eps=0)
    expected = []
    for loss in losses:
        expected.append(optimizer.param_groups[0]["lr"])
        peer.step(loss)
    assert rates(settings, losses) == expected
    assert expected[-1] == 1 / 16


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_the_rates_of_a_run(schedule: str, sequences: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**QUICK, "training.schedule": schedule, "training.epochs": 4}
    if schedule == "plateau":
        settings |= {"training.lr_decay": 0.1, "training.plateau_patience": 1, "training.learning_rate": 1e-9}
    run = gw.train("mnist-rows", data=sequences, out=tmp_path / "run", overrides=settings)
    found = [line["learning_rate"] for line in RunFolder(run.path).read_history("classifier").evaluations]
    if schedule == "plateau":
        assert found == pytest.approx([1e-9, 1e-9, 1e-10, 1e-11])
        return
    first, steps = TrainingConfig.model_validate({"learning_rate": found[0]}), 12
    assert first.learning_rate > found[1] > found[2] > found[3] > 0
    rate = found[0] / (1 + math.cos(math.pi * 2 / steps)) * 2
    assert found == pytest.approx([rate * (1 + math.cos(math.pi * (3 * k - 1) / steps)) / 2 for k in range(1, 5)])
    with pytest.raises(UsageError, match=r"this run was started with training\.epochs = 4, now it is 6"):
        gw.train(
            "mnist-rows",
            data=sequences,
            out=tmp_path / "run",
            overrides={**settings, "training.epochs": 6},
            resume=True,
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"training.schedule": "plateau"},
            r"schedule plateau multiplies the learning rate by lr_decay; set lr_decay",
        ),
        ({"training.schedule": "cosine", "training.lr_decay": 0.5}, "schedule cosine has no lr_decay; leave"),
        ({"training.schedule": "linear"}, r"training\.schedule is 'linear'"),
        (
            {"training.schedule": "plateau", "training.lr_decay": 0.5, "training.plateau_patience": 0},
            "plateau_patience",
        ),
    ],
)
def test_bad_schedules(settings: dict[str, Any], message: str, sequences: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        gw.train("mnist-rows", data=sequences, out=tmp_path / "run", overrides={**QUICK, **settings})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("schedule", ["decay", "cosine", "plateau"])
def test_the_optimizer_steps_with_these_rates(
    schedule: str, sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of three steps; the rates are far too small to change any evaluation."""
    settings: dict[str, Any] = {"training.schedule": schedule, "training.learning_rate": 1e-9, "training.epochs": 3}
    if schedule != "cosine":
        settings |= {"training.lr_decay": 0.1, "training.plateau_patience": 1, "training.lr_decay_after_epoch": 2}
    used, honest = list[float](), Update.step

    def step(self: Update, norm: float, max_grad_norm: float) -> None:
        used.append(self.optimizer.param_groups[0]["lr"])
        honest(self, norm, max_grad_norm)

    monkeypatch.setattr(Update, "step", step)
    gw.train("mnist-rows", data=sequences, out=tmp_path / "run", overrides={**QUICK, **settings})
    falling = [1e-9 * (1 + math.cos(math.pi * k / 9)) / 2 for k in range(9)]
    assert used == pytest.approx(falling if schedule == "cosine" else [1e-9] * 6 + [1e-10] * 3, rel=1e-9)
