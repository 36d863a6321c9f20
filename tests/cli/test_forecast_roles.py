"""A forecaster with dates: columns known in advance, spans, gaps, intervals, a backtest, and no look at the future."""

import csv
import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.data.regression import open_series, windows_of
from gatewise.tasks.evaluate import evaluate
from tests.cli.conftest import Gatewise
from tests.conftest import TINY_REGRESSOR, unseal

HOURS, FUTURE = 300, 12
SETTINGS = {
    **TINY_REGRESSOR,
    "data.target": "load",
    "data.known": ["open"],
    "data.window": "12 hours",
    "data.horizon": "6h",
    "data.season": "auto",
    "data.fill": "linear",
    "training.epochs": 30,
}


def write_load(path: Path, rows: int = HOURS, future: int = FUTURE, skipped: tuple[int, ...] = (100, 101)) -> Path:
    """Write an hourly load that doubles while a shop is open, at random hours that are known in advance."""
    draw = np.random.default_rng(4)
    is_open = draw.random(HOURS + FUTURE) < 0.5
    load = 10 + 10 * is_open + draw.normal(0, 0.3, HOURS + FUTURE)
    lines = ["time,load,open,shop"]
    for hour in range(rows + future):
        if hour not in skipped:
            time = datetime(2024, 1, 1) + timedelta(hours=hour)
            value = "" if hour >= rows else f"{load[hour]:.3f}"
            lines.append(f"{time:%Y-%m-%d %H:%M},{value},{int(is_open[hour])},north")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_load(tmp_path_factory.mktemp("load") / "load.csv")


@pytest.fixture(scope="module")
def load_run(load: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "load"
    return gw.train("sunspots", data=load, out=out, overrides={**SETTINGS, "training.learning_rate": 0.03}).path


def test_what_is_known_in_advance_is_used_and_the_spans_are_steps(load_run: Path) -> None:
    """Whether the shop is open decides the load: persistence and the season know nothing of it, the model does."""
    final = json.loads((load_run / "metrics.jsonl").read_text().splitlines()[-1])
    assert final["test_rmse"] < 0.5 * min(final[f"{name}_test_rmse"] for name in ("persistence", "seasonal_naive"))
    settings = (load_run / "config.toml").read_text()
    assert all(f"\n{line}\n" in settings for line in ("window = 12", "horizon = 6", "season = 24"))


def test_everything_that_was_chosen_is_told(gatewise: Gatewise, load: Path, tmp_path: Path) -> None:
    options = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    told = gatewise("train", "sunspots", "--data", load, "--out", "run", *options, "--set", "training.epochs=1")
    lines = " ".join(told.err.split())
    assert (
        "forecasts 'load' 6 steps ahead from windows of 12 steps of 'load', 'open'; known in advance: 'open'; "
        "left out: 'shop'" in lines
    )
    assert "load.csv:102: the first of 2 steps missing, filled by straight lines" in lines
    assert "12 rows after the last value of 'load' are known in advance" in lines
    final = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"{final['seasonal_naive_test_rmse']:.4g}" in told.out


def test_a_forecast_reads_the_rows_to_come(gatewise: Gatewise, load_run: Path, load: Path, tmp_path: Path) -> None:
    found = json.loads(gatewise("forecast", load_run, load, "--json", "--interval", "0.5").out)
    assert found["positions"][0] == "2024-01-13 12:00" and len(found["values"]) == 6
    ends = zip(*(found[key] for key in ("low", "values", "high")), strict=True)
    assert all(low < value < high for low, value, high in ends)
    is_open = [float(line.split(",")[2]) for line in load.read_text().splitlines()[-FUTURE:]]
    assert np.array(found["values"]) == pytest.approx(10 + 10 * np.array(is_open[:6]), abs=3)
    twelve = gatewise("forecast", load_run, load, "--steps", "12 hours")
    assert len(twelve.out.splitlines()) == 12
    short = write_load(tmp_path / "short.csv", future=4)
    gatewise("forecast", load_run, short).check_refused(
        3,
        "short.csv: no 'open' for 2024-01-13 16:00, 2024-01-13 17:00; expected a row with these columns for each "
        "of the 6 steps after the last value of 'load'",
    )
    gatewise("forecast", load_run, load, "--steps", "13").check_refused(
        3, "no 'open' for 2024-01-14 00:00 to 2024-01-14 05:00, 6 in all"
    )


def test_a_span_that_is_no_number_of_steps(gatewise: Gatewise, load_run: Path, regressor_run: Path) -> None:
    gatewise("forecast", load_run, "--steps", "90 min").check_refused(
        2, "--steps is '90 min': 90 minutes is not a whole number of steps of 1 hour"
    )
    gatewise("forecast", load_run, "--steps", "two days").check_refused(
        2, "expected a number of steps, or a number and"
    )
    gatewise("forecast", regressor_run, "--steps", "3 days").check_refused(2, "waves.csv has no dates; give a number")


def test_python_forecasts_as_the_command_does(gatewise: Gatewise, load_run: Path, load: Path) -> None:
    pandas = pytest.importorskip("pandas")
    told = json.loads(gatewise("forecast", load_run, load, "--json", "--steps", "8").out)["values"]
    table = pandas.read_csv(load)
    model = gw.load(load_run)
    assert model.forecast(table, 8).tolist() == told
    assert model.forecast(table[["load", "open"]].to_numpy()[-40:]).tolist() == told[:6]
    assert model.forecast(table).shape == (6,)
    with pytest.raises(gw.UsageError, match="4 rows after the last value of 'load'; expected 6 with values of 'open'"):
        model.forecast(table[:-8])
    with pytest.raises(gw.UsageError, match="no column 'open' in the table"):
        model.forecast(table[["load"]])
    with pytest.raises(gw.UsageError, match="11 rows are too few for a window of 12; expected at least 12"):
        model.forecast(table[HOURS - 2 - 11 :])


@pytest.mark.parametrize("origin", [40, 98, 102, 250])
def test_no_forecast_depends_on_what_comes_after_its_origin(load_run: Path, tmp_path: Path, origin: int) -> None:
    """Every value after the origin is changed, except those known in advance: the forecast is the same, bit for bit."""
    plain, changed = write_load(tmp_path / "a.csv"), write_load(tmp_path / "b.csv")
    rows = list(csv.reader(changed.open()))
    last = (datetime(2024, 1, 1) + timedelta(hours=origin)).strftime("%Y-%m-%d %H:%M")
    for row in rows[1 : HOURS - 1]:
        if row[0] > last:
            row[1] = "-1000"
    changed.write_text("\n".join(map(",".join, rows)) + "\n")
    model, settings = gw.load(load_run), gw.tasks.train.load_config(load_run / "config.toml").data
    inputs = []
    for path in (plain, changed):
        series = open_series(settings.model_copy(update={"path": str(path)}))
        assert series is not None
        whole = windows_of(series, settings)[0]
        assert origin in whole.origins()
        inputs.append(whole.examples(np.array([origin])))
    assert not np.array_equal(inputs[0].y, inputs[1].y)
    assert np.array_equal(model.predict(inputs[0].x), model.predict(inputs[1].x))


def test_a_forecast_never_starts_in_a_gap(load_run: Path, load: Path) -> None:
    """The values at 100 and 101 are on a line to the one at 102; they count neither as read last nor as true."""
    settings: Any = gw.tasks.train.load_config(load_run / "config.toml").data
    series = open_series(settings)
    assert series is not None
    origins = windows_of(series, settings)[0].origins()
    assert set(range(90, 110)) - set(origins.tolist()) == {100, 101}
    assert evaluate(load_run, data=load)["tokens"] == (300 - 12 - 6 + 1 - 2) * 6 - 2 * 6 + 1


def test_the_backtest_in_a_file(gatewise: Gatewise, load_run: Path, load: Path, tmp_path: Path) -> None:
    done = gatewise("evaluate", load_run, "--save", "test.csv")
    lines = done.out.splitlines()
    assert lines[0].startswith("test RMSE ")
    assert lines[1].split() == ["step", "RMSE", "MAE", "persistence", "seasonal", "naive", "in", "90%", "interval"]
    assert [line.split()[0] for line in lines[2:9]] == ["1", "2", "3", "4", "5", "6", "all"]
    assert lines[9:] == ["steps with filled values: 2; read, but not scored"]
    rows = list(csv.DictReader((tmp_path / "test.csv").open()))
    assert len(rows) == 30 * 6 and list(rows[0]) == ["origin", "step", "time", "truth", "forecast", "low", "high"]
    first, last = rows[0], rows[-1]
    assert (first["step"], last["time"]) == ("1", "2024-01-13 11:00")
    assert datetime.fromisoformat(last["time"]) - datetime.fromisoformat(last["origin"]) == timedelta(hours=6)
    truth = {line.split(",")[0]: line.split(",")[1] for line in load.read_text().splitlines()[1:]}
    assert all(float(row["truth"]) == float(truth[row["time"]]) for row in rows)
    errors = np.array([float(row["forecast"]) - float(row["truth"]) for row in rows])
    figures = evaluate(load_run)
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert figures["mae_step_6"] == pytest.approx(np.mean(np.abs(errors[5::6])))
    within = [float(row["low"]) <= float(row["truth"]) <= float(row["high"]) for row in rows]
    assert figures["coverage_90"] == pytest.approx(np.mean(within))
    assert "coverage_90" not in evaluate(load_run, split="valid"), "these errors made the intervals"
    valid = {(row["origin"], row["time"]) for row in rows}
    gatewise("evaluate", load_run, "--split", "valid", "--save", "valid.csv")
    assert not {row["time"] for row in csv.DictReader((tmp_path / "valid.csv").open())} & {time for _, time in valid}


def test_what_cannot_be_saved(gatewise: Gatewise, load_run: Path, load: Path, tiny_run: Path) -> None:
    gatewise("evaluate", load_run, "--save", "a.txt").check_refused(2, "--save a.txt: expected the name of a file that")
    gatewise("evaluate", load_run, "--save", "none/a.csv").check_refused(2, "--save none/a.csv: no folder none")
    gatewise("evaluate", tiny_run, "--save", "a.csv").check_refused(2, "a language-model run forecasts no series")
    gatewise("evaluate", load_run, "--data", load, "--split", "valid").check_refused(2, "every window is scored")


def test_intervals_are_printed_where_asked_for_and_end_at_the_horizon(
    gatewise: Gatewise, regressor_run: Path, tmp_path: Path
) -> None:
    told = gatewise("forecast", regressor_run, "--steps", "2", "--interval", "0.9")
    (first, second) = (line.split("\t") for line in told.out.splitlines())
    assert float(first[2]) < float(first[1]) < float(first[3]) and second[2:] == ["", ""]
    assert "steps after 1, the horizon, have no interval" in told.err
    found = json.loads(gatewise("forecast", regressor_run, "--steps", "2", "--interval", "0.9", "--json").out)
    assert (found["interval"], found["low"], found["high"]) == (0.9, [float(first[2]), None], [float(first[3]), None])
    assert "low" not in json.loads(gatewise("forecast", regressor_run, "--json").out)
    gatewise("forecast", regressor_run, "--interval", "0.96").check_refused(
        2, "an interval of 0.96 needs 24 validation forecasts, and the run has 20; give a level of at most 0.95"
    )


def test_intervals_of_other_weights_are_not_used(gatewise: Gatewise, waves: Path, tmp_path: Path) -> None:
    """Those of another run are refused, and missing ones are missed."""
    options = {**TINY_REGRESSOR, "data.columns": ["level"], "training.epochs": 2}
    gw.train("sunspots", data=waves, out=tmp_path / "run", overrides=options)
    before = (tmp_path / "run" / "intervals.json").read_text()
    gw.train("sunspots", data=waves, out=tmp_path / "run", overrides={**options, "training.epochs": 4}, resume=True)
    assert (tmp_path / "run" / "intervals.json").read_text() != before
    assert gatewise("forecast", "run", "--interval", "0.9").status == 0
    (tmp_path / "run" / "intervals.json").write_text(before)
    for words in (("forecast", "run", "--interval", "0.9"), ("evaluate", "run")):
        gatewise(*words).check_refused(4, "intervals.json: of other weights than model.safetensors")
    (tmp_path / "run" / "intervals.json").unlink()
    gatewise("evaluate", "run").check_refused(4, "intervals.json: no such file; restore it")
    gatewise("forecast", "run", "--interval", "0.9").check_refused(4, "intervals.json: no intervals of these weights")
    assert gatewise("forecast", "run").status == 0
    unseal(tmp_path / "run")
    assert "coverage_90" not in evaluate(tmp_path / "run"), "another program may have changed the weights"


def test_new_weights_have_no_intervals(regressor_run: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(regressor_run, tmp_path / "run"))
    header = run.open_weights()
    arrays, facts = run.read_weights(header.shapes)
    run.write_weights(arrays, {key: value for key, value in facts.items() if key not in ("sha256", "format", "files")})
    assert not run.intervals_file.exists()


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        ({"data.known": ["load"]}, 2, "data.known lists 'load', the column to forecast"),
        ({"data.window": 5}, 2, "data.window is 5, shorter than data.horizon, 6"),
        ({"data.known": ["shop"]}, 3, "load.csv:2: 'north' in column 'shop'; expected a number"),
        ({"data.known": ["tide"]}, 3, "load.csv:1: no column 'tide'"),
        ({"data.fill": ""}, 3, "load.csv:102: 2 steps missing, the first before this row"),
        ({"data.window": "2 months"}, 2, "data.window is '2 months': a step is 1 hour, and 2 months has no fixed"),
        ({"data.window": "long"}, 2, "data.window is 'long'; expected a number of steps, or a number and a unit"),
        ({"data.window": 1.5}, 2, "data.window is 1.5; input should be an integer or a span of time"),
        ({"data.horizon": 0}, 2, "data.horizon is 0; input should be greater than or equal to 1"),
        ({"data.season": 290}, 2, "data.season is 290, but 265 steps precede the test set"),
        (
            {"data.horizon": 200, "data.window": 200},
            3,
            "300 values are too few for a window of 200 and a horizon of 200",
        ),
    ],
    ids=str,
)
def test_settings_that_do_not_do(
    gatewise: Gatewise, load: Path, tmp_path: Path, changed: dict[str, object], status: int, message: str
) -> None:
    given = {**SETTINGS, **changed}
    options = [word for key, value in given.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    gatewise("train", "sunspots", "--data", load, "--out", "run", *options).check_refused(status, message)
    assert not (tmp_path / "run").exists()


def test_a_file_with_another_pace_is_refused(gatewise: Gatewise, load_run: Path, tmp_path: Path) -> None:
    days = "".join(f"2024-01-{day:02},{day % 7},0\n" for day in range(1, 29))
    (tmp_path / "days.csv").write_text("time,load,open\n" + days)
    for words in (("forecast", load_run, "days.csv"), ("evaluate", load_run, "--data", "days.csv")):
        gatewise(*words).check_refused(3, "days.csv: rows 1 day apart, but the run was trained on steps of 1 hour")


def test_the_picture_shows_what_is_forecast(gatewise: Gatewise, load_run: Path, load: Path, tmp_path: Path) -> None:
    done = gatewise("inspect", "forecast", load_run, "--out", "f.png", "--data-out", "f.csv")
    assert (done.status, done.err) == (0, "")
    assert "f.png: forecast of known steps: 24, forecast of the steps to come: 6" in done.out
    rows = list(csv.DictReader((tmp_path / "f.csv").open()))
    found = {
        name: [(row["time"], float(row["value"])) for row in rows if row["line"] == name]
        for name in ("truth", "forecast of known steps", "forecast of the steps to come")
    }
    told = json.loads(gatewise("forecast", load_run, "--json").out)
    assert found["forecast of the steps to come"] == list(zip(told["positions"], told["values"], strict=True))
    gatewise("evaluate", load_run, "--save", "test.csv")
    tested = list(csv.DictReader((tmp_path / "test.csv").open()))
    last = [(row["time"], float(row["forecast"])) for row in tested[-6:]]
    assert [time for time, _ in found["forecast of known steps"][-6:]] == [time for time, _ in last]
    values = np.array([value for _, value in found["forecast of known steps"][-6:]])
    assert values == pytest.approx([value for _, value in last], rel=1e-5)
    assert found["truth"][-1] == (last[-1][0], float(tested[-1]["truth"]))
    short = write_load(tmp_path / "short.csv", future=4)
    only = gatewise("inspect", "forecast", load_run, short, "--out", "g.svg")
    assert only.out == "g.svg: forecast of known steps: 24\n", "the known columns of the steps to come are missing"
    gatewise("inspect", "forecast", load_run, "none.csv", "--out", "h.png").check_refused(3, "none.csv: no such file")


def write_growth(path: Path, growth: float, rows: int = 240) -> Path:
    """Write monthly sales with a season, which grow by a fixed amount each month."""
    month = np.arange(rows)
    values = 100 + growth * month + 10 * np.sin(month * np.pi / 6) + np.random.default_rng(6).normal(0, 0.5, rows)
    lines = [f"{1990 + k // 12}-{k % 12 + 1:02},{value:.3f}" for k, value in enumerate(values)]
    path.write_text("\n".join(["month,sales", *lines, ""]))
    return path


def test_growth_goes_on_where_the_target_is_read_relative_to_its_last_value(gatewise: Gatewise, tmp_path: Path) -> None:
    """``auto`` sees growth in the training targets, and only there; values beyond them are no obstacle."""
    options = {
        **TINY_REGRESSOR,
        "data.window": 24,
        "data.horizon": 3,
        "data.season": "auto",
        "data.relative": "auto",
        "training.epochs": 40,
    }
    words = [word for key, value in options.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    found = {}
    for name, growth, more in (("grows", 2.0, []), ("levels", 2.0, ["data.relative=false"]), ("steady", 0.0, [])):
        data = write_growth(tmp_path / f"{name}.csv", growth)
        told = gatewise(
            "train", "sunspots", "--data", data, "--out", name, *words, *(w for s in more for w in ("--set", s))
        )
        assert ("relative to the last value of each window" in " ".join(told.err.split())) == (name == "grows")
        assert f"relative = {str(name == 'grows').lower()}\n" in (tmp_path / name / "config.toml").read_text()
        found[name] = json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["grows"]["test_rmse"] < 0.5 * found["levels"]["test_rmse"]
    assert found["grows"]["test_rmse"] < found["grows"]["seasonal_naive_test_rmse"]
    told = gatewise("forecast", "grows", "--steps", "2 years").out.splitlines()
    assert [told[0].split("\t")[0], told[-1].split("\t")[0]] == ["2010-01", "2011-12"]
    gatewise("train", "sunspots", "--data", data, "--out", "no", "--set", "data.relative=1").check_refused(
        2, "data.relative is 1; input should be true, false or 'auto'"
    )


def test_a_file_that_is_too_short_is_named(gatewise: Gatewise, load_run: Path, tmp_path: Path) -> None:
    write_load(tmp_path / "short.csv", rows=11)
    message = "short.csv: 11 values are too few for a window of 12 and a horizon of 6; expected at least "
    gatewise("forecast", load_run, "short.csv").check_refused(3, message + "12")
    gatewise("evaluate", load_run, "--data", "short.csv").check_refused(3, message + "18")
    gatewise("inspect", "forecast", load_run, "short.csv", "--out", "a.png").check_refused(3, message + "18")


def test_a_column_that_is_named_twice_is_read_once(load: Path, tmp_path: Path) -> None:
    twice = {"data.columns": ["load", "load"], "data.known": ["open", "open"], "training.epochs": 1}
    run = gw.train("sunspots", data=load, out=tmp_path / "run", overrides={**SETTINGS, **twice})
    assert (run.model.scaling.columns, run.model.scaling.known) == (["load", "open"], ["open"])


def test_trading_days_go_on_after_the_weekend(gatewise: Gatewise, tmp_path: Path) -> None:
    """Also from a file of one week, which alone does not tell that the weekend is skipped."""
    days = [datetime(2024, 1, 1) + timedelta(days=day) for day in range(112)]
    days = [day for day in days if day.weekday() < 5 and day != datetime(2024, 2, 19)]
    rows = [f"{day:%Y-%m-%d},{10 + k % 5}" for k, day in enumerate(days)]
    (tmp_path / "prices.csv").write_text("\n".join(["day,price", *rows, ""]))
    settings = {
        **TINY_REGRESSOR,
        "data.valid_size": 9,
        "data.test_size": 9,
        "data.window": "1 week",
        "training.epochs": 1,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = ("train", "sunspots", "--data", "prices.csv", *words)
    gatewise(*command, "--out", "none").check_refused(3, "prices.csv:37: 1 step missing, the first before this row")
    told = gatewise(*command, "--set", "data.fill=previous", "--out", "run")
    assert "window = 5\n" in (tmp_path / "run" / "config.toml").read_text()
    assert "filled with the value before" in " ".join(told.err.split())
    assert gatewise("forecast", "run").out.split("\t")[0] == "2024-04-22", "a Monday"
    (tmp_path / "week.csv").write_text("\n".join(["day,price", *rows[:5], ""]))
    assert gatewise("forecast", "run", "week.csv").out.split("\t")[0] == "2024-01-08", "a Monday"
    assert "steps with filled values: 1; read, but not scored" in gatewise("evaluate", "run").out
