"""The table of tasks agrees with what makes, trains and evaluates them."""

from typing import get_args

import pytest

from gatewise.config import TASKS, Config
from gatewise.config.tasks import ACCURACY, BASELINES, RMSE, TaskName
from gatewise.models.loading import MAKERS
from gatewise.tasks.kinds import KINDS


def test_every_table_has_every_task() -> None:
    assert list(TASKS) == list(get_args(TaskName))
    assert set(MAKERS) == set(TASKS)
    assert {*KINDS, "scratch-language-model"} == set(TASKS)
    for name in TASKS:
        assert Config.model_validate({"task": {"name": name}}).task.name == name


@pytest.mark.parametrize("name", TASKS)
def test_the_metric_of_an_evaluation_is_that_of_the_final_line(name: TaskName) -> None:
    row = TASKS[name]
    assert row.evaluated == f"{row.split}_{row.metric.name}"
    assert f"{'test' if row.split == 'valid' else 'train'}_{row.metric.name}" in row.final
    assert any(key.endswith("_data_hash") for key in row.final)


def test_the_best_value_is_the_least_of_what_is_minimized() -> None:
    assert min((0.2, 0.9), key=ACCURACY.to_minimize) == 0.9
    assert min((0.2, 0.9), key=RMSE.to_minimize) == 0.2
    assert BASELINES == ("_test_accuracy", "_test_rmse")
