"""Shuffled batches, steps and evaluations by number, and averaged weights, on a workload whose answers are known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config
from gatewise.errors import DataError
from gatewise.training.batches import BatchWorkload
from gatewise.training.checkpoints import load_newest
from gatewise.training.distributed import Group
from gatewise.training.loop import Trainer
from gatewise.training.scalars import Scalars

ALONE = Group(0, 1, torch.device("cpu"))
X = np.linspace(-1, 1, 23)


class Line(BatchWorkload):
    """Fits w·x to 2x; what is fitted is one number, so that each step can be done by hand."""

    seen: list[float]
    aim = 2.0

    def inputs(self, step: int) -> Tensor:
        return torch.from_numpy(X[self.share(self.chosen(step))]).float()

    def cost(self, x: Tensor) -> tuple[Tensor, float]:
        return ((self.forward(x[:, None])[:, 0] - 2 * x) ** 2).mean(), 1.0

    def validate(self) -> tuple[Metrics, float]:
        weight = float(self.model.weight.detach())  # type: ignore[arg-type]
        self.seen.append(weight)
        return {"valid_loss": (weight - self.aim) ** 2}, (weight - self.aim) ** 2


def make(folder: Path, **training: Any) -> tuple[Trainer, Line]:
    settings = {"learning_rate": 0.5, "max_grad_norm": 0.0, "epochs": 3, **training}
    config = Config.model_validate({"data": {"batch_size": 5}, "training": settings})
    torch.manual_seed(0)
    model = nn.Linear(1, 1, bias=False)
    run = RunFolder(folder)
    run.path.mkdir(exist_ok=True)
    work = Line(config, model, run, ALONE, len(X))
    work.seen = []
    return Trainer(work, config.training, run, ALONE, None, {}, Scalars(None)), work


def by_hand(weight: float, work: Line, steps: int, decay: float = 0.0) -> tuple[list[float], list[float]]:
    """Return the weight after each step, and its running average."""
    weights, averages, average = [], [], weight
    for step in range(steps):
        epoch, place = divmod(step, work.steps_per_epoch)
        work.begin_epoch(epoch + 1)
        x = X[work.chosen(place)]
        weight -= 0.5 * float((2 * x * (weight * x - 2 * x)).mean())
        d = min(decay, (1 + step) / (10 + step))
        average = d * average + (1 - d) * weight
        weights.append(weight)
        averages.append(average)
    return weights, averages


def test_the_order_follows_from_seed_and_epoch_and_covers_each_example_once(tmp_path: Path) -> None:
    _, work = make(tmp_path)
    assert work.steps_per_epoch == 4
    orders = []
    for epoch in (1, 2, 1):
        work.begin_epoch(epoch)
        orders.append(np.concatenate([work.chosen(k) for k in range(4)]))
    assert all(len(set(order)) == 20 for order in orders)
    assert (orders[0] == orders[2]).all()
    assert (orders[0] != orders[1]).any()


def test_the_processes_share_each_batch_between_them(tmp_path: Path) -> None:
    _, work = make(tmp_path)
    batch, shares = work.chosen(0), []
    for rank in range(2):
        work.group = Group(rank, 2, torch.device("cpu"))
        shares.append(work.share(batch))
    assert sorted(np.concatenate(shares)) == sorted(batch)
    assert [len(share) for share in shares] == [3, 2]


def test_batches_by_length_hold_neighbours_and_are_shuffled_themselves(tmp_path: Path) -> None:
    _, plain = make(tmp_path)
    lengths = [(7 * k) % 23 for k in range(23)]
    work = Line(plain.config, plain.model, plain.run, ALONE, 23, lengths)
    spans = []
    for epoch in range(1, 5):
        work.begin_epoch(epoch)
        batches = [sorted(lengths[i] for i in work.chosen(k)) for k in range(4)]
        assert all(batch[-1] - batch[0] <= 4 + 3 for batch in batches)  # five neighbours, at most three left out
        spans.append([batch[0] for batch in batches])
    assert any(starts != sorted(starts) for starts in spans)


def test_more_processes_than_examples_are_refused(tmp_path: Path) -> None:
    _, work = make(tmp_path)
    with pytest.raises(DataError, match="2 training examples for 3 processes"):
        Line(work.config, work.model, work.run, Group(0, 3, torch.device("cpu")), 2)


@pytest.mark.parametrize(
    ("training", "evaluated"),
    [
        ({}, [4, 8, 12]),
        ({"eval_every": 5}, [5, 10, 12]),
        ({"max_steps": 10}, [4, 8, 10]),
        ({"max_steps": 10, "eval_every": 3}, [3, 6, 9, 10]),
        ({"max_steps": 12, "eval_every": 6}, [6, 12]),
        ({"max_steps": 3}, [3]),
    ],
)
def test_evaluations_come_when_they_are_asked_for(
    tmp_path: Path, training: dict[str, int], evaluated: list[int]
) -> None:
    trainer, work = make(tmp_path, **training)
    first = float(work.model.weight.detach())  # type: ignore[arg-type]
    position = trainer.train()
    weights, _ = by_hand(first, work, evaluated[-1])
    assert position.step == evaluated[-1]
    assert work.seen == pytest.approx([weights[step - 1] for step in evaluated], rel=1e-5)
    lines = trainer.run.read_metrics()
    assert [line["epoch"] for line in lines] == [math.ceil(step / 4) for step in evaluated]
    assert [line.get("step") for line in lines] == (evaluated if training else [None] * 3)


@pytest.mark.parametrize("better", ["last", "average"])
def test_the_better_of_the_weights_and_their_average_is_kept(tmp_path: Path, better: str) -> None:
    """The average lags behind the weights, which go from the first one to 2."""
    trainer, work = make(tmp_path, average_decay=0.6, max_steps=10, eval_every=2)
    first = float(work.model.weight.detach())  # type: ignore[arg-type]
    weights, averages = by_hand(first, work, 10, 0.6)
    work.aim = 2.0 if better == "last" else averages[-1]
    work.begin_epoch(1)
    trainer.train()
    assert work.seen[::2] == pytest.approx(weights[1::2], rel=1e-5)
    assert work.seen[1::2] == pytest.approx(averages[1::2], rel=1e-5)
    assert float(work.model.weight.detach()) == pytest.approx(weights[-1], rel=1e-5)  # type: ignore[arg-type]
    last = trainer.run.read_metrics()[-1]
    assert last["weights"] == better
    assert last["valid_loss"] == pytest.approx(min((w - work.aim) ** 2 for w in (weights[-1], averages[-1])), abs=1e-9)
    kept, _ = trainer.run.read_weights({"weight": (1, 1)})
    assert kept["weight"].item() == pytest.approx((weights if better == "last" else averages)[-1], rel=1e-5)


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 6, 7])
def test_a_run_cut_off_anywhere_ends_as_one_that_was_not(tmp_path: Path, stop_after: int) -> None:
    settings = {"average_decay": 0.6, "eval_every": 3, "optimizer": "adam", "checkpoint_every": 0.0}
    whole, _ = make(tmp_path / "whole", **settings)
    whole.train()
    cut, work = make(tmp_path / "cut", **settings)
    honest, calls = work.cost, iter(range(1000))

    def cost(step: int) -> tuple[Tensor, float]:
        if next(calls) == stop_after:
            raise KeyboardInterrupt
        return honest(step)

    work.cost = cost  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    again, _ = make(tmp_path / "cut", **settings)
    checkpoint, _ = load_newest(again.run.checkpoints)
    assert checkpoint is not None
    assert checkpoint.progress["step"] == stop_after
    again.resume(checkpoint)
    again.train()
    assert again.run.weights_file.read_bytes() == whole.run.weights_file.read_bytes()
    timing = ("tokens_per_second", "seconds")
    lines = [[{k: v for k, v in m.items() if k not in timing} for m in t.run.read_metrics()] for t in (whole, again)]
    assert lines[0] == lines[1]
