"""``gatewise forecast``: its output, also beyond the horizon, and errors in a series or a run."""

import json
from pathlib import Path

import numpy as np
import pytest

import gatewise as gw
from tests.cli.conftest import Gatewise, contents
from tests.conftest import TINY_REGRESSOR


def column(path: Path) -> list[float]:
    return [float(line.split(",")[1]) for line in path.read_text().splitlines()[1:]]


def by_hand(run: Path, values: list[float], steps: int) -> list[float]:
    """Forecast step by step, each from the last eight values."""
    model, values = gw.load(run), list(values)
    for _ in range(steps):
        values.append(float(model.predict(np.array(values[-8:])[None, :, None])[0]))
    return values[-steps:]


def test_one_value_a_line_with_its_time(gatewise: Gatewise, regressor_run: Path, waves: Path) -> None:
    before = contents(regressor_run)
    result = gatewise("forecast", regressor_run, "--steps", "3")
    assert (result.status, result.err) == (0, "")
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert [position for position, _ in lines] == ["500", "502", "504"], "days go on in steps of two"
    assert [float(value) for _, value in lines] == pytest.approx(by_hand(regressor_run, column(waves), 3), rel=1e-4)
    assert gatewise("forecast", regressor_run).out.splitlines() == result.out.splitlines()[:1]
    assert contents(regressor_run) == before


def test_what_is_printed_reads_back_as_the_number_that_was_forecast(
    gatewise: Gatewise, regressor_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("level\n" + "".join(f"{12 + k / 7!r}\n" for k in range(9)))
    printed = [
        line.split("\t")[1] for line in gatewise("forecast", regressor_run, "a.csv", "--steps", "4").out.splitlines()
    ]
    exact = json.loads(gatewise("forecast", regressor_run, "a.csv", "--steps", "4", "--json").out)["values"]
    assert [float(value) for value in printed] == exact


def test_another_file_and_json(gatewise: Gatewise, regressor_run: Path, waves: Path, tmp_path: Path) -> None:
    values = column(waves)[20:60]
    (tmp_path / "new.csv").write_text("\n".join(["level", *map(str, values)]))
    found = json.loads(gatewise("forecast", regressor_run, "new.csv", "--steps", "12", "--json").out)
    assert (found["target"], found["positions"]) == ("level", [f"+{k}" for k in range(1, 13)])
    assert found["values"] == pytest.approx(by_hand(regressor_run, values, 12), rel=1e-4)


def test_just_one_window_is_enough(gatewise: Gatewise, regressor_run: Path, tmp_path: Path) -> None:
    (tmp_path / "eight.csv").write_text("level\n" + "9.5\n" * 8)
    assert gatewise("forecast", regressor_run, "eight.csv").status == 0
    (tmp_path / "seven.csv").write_text("level\n" + "9.5\n" * 7)
    gatewise("forecast", regressor_run, "seven.csv").check_refused(
        3, "seven.csv: 7 values are too few for a window of 8 and a horizon of 1; expected at least 8"
    )


def test_one_window_gives_all_steps_of_the_horizon(gatewise: Gatewise, waves: Path, tmp_path: Path) -> None:
    overrides = {**TINY_REGRESSOR, "data.horizon": 3, "training.epochs": 1}
    run = gw.train("sunspots", data=waves, out=tmp_path / "run", overrides=overrides)
    values = np.loadtxt(waves, delimiter=",", skiprows=1)[:, 1:]
    expected = run.model.predict(values[None, -8:])[0]
    found = json.loads(gatewise("forecast", run.path, "--json").out)
    assert found["values"] == pytest.approx(expected.tolist(), rel=1e-4)
    assert json.loads(gatewise("forecast", run.path, "--json", "--steps", "2").out)["values"] == found["values"][:2]
    gatewise("forecast", run.path, "--steps", "4").check_refused(
        2, "steps is 4, beyond the horizon of 3: the model reads 2 columns and predicts only 'level'"
    )
    (tmp_path / "eight.csv").write_text("\n".join(["level,wind", *(f"{a},{b}" for a, b in values[-8:])]))
    last = json.loads(gatewise("forecast", run.path, "eight.csv", "--json").out)
    assert last["values"] == found["values"], "one window is enough"


def test_beyond_the_horizon_forecasts_go_on_in_blocks(gatewise: Gatewise, waves: Path, tmp_path: Path) -> None:
    overrides = {**TINY_REGRESSOR, "data.columns": ["level"], "data.horizon": 3, "training.epochs": 1}
    run = gw.train("sunspots", data=waves, out=tmp_path / "run", overrides=overrides)
    values = column(waves)
    for _ in range(3):
        values += run.model.predict(np.array(values[-8:])[None, :, None])[0].tolist()
    found = json.loads(gatewise("forecast", run.path, "--steps", "7", "--json").out)["values"]
    assert found == pytest.approx(values[200:207], rel=1e-4)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("wind\n1\n", "found 'wind'; expected the column that the run was trained on; rename it"),
        ("level\n1\n2\nhigh\n", "a.csv:4: 'high' in column 'level'; expected a number"),
        ("level\n1\nnan\n", "a.csv:3: no value in column 'level', the first of 1"),
        ("level\n1\n\n,\n", "a.csv:4: 2 fields in this row, expected 1"),
        ("level\n", "a.csv: no rows below the header"),
        ("", "a.csv: the file is empty"),
        (None, "a.csv: no such file or folder"),
    ],
)
def test_files_that_cannot_be_read(
    gatewise: Gatewise, regressor_run: Path, tmp_path: Path, raw: str | None, message: str
) -> None:
    if raw is not None:
        (tmp_path / "a.csv").write_text(raw)
    gatewise("forecast", regressor_run, "a.csv").check_refused(3, message)


def test_what_is_wrong_with_the_call(gatewise: Gatewise, regressor_run: Path, tiny_run: Path, tmp_path: Path) -> None:
    gatewise("forecast", regressor_run, "--steps", "0").check_refused(2, "steps is 0; expected 1 or more")
    gatewise("forecast", regressor_run, tmp_path).check_refused(3, "a folder; expected a table")
    gatewise("forecast", tiny_run).check_refused(2, "a language-model run", "expected one that holds a Sequence")
    gatewise("classify", regressor_run, "a.png").check_refused(2, "SequenceRegressor; expected a classifier's run")
    gatewise("forecast", "nowhere").check_refused(4, "nowhere: no such folder")


@pytest.mark.parametrize(
    ("raw", "options", "status", "message"),
    [
        ("level\n1\n2\n", [], 3, "2 values are too few for a window of 20"),
        ("level\n1\nx\n", [], 3, "a.csv:3: 'x' in column 'level'"),
        ("level\n1\nnan\n", [], 3, "a.csv:3: no value in column 'level'"),
        ("name\nx\n", [], 3, "a.csv:2: no numbers in this row"),
        ("level\n1\n", ["--set", 'data.columns=["rain"]'], 3, "a.csv:1: no column 'rain'; found 'level'"),
        ("level\n1\n", ["--set", "data.window=0"], 3, "a.csv: 1 values are too few for a window of 1"),
    ],
)
def test_training_on_a_bad_file_writes_nothing(
    gatewise: Gatewise, tmp_path: Path, raw: str, options: list[str], status: int, message: str
) -> None:
    (tmp_path / "a.csv").write_text(raw)
    before = contents(tmp_path)
    result = gatewise("train", "sunspots", "--data", "a.csv", "--out", "run", *options)
    result.check_refused(status, message)
    assert contents(tmp_path) == before


def test_train_and_evaluate_print_what_is_to_be_beaten(gatewise: Gatewise, regressor_run: Path, waves: Path) -> None:
    options = [word for key, value in TINY_REGRESSOR.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    result = gatewise("train", "sunspots", "--data", waves, "--out", "run", *options, "--set", "training.epochs=1")
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("test RMSE ")
    assert all(line.startswith("baseline: RMSE ") for line in lines[1:4])
    names = [line[line.index("(") :] for line in lines[1:4]]
    assert names == ["(the last known value)", "(always the mean)", "(autoregression of order 2)"]
    assert gatewise("evaluate", regressor_run).out.startswith("test RMSE ")
