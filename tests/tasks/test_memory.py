"""The memory task: which data is drawn when, exact resuming, and that it can be learnt."""

from pathlib import Path

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.data.adding import draw_adding_problem
from gatewise.errors import UsageError
from gatewise.predict.forecast import forecast
from gatewise.tasks.evaluate import evaluate
from gatewise.tasks.memory import Adding, MemoryTask
from gatewise.training.distributed import Group

TINY = {
    "data.length": 6,
    "data.batch_size": 32,
    "training.max_steps": 40,
    "training.eval_every": 20,
    "logging.tensorboard": False,
}


def work(folder: Path, group: Group, **settings: int) -> Adding:
    config = Config.model_validate(
        {
            "task": {"name": "memory-task"},
            "data": {"length": 9, "batch_size": 5},
            "model": {"hidden_size": 2, "num_layers": 1},
            "training": settings,
        }
    )
    task = MemoryTask(config)
    made = Adding(config, task.parts, task.make_model(), RunFolder(folder), Group(0, 1, group.device))
    made.group = group
    return made


def test_each_step_has_sequences_of_its_own_that_follow_from_the_seed(tmp_path: Path) -> None:
    alone = Group(0, 1, torch.device("cpu"))
    one, same, other = (work(tmp_path, alone, seed=seed) for seed in (1, 1, 2))
    x, y, _ = one.examples(3)
    assert (x.shape, y.shape, one.steps_per_epoch) == ((5, 9, 2), (5,), 100)
    assert np.array_equal(x, same.examples(3)[0])
    for changed in (one.examples(4), other.examples(3)):
        assert not np.array_equal(x, changed[0])
    one.begin_epoch(2)
    assert not np.array_equal(x, one.examples(3)[0])


def test_processes_share_a_steps_sequences(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    whole = work(tmp_path, Group(0, 1, cpu)).examples(0)[1]
    shares = [work(tmp_path, Group(rank, 2, cpu)).examples(0)[1] for rank in (0, 1)]
    assert np.concatenate([shares[0], shares[1]]).tolist() == [*whole[0::2], *whole[1::2]]


def test_resume_between_evaluations_goes_on_as_a_run_that_was_not_cut(tmp_path: Path) -> None:
    """The interrupted run is also evaluated where it was interrupted, and only there."""
    runs = [RunFolder(tmp_path / name) for name in ("whole", "cut")]
    gw.train("memory-task", out=runs[0].path, overrides=TINY)
    gw.train("memory-task", out=runs[1].path, overrides={**TINY, "training.max_steps": 27})
    gw.train("memory-task", out=runs[1].path, overrides=TINY, resume=True)
    whole, cut = ({line["step"]: line["valid_rmse"] for line in run.read_metrics()[:-1]} for run in runs)
    assert list(cut) == [20, 27, 40]
    assert whole == {step: cut[step] for step in (20, 40)}


def test_evaluation_is_on_a_fixed_set_and_as_by_hand(tmp_path: Path) -> None:
    run = gw.train("memory-task", out=tmp_path / "run", overrides=TINY, seed=3)
    part = draw_adding_problem(2000, 6, np.random.default_rng(2))
    errors = run.model.predict(part.x) - part.y
    figures = evaluate(run.path)
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert figures["mae"] == pytest.approx(np.mean(np.abs(errors)))
    assert (figures["task"], figures["tokens"], figures["data_hash"]) == ("memory-task", 2000, part.data_hash)
    assert run.metrics["test_rmse"] == figures["rmse"]
    assert run.metrics["always_1_test_rmse"] == pytest.approx(np.sqrt(1 / 6), rel=0.05)
    assert evaluate(run.path, split="valid")["data_hash"] != part.data_hash
    with pytest.raises(UsageError, match="expected valid or test"):
        evaluate(run.path, split="train")
    with pytest.raises(UsageError, match="draws its data; omit it"):
        evaluate(run.path, data=tmp_path)
    with pytest.raises(UsageError, match="its model predicts one value per sequence; expected the run of a series"):
        forecast(run.path)


def test_a_short_sum_is_learnt(tmp_path: Path) -> None:
    settings = {**TINY, "training.max_steps": 300, "training.eval_every": 300, "model.hidden_size": 16}
    run = gw.train("memory-task", out=tmp_path / "run", overrides={**settings, "training.learning_rate": 0.02})
    assert run.metrics["test_rmse"] < 0.1 < run.metrics["always_1_test_rmse"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data.length": 1}, r"data\.length is 1; expected at least 2"),
        ({"data.path": "."}, "a memory-task draws its data"),
        ({"data.builtin": "sunspots"}, "a memory-task does not read it"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gw.train("memory-task", out=tmp_path / "run", overrides={**TINY, **changed})
    assert not (tmp_path / "run").exists()
