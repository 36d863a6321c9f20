"""Conformal intervals: their radii, their coverage, and files that are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.errors import NotFinite, RunError, UsageError
from gatewise.runtime.intervals import Intervals

STORED: dict[str, Any] = {"weights": "ab", "count": 9, "radii": {"50": [1.0, 2], "90": [3.5, 4.5]}}


def test_the_radius_is_the_order_statistic_of_split_conformal_prediction() -> None:
    """Of 9 errors, ⌈10 · 0.9⌉ = 9, the largest, and ⌈10 · 0.5⌉ = 5; for 0.91, a tenth error would be needed."""
    errors = np.array([[-9.0, 1], [8, 2], [-7, 3], [6, 4], [-5, 5], [4, 6], [-3, 7], [2, 8], [-1, 90]])
    found = Intervals.of(errors, "ab")
    assert (found.count, found.radius(0.9), found.radius(0.5), found.radius(0.01)) == (9, [9, 90], [5, 5], [1, 1])
    assert found.has(0.9) and not found.has(0.91) and max(found.radii) == 90
    with pytest.raises(
        UsageError, match=r"0\.95 needs 19 validation forecasts, and the run has 9; .* at most 0\.9, or"
    ):
        found.radius(0.95)


def test_missing_true_values_do_not_count() -> None:
    errors = np.array([[1.0, np.nan], [2, 5], [3, 6]])
    found = Intervals.of(errors, "ab")
    assert (found.count, found.radius(0.5)) == (2, [2, 6])


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, -0.5, 0.905, 0.001, float("nan")])
def test_levels_that_are_none(level: float) -> None:
    with pytest.raises(UsageError, match=r"expected a level from 0\.01 to 0\.99, in whole hundredths"):
        Intervals.of(np.ones((200, 1)), "ab").radius(level)


def test_exchangeable_errors_are_covered_as_often_as_promised() -> None:
    """Over many splits, the mean coverage is ⌈(n + 1) · level⌉ / (n + 1), here the level itself."""
    draw = np.random.default_rng(1)
    for level in (0.5, 0.9):
        hits = [
            np.mean(np.abs(draw.standard_t(3, 50)) <= Intervals.of(draw.standard_t(3, (39, 1)), "").radius(level)[0])
            for _ in range(2000)
        ]
        assert np.mean(hits) == pytest.approx(level, abs=0.01)


def test_an_infinite_error_is_no_interval() -> None:
    with pytest.raises(NotFinite, match="the errors of the validation split are not finite"):
        Intervals.of(np.array([[1.0], [np.inf]]), "ab")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = Intervals.of(np.random.default_rng(1).normal(size=(30, 3)), "ab")
    (tmp_path / "intervals.json").write_text(found.to_json())
    assert Intervals.read(tmp_path / "intervals.json", 3) == found


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0},
        {"count": 1.5},
        {"radii": []},
        {"radii": {"0": [1, 2]}},
        {"radii": {"100": [1, 2]}},
        {"radii": {"050": [1, 2]}},
        {"radii": {"50": [1]}},
        {"radii": {"50": [1, -2]}},
        {"radii": {"50": [1, "2"]}},
        {"radii": {"50": [1, None]}},
        {"radii": {"50": [1, True]}},
        {"radii": {"50": 3}},
        {"level": 0.9},
    ],
    ids=str,
)
def test_files_that_are_none(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "intervals.json"
    path.write_text(json.dumps({**STORED, **change}))
    with pytest.raises(RunError) as caught:
        Intervals.read(path, 2)
    assert str(caught.value).startswith(f"{path}: ") and "train again" in str(caught.value)
    for name in STORED:
        path.write_text(json.dumps({key: value for key, value in STORED.items() if key != name}))
        with pytest.raises(RunError, match=f"missing key '{name}'"):
            Intervals.read(path, 2)
