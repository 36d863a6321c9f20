"""Class weights: rare labels count as much as frequent ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.errors import UsageError
from gatewise.tasks.evaluate import evaluate
from gatewise.tasks.sequence_classification import SequenceClassifierTask
from gatewise.training.distributed import Group

COUNTS = {"a": 90, "b": 9, "c": 1}


def imbalanced(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    y = np.repeat(list(COUNTS), list(COUNTS.values()))
    x = rng.normal(size=(100, 4, 2)) + (y == "b")[:, None, None]
    for split in ("train", "valid", "test"):
        np.savez(folder / f"x.{split}.npz", x=x, y=y)
    return folder


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_cost_by_hand(ranks: int, tmp_path: Path) -> None:
    """Σ w nll / N over a batch of all examples; the processes' shares average to it."""
    settings = {"data": {"path": str(imbalanced(tmp_path)), "batch_size": 100}, "task": {"name": "classifier"}}
    costs = dict[str, float]()
    for weights in ("none", "balanced"):
        config = Config.model_validate({**settings, "training": {"class_weights": weights}})
        task = SequenceClassifierTask(config)
        torch.manual_seed(1)
        model, shares = task.make_model(), []
        for rank in range(ranks):
            work = task.workload(model, RunFolder(tmp_path / "run"), Group(rank, 1, torch.device("cpu")))
            work.group = Group(rank, ranks, torch.device("cpu"))
            shares.append(float(work.cost(work.inputs(0))[0].detach()))
        costs[weights] = float(np.mean(shares))
    x, y, _ = task.parts["train"].part.batch(slice(None))  # type: ignore[attr-defined]
    nll = -np.log(model.predict_proba(x)[np.arange(100), [task.labels.index(label) for label in y]])
    weight = np.array([100 / (3 * COUNTS[label]) for label in y])
    assert costs == pytest.approx({"none": nll.mean(), "balanced": (weight * nll).mean()}, rel=1e-5)


def test_a_rare_label_is_found_more_often(tmp_path: Path) -> None:
    recalls = {}
    for weights in ("none", "balanced"):
        overrides = {"training.class_weights": weights, "training.epochs": 15, "training.patience": 0}
        run = gw.train("sequence-classifier", data=imbalanced(tmp_path), out=tmp_path / weights, overrides=overrides)
        recalls[weights] = evaluate(run.path)["recall_b"]
    assert recalls["balanced"] > recalls["none"]


def test_tasks_without_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"training\.class_weights is 'balanced'; a tagger does not read it"):
        gw.train("tagging-toy", out=tmp_path / "run", overrides={"training.class_weights": "balanced"})
