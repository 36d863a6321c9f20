"""Regressors of numbers of any magnitude: metrics scale with the data's unit and ignore its offset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gatewise as gw
from gatewise.errors import DataError, UsageError
from gatewise.predict.forecast import forecast
from gatewise.tasks.evaluate import evaluate
from tests.conftest import TINY_REGRESSOR

SHORT = {
    **TINY_REGRESSOR,
    "data.window": 4,
    "data.valid_size": 8,
    "data.test_size": 12,
    "model.hidden_size": 3,
    "training.epochs": 2,
}
WAVE = np.sin(np.arange(60) / 3) + np.random.default_rng(1).normal(0, 0.1, 60)
FIGURES = ("test_rmse", "test_mae", "persistence_test_rmse", "autoregression_2_test_rmse")


def series(path: Path, values: np.ndarray) -> Path:
    path.write_text("level\n" + "".join(f"{value!r}\n" for value in values.tolist()))
    return path


def train(folder: Path, values: np.ndarray, **changed: Any) -> Any:
    folder.mkdir()
    return gw.train("sunspots", data=series(folder / "a.csv", values), out=folder / "run", overrides=SHORT | changed)


@pytest.mark.parametrize(
    ("factor", "offset"),
    [(1.0, 1e8), (0.125, 1e15), (2.0**67, 0.0), (1e20, 0.0), (1e-23, 0.0), (1e200, 0.0), (1e-200, 1e-190)],
)
def test_a_series_in_another_unit_has_the_same_figures_in_that_unit(
    tmp_path: Path, factor: float, offset: float
) -> None:
    given = factor * np.round(WAVE * 64) + offset
    plain = (given - offset) / factor
    runs = [train(tmp_path / name, values) for name, values in (("plain", plain), ("given", given))]
    for name in FIGURES:
        expected, found = (run.metrics[name] for run in runs)
        # At 1e15, float64 has a resolution of 1/8: the mean is off by a hundredth of the standard deviation.
        assert found / factor == pytest.approx(expected, rel=2e-2 if offset == 1e15 else 1e-4), name
        assert expected > 1
    if offset == 0 and np.log2(factor) % 1 == 0:  # nothing is rounded
        assert runs[1].metrics["test_rmse"] == factor * runs[0].metrics["test_rmse"]
    assert evaluate(runs[1].path)["rmse"] == runs[1].metrics["test_rmse"]
    windows = np.array([given[t - 4 : t, None] for t in range(48, 60)])
    errors = (runs[1].model.predict(windows) - given[48:]) / factor
    assert runs[1].metrics["test_rmse"] / factor == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-9)
    valid = np.array([given[t - 4 : t, None] for t in range(40, 48)])
    errors = (runs[1].model.predict(valid) - given[40:48]) / factor
    assert evaluate(runs[1].path, split="valid")["rmse"] / factor == pytest.approx(np.sqrt(np.mean(errors**2)))
    ahead = [
        (np.array(forecast(run.path, steps=7).values) - o) / f
        for run, f, o in zip(runs, (1.0, factor), (0.0, offset), strict=True)
    ]
    assert ahead[1] == pytest.approx(ahead[0], rel=1e-2, abs=1.0 if offset == 1e15 else 1e-3)


def test_arrays_in_another_unit_have_the_same_figures_in_that_unit(tmp_path: Path) -> None:
    found = []
    for name, factor, offset in (("plain", 1.0, 0.0), ("given", 1e200, 0.0), ("moved", 1.0, 1e9)):
        (tmp_path / name).mkdir()
        draw = np.random.default_rng(5)
        x = np.round(draw.normal(0, 64, (60, 3, 2)))
        y = x[:, :, 0].sum(1)
        np.savez(tmp_path / name / "a.train.npz", x=factor * x + offset, y=factor * y + offset)
        run = gw.train("sunspots", data=tmp_path / name, out=tmp_path / name / "run", overrides=SHORT)
        found.append([run.metrics[key] / factor for key in ("test_rmse", "test_mae", "mean_test_rmse")])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_a_series_that_never_changes_is_answered_with_its_value(tmp_path: Path) -> None:
    for name, value in (("small", 1e-23), ("some", 0.1), ("large", 1e200), ("none", 0.0)):
        run = train(tmp_path / name, np.full(60, value))
        assert run.metrics["test_rmse"] <= run.metrics["persistence_test_rmse"] + 1e-300
        assert forecast(run.path).values == pytest.approx([value], rel=1e-15, abs=1e-300)


def test_what_lies_too_far_from_the_training_part_is_refused_with_its_column(tmp_path: Path) -> None:
    far = WAVE.copy()
    far[50] = 1e39
    with pytest.raises(DataError, match=r"a\.csv \(test\): 1e\+39 in the column 'level' is too far from the training"):
        train(tmp_path / "far", far)
    run = train(tmp_path / "near", WAVE)
    path = series(tmp_path / "far.csv", far[40:54])
    for call in (lambda: forecast(run.path, path), lambda: evaluate(run.path, data=series(path, far))):
        with pytest.raises(DataError, match=r"far\.csv.*: 1e\+39 in the column 'level' is too far from") as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="x holds numbers that float32 cannot represent; expected numbers like the"):
        run.model.predict(far[-13:-9].reshape(1, 4, 1))
