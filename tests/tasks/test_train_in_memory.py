"""Training on data from memory: the run folder keeps it, and everything that reads a run's own data works."""

import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.artifact import atomic, run_folder
from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import DataError, InputError, UsageError
from gatewise.predict.classify import classify
from gatewise.predict.forecast import forecast
from gatewise.tasks.evaluate import evaluate

TINY = {"model.hidden_size": 8, "training.epochs": 2, "logging.tensorboard": False}


def sequences(count: int = 60, dtype: str = "f4") -> tuple[Any, Any]:
    """Sequences whose largest column tells the label."""
    draw = np.random.default_rng(3)
    y = draw.integers(0, 2, count)
    x = draw.normal(0, 0.3, (count, 5, 2))
    x[np.arange(count), :, y] += 1
    return (x.astype(dtype) if dtype != "u1" else (127 + 60 * x).clip(0, 255).astype("u1")), y


X, Y = sequences()
WORDS = [["the", "dog"], ["a", "book"], ["New York"]] * 10
TAGS = [["DET", "NOUN"], ["DET", "NOUN"], ["NAME"]] * 10
DATA: dict[str, Any] = {
    "sequence-classifier": (X, Y),
    "text-classifier": (["good soup", "bad soup"] * 20, ["praise", "blame"] * 20),
    "tagger": (WORDS, TAGS),
    "language-model": ["the dog ate the apple"] * 60,
    "forecaster": np.sin(np.arange(100) / 3),
}


@pytest.mark.parametrize("recipe", DATA)
def test_every_recipe_trains_on_data_from_memory(recipe: str, tmp_path: Path) -> None:
    """The same as on a file with the same content, with the same hashes."""
    run = gw.train(recipe, data=DATA[recipe], out=tmp_path / "run", overrides=TINY)
    folder = RunFolder(run.path)
    kept = [str(path.resolve()) for path in folder.data.glob("data.*")]
    assert [folder.read_config().data.path] == kept
    figures = evaluate(run.path)
    assert figures["data_hash"] == run.metrics["test_data_hash"]
    config = folder.read_config()
    columns = {"data.column": config.data.column, "data.label_column": config.data.label_column}
    own = TINY | (columns if recipe == "text-classifier" else {})
    other = gw.train(recipe, data=config.data.path, out=tmp_path / "other", overrides=own)
    assert other.metrics == run.metrics


def test_resume_needs_the_same_data(tmp_path: Path) -> None:
    def train(data: Any, **options: Any) -> gw.Run:
        return gw.train("sequence-classifier", data=data, out=tmp_path, overrides=TINY | options, resume=True)

    train((X, Y))
    assert train((X, Y), **{"training.epochs": 3}).metrics["test_accuracy"] > 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"data\.npz: this run was started with other data; give the same data"):
        train((X + 1, Y))
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "data" / "data.npz").unlink()
    with pytest.raises(DataError, match=r"data\.npz: no such file; it held the data of this run, restore it"):
        train((X, Y))


def test_a_run_on_files_is_not_resumed_with_data_from_memory(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=X, y=Y)
    gw.train("sequence-classifier", data=tmp_path / "own.npz", out=tmp_path / "run", overrides=TINY)
    with pytest.raises(DataError, match="this run was started with data from files; give their path"):
        gw.train("sequence-classifier", data=(X, Y), out=tmp_path / "run", overrides=TINY, resume=True)
    assert not (tmp_path / "run" / "data").exists()


def test_a_run_that_cannot_start_leaves_no_data(tmp_path: Path) -> None:
    for bad, kind in (((X, Y[:-1]), InputError), ((X[:2], [0, 1]), DataError)):
        with pytest.raises(kind):
            gw.train("sequence-classifier", data=bad, out=tmp_path, overrides=TINY)
        assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".from-memory").touch()
    (tmp_path / "data" / "train.npz").write_bytes(b"of a killed process")
    gw.train("sequence-classifier", data=(X, Y), out=tmp_path, overrides=TINY)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".from-memory", "data.npz"]


@pytest.mark.parametrize("name", ["mine.csv", "train.npz", "train.txt"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_of_the_user_is_left_alone(name: str, linked: bool, tmp_path: Path) -> None:
    """Even if it is called as ours, beside the user's own data."""
    out, own = tmp_path / "out", tmp_path / "own" if linked else tmp_path / "out" / "data"
    out.mkdir()
    own.mkdir()
    if linked:
        (out / "data").symlink_to(own)
        (own / ".from-memory").touch()
    (own / name).write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        gw.train("sequence-classifier", data=(X, Y), out=out, overrides=TINY)
    RunFolder(out).discard_data()
    assert (own / name).read_text() == "mine"


def test_given_splits(tmp_path: Path) -> None:
    data = {"train": (X[:40], Y[:40]), "test": (X[40:], Y[40:])}
    run = gw.train("sequence-classifier", data=data, out=tmp_path, overrides=TINY | {"data.valid_size": 5})
    assert run.metrics["test_tokens"] == 20
    assert RunFolder(tmp_path).read_config().data.valid_size == 5


def test_sequences_of_different_lengths(tmp_path: Path) -> None:
    """What stands after the end of a sequence is not read, in training or in an evaluation."""
    ragged = [one[: 2 + row % 4] for row, one in enumerate(X)]
    run = gw.train("sequence-classifier", data=(ragged, Y), out=tmp_path / "run", overrides=TINY)
    own = np.array([run.model.predict(one[None])[0] for one in ragged])
    np.testing.assert_array_equal(run.model.predict(ragged), own)
    assert run.evaluate((ragged, Y))["accuracy"] == (own == Y).mean()
    with np.load(tmp_path / "run" / "data" / "data.npz") as arrays:
        x, lengths = arrays["x"].copy(), arrays["lengths"]
    x[np.arange(x.shape[1]) >= lengths[:, None]] = 9
    np.savez(tmp_path / "other.npz", x=x, y=Y, lengths=lengths)
    other = gw.train("sequence-classifier", data=tmp_path / "other.npz", out=tmp_path / "other", overrides=TINY)
    assert other.history[-1]["train_loss"] == run.history[-1]["train_loss"]


def test_a_data_frame_and_its_columns(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    days = pd.date_range("2024-02-27", periods=60)
    frame = pd.DataFrame({"a": np.cos(np.arange(60)), "b": np.sin(np.arange(60) / 3), "c": range(60)}, index=days)
    options = TINY | {"data.columns": ["b"]}
    run = gw.train("forecaster", data=frame, out=tmp_path / "series", overrides=options)
    assert forecast(run.path).positions == ["2024-04-27"]
    reviews = pd.DataFrame({"id": range(40), "review": ["good soup", "bad soup"] * 20, "stars": [5.0, 1.0] * 20})
    run = gw.train("text-classifier", data=reviews, out=tmp_path / "texts", overrides=TINY)
    assert run.model.labels == ["1", "5"]
    with pytest.raises(DataError, match="no column 'text'; found 'id', 'review', 'stars'"):
        gw.train("text-classifier", data=reviews, out=tmp_path / "x", overrides=TINY | {"data.column": "text"})


def test_a_table_to_forecast_from_is_checked_as_a_file_is(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    days = pd.date_range("2024-01-01", periods=120)
    frame = pd.DataFrame({"day": days, "level": np.sin(np.arange(120) / 3)})
    options = TINY | {"data.window": 8, "data.horizon": 3, "data.valid_size": 20}
    run = gw.train("forecaster", data=frame, out=tmp_path / "run", overrides=options)
    expected = run.model.forecast(frame["level"].to_numpy())
    for table in (frame, frame.set_index("day"), frame.set_index("day")["level"].to_frame(), frame.drop(index=100)):
        np.testing.assert_array_equal(run.model.forecast(table), expected)
    gap = frame.drop(index=115)
    for table, message in (
        (frame[::-1], "data: row 1: '2024-04-28' in column 'day' follows '2024-04-29'; expected .* the oldest first"),
        (frame.set_index("day")[::-1], "data: row 1: .* the oldest first"),
        (frame.assign(day=pd.date_range("2024-01-01", periods=120, freq="h")), "data: rows 1 hour apart, but"),
        (gap, "data: row 115: steps are missing before this row; .* call forecast of the Run"),
    ):
        with pytest.raises(InputError, match=message):
            run.model.forecast(table)
    with pytest.raises(InputError, match=r"steps is 2\.5; expected a whole number"):
        inspect.unwrap(gw.SequenceRegressor.forecast)(run.model, frame, 2.5)  # without the tests' check of types
    told = run.forecast(frame, "2 days", interval=0.8)
    assert (told.positions, told.values) == (["2024-04-30", "2024-05-01"], expected[:2].tolist())
    assert all(low < value < high for low, value, high in zip(told.low, told.values, told.high, strict=True))
    assert run.forecast().values == expected.tolist()
    assert run.forecast(gap).positions == run.forecast(frame).positions
    with pytest.raises(InputError, match=r"^data: row 1: .* the oldest first"):
        run.forecast(frame[::-1])


def test_errors_of_data_from_memory_speak_of_data(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    days = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-02", *pd.date_range("2024-01-03", periods=60)])
    frame = pd.DataFrame({"day": days, "level": np.arange(63.0)})
    with pytest.raises(InputError, match=r"^data: row 2: '2024-01-02' in column 'day' is the time of two rows"):
        gw.train("forecaster", data=frame, out=tmp_path / "no", overrides=TINY)
    with pytest.raises(InputError, match=r"^data: 5 values are too few"):
        gw.train("forecaster", data=np.arange(5.0), out=tmp_path / "no", overrides=TINY | {"data.window": 9})


@pytest.mark.parametrize("recipe", ["sequence-classifier", "forecaster"])
def test_pixels_are_scaled_alike_everywhere(recipe: str, tmp_path: Path) -> None:
    """Training, evaluation and predictions of uint8 from Python equal those of the same arrays in a file."""
    x, y = sequences(dtype="u1")
    data = {"train": (x[:40], y[:40]), "test": (x[40:], y[40:])}
    run = gw.train(recipe, data=data, out=tmp_path / "run", overrides=TINY)
    scaled = x.astype(np.float32) * np.float32(1 / 255)
    answers = run.model.predict(x)
    np.testing.assert_array_equal(answers, run.model.predict(scaled))
    if recipe == "sequence-classifier":
        np.savez(tmp_path / "new.npz", x=x)
        by_file = np.concatenate([one.probabilities for one in classify(run.path, [tmp_path / "new.npz"])])
        np.testing.assert_array_equal(run.model.predict_proba(x), by_file)
        over_time = classify(run.path, [tmp_path / "new.npz"], over_time=True)
        np.testing.assert_array_equal(run.model.predict_proba_over_time(x)[7], over_time[7].probabilities)
        np.testing.assert_array_equal(run.model.predict_proba(torch.from_numpy(x)).numpy(), by_file)
    else:
        error = np.sqrt(np.mean((run.model.predict(x[40:]) - y[40:]) ** 2))
        assert error == pytest.approx(evaluate(run.path)["rmse"], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("write", range(4))
def test_a_run_killed_at_any_write_starts_again_or_goes_on(write: int, tmp_path: Path) -> None:
    """Before the mark, the first and second file of data, and ``config.toml``."""
    data = {"train": (X[:40], Y[:40]), "valid": (X[40:], Y[40:])}
    options: dict[str, Any] = {"data": data, "overrides": TINY | {"data.test_size": 5}}

    def killed() -> None:
        written = [0]

        def write_atomically(path: Path, content: bytes | str) -> None:
            if written[0] == write:
                path.with_name(f".{path.name}.7.part").touch()
                os._exit(9)
            written[0] += 1
            atomic.write_atomically(path, content)

        run_folder.write_atomically = write_atomically
        gw.train("sequence-classifier", out=tmp_path / "run", **options)

    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        killed()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    run = gw.train("sequence-classifier", out=tmp_path / "run", resume=True, **options)
    assert run.metrics == gw.train("sequence-classifier", out=tmp_path / "whole", **options).metrics


@pytest.mark.parametrize("kind", ["array", "table", "frame"])
def test_missing_values_of_a_series_are_filled_where_the_recipe_says_so(kind: str, tmp_path: Path) -> None:
    values = np.sin(np.arange(80.0))
    values[[20, 21, 50]] = np.nan
    data: Any = values if kind == "array" else np.stack([values, np.arange(80.0)], 1)
    if kind == "frame":
        data = pytest.importorskip("pandas").DataFrame({"level": values})
    quick = {"training.epochs": 1, "data.window": 5, "model.hidden_size": 3}
    run = gw.train("forecaster", data=data, out=tmp_path / "run", overrides=quick)
    assert run.metrics["test_rmse"] > 0
    with pytest.raises(InputError, match=r"nan|no number in row 20"):
        gw.train("forecaster", data=data, out=tmp_path / "no", overrides={**quick, "data.fill": ""})
