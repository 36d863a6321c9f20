"""Regressors from files to metrics: a series, arrays, and errors in them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import DataError, RunError, UsageError
from gatewise.predict.forecast import forecast
from gatewise.tasks.evaluate import evaluate
from tests.conftest import TINY_REGRESSOR, unseal, write_waves

BOTH = {**TINY_REGRESSOR, "data.columns": ["wind", "level"], "data.target": "level"}


def column(path: Path, place: int = 1) -> Any:
    """Return a column of the CSV file, read without Gatewise."""
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=place)


def persistence_rmse(values: Any, count: int, horizon: int = 1) -> float:
    """Return the error of "no change" over the last forecasts of a series, written without Gatewise."""
    last = range(len(values) - horizon - count, len(values) - horizon)
    return float(np.sqrt(np.mean([(values[t + k] - values[t]) ** 2 for t in last for k in range(1, horizon + 1)])))


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
    assert final["persistence_test_rmse"] == pytest.approx(persistence_rmse(column(waves), 30))
    assert final["test_rmse"] < final["persistence_test_rmse"]
    assert 0 < final["test_mae"] < final["test_rmse"]
    assert final["autoregression_9_test_rmse"] < final["persistence_test_rmse"]
    card = (regressor_run / "README.md").read_text()
    for key in ("test_rmse", "test_mae", "persistence_test_rmse", "autoregression_2_test_rmse"):
        assert f"| {final[key]:.4g} |" in card
    assert f"| {100 * final['test_coverage_90']:.1f}% |" in card
    assert f"gatewise forecast {regressor_run} --steps 1" in card


def test_the_model_speaks_the_users_units_and_the_split_is_by_time(waves: Path, regressor_run: Path) -> None:
    level = column(waves)
    x = np.array([level[t - 8 : t, None] for t in range(170, 200)])
    errors = gw.load(regressor_run).predict(x) - level[170:]
    figures = evaluate(regressor_run)
    figured = ["rmse", "mae", "tokens", "oov_rate", "data_hash", "persistence_rmse", "coverage_90"]
    assert list(figures) == ["task", "split", *figured]
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


def test_several_columns_and_several_steps(waves: Path, tmp_path: Path) -> None:
    """One window gives all steps; the splits do not share a value; another file is read as a whole, by name."""
    run = gw.train("sunspots", data=waves, out=tmp_path / "run", overrides={**BOTH, "data.horizon": 3})
    level, wind = column(waves), column(waves, 2)
    both = np.stack([wind, level], 1)

    def errors(origins: range) -> Any:
        truth = np.array([level[t + 1 : t + 4] for t in origins])
        return run.model.predict(np.array([both[t - 7 : t + 1] for t in origins])) - truth

    last = errors(range(167, 197))
    assert run.metrics["test_rmse"] == pytest.approx(np.sqrt(np.mean(last**2)), rel=1e-4)
    assert run.metrics["test_mae"] == pytest.approx(np.mean(np.abs(last)), rel=1e-4)
    assert run.metrics["test_tokens"] == 90
    assert run.metrics["persistence_test_rmse"] == pytest.approx(persistence_rmse(level, 30, 3))
    assert run.metrics["test_rmse"] < run.metrics["persistence_test_rmse"]
    figures = evaluate(run.path)
    for k in range(3):
        assert figures[f"rmse_step_{k + 1}"] == pytest.approx(np.sqrt(np.mean(last[:, k] ** 2)), rel=1e-4)
        assert figures[f"mae_step_{k + 1}"] == pytest.approx(np.mean(np.abs(last[:, k])), rel=1e-4)
    assert figures["rmse"] == run.metrics["test_rmse"] and "rmse_step_4" not in figures
    valid = errors(range(145, 165))
    assert evaluate(run.path, split="valid")["rmse"] == pytest.approx(np.sqrt(np.mean(valid**2)), rel=1e-4)
    assert [evaluate(run.path, split=split)["tokens"] for split in ("train", "valid")] == [3 * 136, 3 * 20]
    facts = json.loads((run.path / "scaling.json").read_text())
    assert (facts["horizon"], "known" in facts) == (3, False)
    seen = np.array([level[t + 1 : t + 4] for t in range(7, 143)])
    assert (facts["y_mean"], facts["y_std"]) == pytest.approx((seen.mean(), seen.std()))

    rows = [f"{b},{a}" for a, b in zip(level, wind, strict=True)]
    (tmp_path / "other.csv").write_text("\n".join(["wind,level", *rows]), encoding="utf-8")
    whole = evaluate(run.path, data=tmp_path / "other.csv")
    everything = errors(range(7, 197))
    assert whole["rmse"] == pytest.approx(np.sqrt(np.mean(everything**2)), rel=1e-4)
    assert whole["tokens"] == 3 * 190


def test_the_cost_is_over_all_steps_with_a_true_value(waves: Path, tmp_path: Path) -> None:
    run = gw.train("sunspots", data=waves, out=tmp_path / "run", overrides={**BOTH, "data.horizon": 3})
    x, y = torch.randn(4, 8, 2).double(), torch.randn(4, 3).double()
    z = (run.model(x) - run.model.scaling.y_mean) / run.model.scaling.y_std
    wanted = (y - run.model.scaling.y_mean) / run.model.scaling.y_std
    assert run.model(x, y).item() == pytest.approx(((z - wanted) ** 2).mean().item(), rel=1e-5)
    y[1, 2], y[2] = float("nan"), float("nan")
    cost = run.model(x, y)  # the mean over 8 of 12 values
    known = ~y.isnan()
    assert cost.item() == pytest.approx(((z - wanted)[known] ** 2).mean().item(), rel=1e-5)
    cost.backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in run.model.parameters())


def test_a_run_of_an_earlier_version_that_predicts_one_later_value_is_refused(
    waves: Path, regressor_run: Path, tmp_path: Path
) -> None:
    """Its weights have one output, and its configuration a horizon above 1."""
    shutil.copytree(regressor_run, copy := tmp_path / "copy")
    unseal(copy)
    settings = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(settings.replace("horizon = 1", "horizon = 3"))
    with pytest.raises(RunError, match=r"data.horizon 3, but the model predicts 1 values from each window; .* again"):
        gw.load(copy)


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
    for key, value in (("known", ["a"]), ("horizon", 3)):
        with pytest.raises(UsageError, match=f"data.{key} is .*, but arrays are no series; leave it out"):
            gw.train("sunspots", data=folder, out=tmp_path / "no", overrides={f"data.{key}": value})
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
        ({"data.target": "days"}, r"waves\.csv: no numeric column 'days'; found 'level', 'wind'"),
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
    assert evaluate(run.path, data=waves)["tokens"] == 192


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
