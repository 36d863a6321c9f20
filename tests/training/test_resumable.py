"""What a checkpoint says is checked against the run before anything of the trainer is changed."""

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gatewise.errors import RunError
from gatewise.training.checkpoints import Checkpoint, load_newest
from gatewise.training.interrupt import InterruptGuard
from gatewise.training.loop import Trainer
from gatewise.training.position import Position
from gatewise.training.resumable import DTYPES, check_position, check_resumable
from tests.training.rig import make_trainer

Progress, Tensors = dict[str, Any], dict[str, Tensor]
SETTINGS = {"training.optimizer": "adam", "training.learning_rate": 0.01, "training.average_decay": 0.9}


@pytest.fixture(scope="module")
def saved(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint three steps into the first epoch."""
    trainer = make_trainer(corpus, tmp_path_factory.mktemp("saved"), **SETTINGS)
    with InterruptGuard() as guard:
        trainer.workload.begin_epoch(1)
        for _ in range(3):
            trainer.step(guard)
    trainer.save()
    checkpoint, _ = load_newest(trainer.run.checkpoints)
    assert checkpoint is not None
    return checkpoint


@pytest.fixture(scope="module")
def fresh(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A trainer that has not begun, and that no refused checkpoint changes."""
    return make_trainer(corpus, tmp_path_factory.mktemp("fresh"), **SETTINGS)


def test_a_whole_one_is_taken_up(saved: Checkpoint, corpus: Path, tmp_path: Path) -> None:
    trainer = make_trainer(corpus, tmp_path, **SETTINGS)
    trainer.resume(deepcopy(saved))
    assert (trainer.at.step, trainer.at.step_in_epoch) == (3, 3)


def put(key: str, value: Any) -> Callable[[Progress, Tensors], object]:
    """Return what sets a value of the progress."""
    return lambda progress, tensors: progress.update({key: value})


def tensor(name: str, change: Callable[[Tensor], Tensor | None]) -> Callable[[Progress, Tensors], object]:
    """Return what changes a tensor, or takes it away."""

    def damage(progress: Progress, tensors: Tensors) -> None:
        changed = change(tensors.pop(name))
        if changed is not None:
            tensors[name] = changed

    return damage


def nothing(_: Tensor) -> None:
    return None


BAD: dict[str, Callable[[Progress, Tensors], object]] = {
    "no weight": tensor("model.decoder.bias", nothing),
    "a weight that would be broadcast": tensor("model.decoder.weight", lambda t: t[:1, :1].flatten()),
    "a weight of another shape": tensor("model.decoder.weight", lambda t: t.T.contiguous()),
    "a weight of another dtype": tensor("model.decoder.weight", Tensor.double),
    "no average": tensor("average.2", nothing),
    "an average of another shape": tensor("average.2", lambda t: t[:1]),
    "no carried state": tensor("carried.1", nothing),
    "a carried state of fewer rows": tensor("carried.0", lambda t: t[:, 1:].contiguous()),
    "no moments": tensor("optimizer.1.exp_avg", nothing),
    "moments of another shape": tensor("optimizer.1.exp_avg_sq", lambda t: t[:1]),
    "moments transposed": tensor("optimizer.0.exp_avg", lambda t: t.T.contiguous()),
    "moments of another dtype": tensor("optimizer.0.exp_avg", Tensor.half),
    "a count of steps with a shape": tensor("optimizer.0.step", lambda t: t[None]),
    "moments of no parameter": tensor("optimizer.0.step", lambda t: None),
    "no sums": tensor("sums.0", nothing),
    "sums of another shape": tensor("sums.0", lambda t: t[:1]),
    "no generator": tensor("generator.cpu.0", nothing),
    "a generator cut short": tensor("generator.cpu.0", lambda t: t[:-1]),
    "a generator of another dtype": tensor("generator.cpu.0", Tensor.float),
    "one tensor too many": lambda progress, tensors: tensors.update(more=torch.zeros(1)),
    "moments too many": lambda progress, tensors: tensors.update({"optimizer.99.step": torch.ones(())}),
    "steps of the epoch beyond it": put("step_in_epoch", 10**6),
    "steps of the epoch that disagree": put("step_in_epoch", 2),
    "steps that disagree": put("step", 4),
    "steps below 0": put("step", -3),
    "steps with a fraction": put("step", 3.0),
    "epoch 0": put("epoch", 0),
    "an epoch that disagrees": put("epoch", 2),
    "an epoch true": put("epoch", True),
    "an epoch beyond all numbers": put("epoch", 10**30),
    "seconds below 0": put("seconds", -1.0),
    "seconds that are none": put("seconds", math.nan),
    "units without end": put("units", math.inf),
    "a cost of words": put("cost", "3"),
    "a best that is none": put("best", "low"),
    "steps since an evaluation that disagree": put("since_evaluation", 1),
    "a best epoch that was not": put("best_epoch", 1),
    "a best step that was not": put("best_step", 3),
    "a history that is none": put("history", {}),
    "a history of something": put("history", [3]),
    "a history without epochs": put("history", [{"valid_perplexity": 3.0}]),
    "a history ahead": put("history", [{"epoch": 1, "valid_perplexity": 3.0}]),
    "a history that goes back": put("history", [{"epoch": 1, "step": 60}, {"epoch": 1}]),
    "a history of nested lines": put("history", [{"epoch": 1, "step": 2, "more": []}]),
    "no processes": put("world_size", 0),
    "more processes than tensors": put("world_size", 10**9),
    "processes true": put("world_size", True),
    "no scaling": put("scaler", None),
    "a scaling of fp16": put("scaler", {"scale": 2.0}),
    "no identity": put("identity", None),
    "an identity of something": put("identity", {"config": [], "data": {}}),
    "data of something": put("identity", {"config": {}, "data": {"train": 3}}),
    "a key too many": put("more", 1),
    "a key less": lambda progress, tensors: progress.pop("skipped"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_and_changes_nothing(name: str, saved: Checkpoint, fresh: Trainer) -> None:
    checkpoint = Checkpoint(deepcopy(saved.progress), dict(saved.tensors))
    BAD[name](checkpoint.progress, checkpoint.tensors)
    before = [p.detach().clone() for p in [*fresh.making.parameters, *fresh.making.average.weights]]
    random = torch.get_rng_state()
    with pytest.raises(RunError) as caught:
        fresh.resume(checkpoint)
    assert "cannot resume this run" in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert fresh.at == Position() and not fresh.making.optimizer.state
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, [*fresh.making.parameters, *fresh.making.average.weights], strict=True)
    )
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(
    "change", [{"scale": math.nan}, {"scale": 0.0}, {"scale": "1"}, {"_growth_tracker": -1}, {"growth_factor": True}]
)
def test_a_scaling_of_the_loss_that_is_none(change: dict[str, Any], saved: Checkpoint, fresh: Trainer) -> None:
    settings = fresh.settings.model_copy(update={"precision": "fp16"})
    state = torch.amp.GradScaler("cpu").state_dict()
    outline = {name: (DTYPES[t.dtype], tuple(t.shape)) for name, t in saved.tensors.items()}
    check_resumable({**saved.progress, "scaler": state}, outline, fresh.workload, settings, fresh.group)
    with pytest.raises(ValueError, match="values that are not positive numbers"):
        check_resumable(
            {**saved.progress, "scaler": {**state, **change}}, outline, fresh.workload, settings, fresh.group
        )


def test_an_evaluation_ahead_of_training(saved: Checkpoint) -> None:
    """Of the scratch model, which does not count the steps since the last one."""
    progress = {key: value for key, value in saved.progress.items() if key not in ("scaler", "world_size")}
    check_position(progress, 50, set(), evaluated=False)
    ahead = {**progress, "history": [{"epoch": 1, "train_loss": 3.0}], "best_epoch": 1}
    with pytest.raises(ValueError, match="evaluation at step 50, but training is at step 3"):
        check_position(ahead, 50, set(), evaluated=False)


def test_best_weights_that_are_lost_are_told_before_hours_are_spent(
    saved: Checkpoint, corpus: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(corpus, tmp_path, **SETTINGS)
    checkpoint = Checkpoint(deepcopy(saved.progress), dict(saved.tensors))
    checkpoint.progress |= {
        "history": [{"epoch": 1, "step": 1, "valid_perplexity": 3.0}, {"epoch": 1, "step": 2, "valid_perplexity": 4.0}],
        "since_evaluation": 1,
        "best_epoch": 1,
        "best_step": 1,
    }
    with pytest.raises(RunError, match=r"model\.safetensors: no such file.*: the best weights so far, of step 1, are"):
        trainer.resume(checkpoint)
    trainer.workload.save_best({"epoch": 1, "step": 0})
    with pytest.raises(RunError, match=r"model\.safetensors: weights of step 0; the best weights so far, of step 1"):
        trainer.resume(checkpoint)
    assert trainer.at == Position()
    trainer.workload.save_best({"epoch": 1, "step": 1})
    trainer.resume(checkpoint)
    assert trainer.at.step == 3


@pytest.mark.parametrize("rate", [None, "fast", math.nan])
def test_a_plateau_without_the_learning_rates_of_its_history(
    rate: Any, saved: Checkpoint, corpus: Path, tmp_path: Path
) -> None:
    plateau = {**SETTINGS, "training.schedule": "plateau", "training.lr_decay": 0.5}
    trainer, bad = make_trainer(corpus, tmp_path, **plateau), deepcopy(saved)
    bad.progress.update(
        history=[{"epoch": 1, "step": 2, "learning_rate": rate}], since_evaluation=1, best_epoch=1, best_step=2
    )
    with pytest.raises(RunError, match="its history has no learning rate in epoch 1"):
        trainer.resume(bad)
