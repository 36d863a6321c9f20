"""Regressors from files to metrics: a series, arrays, and errors in them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import DataError, RunError, UsageError
from gatewise.predict.forecast import forecast
from gatewise.tasks.autoregression import persistence_rmse
from gatewise.tasks.evaluate import evaluate
from tests.conftest import TINY_REGRESSOR, unseal, write_waves

BOTH = {**TINY_REGRESSOR, "data.columns": ["wind", "level"], "data.target": "level"}


def column(path: Path, place: int = 1) -> Any:
    """Return a column of the CSV file, read without Gatewise."""
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=place)


def write_arrays(folder: Path) -> Path:
    """Write sequences (5 steps of 2 numbers) whose target is the sum of the first column, in large units."""
    folder.mkdir()
    draw = np.random.default_rng(5)
    for split, count in (("train", 200), ("valid", 40), ("test", 50)):
        x = draw.normal(1000, 100, (count, 5, 2))
        np.savez(folder / f"toy.{split}.npz", x=x, y=x[:, :, 0].sum(1))
    return folder


def test_it_learns_and_leaves_a_run_folder(waves: Path, regressor_run: Path) -> None:
    run = RunFolder(regressor_run)
    *evaluations, final = run.read_metrics()
    assert len(evaluations) == 12
    assert evaluations[-1]["train_loss"] < 0.5 * evaluations[0]["train_loss"]
    best = min(line["valid_rmse"] for line in evaluations)
    assert best < 0.7 * evaluations[0]["valid_rmse"]
    assert evaluations[final["best_epoch"] - 1]["valid_rmse"] == best
    assert final["persistence_test_rmse"] == pytest.approx(persistence_rmse(column(waves), 1, 30))
    assert final["test_rmse"] < final["persistence_test_rmse"]
    assert 0 < final["test_mae"] < final["test_rmse"]
    assert final["autoregression_9_test_rmse"] < final["persistence_test_rmse"]
    card = (regressor_run / "README.md").read_text()
    for key in ("test_rmse", "test_mae", "persistence_test_rmse", "autoregression_2_test_rmse"):
        assert f"| {final[key]:.4g} |" in card
    assert f"gatewise forecast {regressor_run} --steps 1" in card


def test_the_model_speaks_the_users_units_and_the_split_is_by_time(waves: Path, regressor_run: Path) -> None:
    level = column(waves)
    x = np.array([level[t - 8 : t, None] for t in range(170, 200)])
    errors = gw.load(regressor_run).predict(x) - level[170:]
    figures = evaluate(regressor_run)
    assert list(figures) == ["task", "split", "rmse", "mae", "tokens", "oov_rate", "data_hash"]
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)
    assert figures["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-4)
    final = RunFolder(regressor_run).read_metrics()[-1]
    assert (figures["rmse"], figures["mae"], figures["data_hash"]) == tuple(
        final[f"test_{name}"] for name in ("rmse", "mae", "data_hash")
    )
    x = np.array([level[t - 8 : t, None] for t in range(150, 170)])
    errors = gw.load(regressor_run).predict(x) - level[150:170]
    assert evaluate(regressor_run, split="valid")["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)
    assert [evaluate(regressor_run, split=split)["tokens"] for split in ("train", "valid", "test")] == [142, 20, 30]


def test_the_scaling_is_of_the_training_part_alone(waves: Path, regressor_run: Path, tmp_path: Path) -> None:
    facts = json.loads((regressor_run / "scaling.json").read_text())
    level = column(waves)
    windows = np.array([level[t - 8 : t] for t in range(8, 150)])
    assert facts["x_mean"] == pytest.approx([windows.mean()])
    assert facts["x_std"] == pytest.approx([windows.std()])
    assert (facts["y_mean"], facts["y_std"]) == pytest.approx((level[8:150].mean(), level[8:150].std()))
    assert (facts["columns"], facts["target"], facts["input_size"]) == (["level"], "level", 1)


def test_several_columns_and_a_later_target(waves: Path, tmp_path: Path) -> None:
    """A column that drives the level one step later helps; in another file, columns are found by name."""
    run = gw.train("sunspots", data=waves, out=tmp_path / "run", overrides={**BOTH, "data.horizon": 3})
    level, wind = column(waves), column(waves, 2)
    x = np.array([np.stack([wind, level], 1)[t - 10 : t - 2] for t in range(170, 200)])
    errors = run.model.predict(x) - level[170:]
    assert run.metrics["test_rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)
    assert run.metrics["persistence_test_rmse"] == pytest.approx(persistence_rmse(level, 3, 30))
    rows = [f"{b},{a}" for a, b in zip(level, wind, strict=True)]
    (tmp_path / "other.csv").write_text("\n".join(["wind,level", *rows]), encoding="utf-8")
    assert evaluate(run.path, data=tmp_path / "other.csv")["rmse"] == pytest.approx(run.metrics["test_rmse"])


def test_all_numeric_columns_but_the_index_where_none_is_named(waves: Path, tmp_path: Path) -> None:
    run = gw.train("sunspots", data=waves, out=tmp_path / "run", overrides={**TINY_REGRESSOR, "training.epochs": 1})
    assert (run.model.scaling.columns, run.model.scaling.target) == (["level", "wind"], "level")


def test_arrays_are_answered_in_their_units(tmp_path: Path) -> None:
    folder = write_arrays(tmp_path / "arrays")
    overrides = {**TINY_REGRESSOR, "data.window": 0, "training.epochs": 30}
    run = gw.train("sunspots", data=folder, out=tmp_path / "run", overrides=overrides)
    with np.load(folder / "toy.test.npz") as arrays, np.load(folder / "toy.train.npz") as train:
        x, y, mean = arrays["x"], arrays["y"], train["y"].mean()
    assert run.metrics["mean_test_rmse"] == pytest.approx(np.sqrt(np.mean((y - mean) ** 2)))
    assert run.metrics["test_rmse"] == pytest.approx(np.sqrt(np.mean((run.model.predict(x) - y) ** 2)), rel=1e-3)
    assert run.metrics["test_rmse"] < 0.5 * run.metrics["mean_test_rmse"]
    assert run.model.scaling.x_mean == pytest.approx([1000, 1000], abs=20)
    assert evaluate(run.path, data=folder, split="valid")["tokens"] == 40
    with pytest.raises(UsageError, match="its model predicts one value per sequence; expected the run of a series"):
        forecast(run.path)
    with pytest.raises(DataError, match=r"waves\.csv: a file; expected an \.npz file, or a folder with \*\.train\.npz"):
        evaluate(run.path, data=write_waves(tmp_path / "waves.csv"))


def test_resume_of_a_run_cut_short_ends_as_one_that_was_not(waves: Path, regressor_run: Path, tmp_path: Path) -> None:
    options = {**TINY_REGRESSOR, "data.columns": ["level"]}
    gw.train("sunspots", data=waves, out=tmp_path / "run", overrides={**options, "training.epochs": 5})
    gw.train("sunspots", data=waves, out=tmp_path / "run", overrides=options, resume=True)
    found, expected = RunFolder(tmp_path / "run").read_metrics(), RunFolder(regressor_run).read_metrics()
    assert [line["valid_rmse"] for line in found[:-1]] == [line["valid_rmse"] for line in expected[:-1]]
    assert found[-1] == expected[-1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data.builtin": "sunspots"}, "names both path and builtin"),
        ({"data.path": ""}, "names no data; add data=FILE"),
        ({"data.path": "", "data.builtin": "digits"}, "'digits', which this task does not support"),
        ({"data.target": "wind"}, "'wind', not one of data.columns, 'level'"),
    ],
)
def test_settings_that_name_no_series(waves: Path, tmp_path: Path, changed: dict[str, object], message: str) -> None:
    options = {**TINY_REGRESSOR, "data.path": str(waves), "data.builtin": "", "data.columns": ["level"], **changed}
    with pytest.raises(UsageError, match=message):
        gw.train("sunspots", out=tmp_path / "run", overrides=options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data.columns": ["rain"]}, r"waves\.csv:1: no column 'rain'; found 'day', 'level', 'wind'"),
        ({"data.target": "rain"}, r"waves\.csv: no numeric column 'rain'; found 'level', 'wind'"),
        ({"data.target": "day"}, r"waves\.csv: no numeric column 'day'; found 'level', 'wind'"),
        ({"data.window": 200}, "200 values are too few for a window of 200 and a horizon of 1"),
        ({"data.test_size": 192}, r"data\.test_size is 192, of 192 examples"),
        ({"data.valid_size": 162}, r"data\.valid_size is 162 and data\.test_size is 30, of 192 examples"),
    ],
)
def test_a_series_that_does_not_do(waves: Path, tmp_path: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        gw.train("sunspots", data=waves, out=tmp_path / "run", overrides={**TINY_REGRESSOR, **changed})
    assert not (tmp_path / "run").exists()


def test_sunspots_have_one_column(tmp_path: Path) -> None:
    pytest.importorskip("statsmodels")
    with pytest.raises(DataError, match="sunspots: no numeric column 'rain'; found 'SUNACTIVITY'"):
        gw.train("sunspots", out=tmp_path / "run", overrides={"data.columns": ["rain"]})


def test_data_that_is_gone_or_of_another_kind(waves: Path, regressor_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file or folder$"):
        evaluate(regressor_run, data=tmp_path / "none.csv")
    with pytest.raises(DataError, match="a folder; expected a table, as the run was trained on"):
        evaluate(regressor_run, data=tmp_path)
    own = write_waves(tmp_path / "own.csv")
    run = gw.train("sunspots", data=own, out=tmp_path / "run", overrides={**TINY_REGRESSOR, "training.epochs": 1})
    own.unlink()
    with pytest.raises(
        DataError,
        match=r"own\.csv: no such file or folder \(the path used in training; set the current path with data=PATH\)",
    ):
        evaluate(run.path)
    with pytest.raises(
        DataError,
        match=r"own\.csv: no such file or folder \(the path used in training; set the current path with file\)",
    ):
        forecast(run.path)
    assert evaluate(run.path, data=waves)["tokens"] == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "scaling.json: no such file"),
        ("{", "scaling.json: invalid JSON"),
        ('{"input_size": 1, "x_mean": []}', "scaling.json: missing key 'x_std'"),
        ('{"input_size": 1, "x_mean": [], "x_std": [], "unit": 1}', "scaling.json: .*'unit'"),
        ('{"input_size": 2, "x_mean": [], "x_std": []}', r"rnn.weight_ih_l0 has shape \(32, 1\); expected \(32, 2\)"),
        ('{"input_size": 2000000000, "x_mean": [], "x_std": []}', "rnn.weight_ih_l0 has shape"),
    ],
)
def test_a_run_whose_scaling_is_damaged(regressor_run: Path, tmp_path: Path, content: str | None, message: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(regressor_run, copy)
    unseal(copy)
    (copy / "scaling.json").unlink()
    if content is not None:
        (copy / "scaling.json").write_text(content)
    with pytest.raises(RunError, match=message):
        gw.load(copy)


@pytest.mark.slow
def test_sunspots_without_a_download(tmp_path: Path) -> None:
    pytest.importorskip("statsmodels")
    run = gw.train("sunspots", out=tmp_path / "run", overrides={"logging.tensorboard": False})
    assert run.metrics["persistence_test_rmse"] == pytest.approx(32.898, abs=1e-3)
    assert run.metrics["test_rmse"] < run.metrics["autoregression_2_test_rmse"] == pytest.approx(22.645, abs=1e-3)
    assert run.metrics["test_tokens"] == 60
