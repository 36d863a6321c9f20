"""The forecasts of a series: what each reads and predicts, and that no split predicts what an earlier one did."""

import numpy as np
import pytest

from gatewise.data.series import Series
from gatewise.data.windows import Windows
from gatewise.errors import DataError


def whole(
    count: int, window: int, horizon: int, *, missing: tuple[int, ...] = (), known: bool = False, fill: str = "linear"
) -> Windows:
    """Return the forecasts of two columns, k² and 100 + k, where k² is missing at some steps."""
    steps = np.arange(float(count))
    gaps = np.zeros((count, 2), np.bool_)
    gaps[list(missing), 0] = True
    series = Series(["sun", "price"], np.stack([steps**2, 100 + steps], 1), "", missing=gaps)
    return Windows(series, window, horizon, 0, [1] if known else [], fill, "sun.csv")


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("window", [1, 4])
def test_each_forecast_reads_up_to_its_origin_and_predicts_the_next_steps(window: int, horizon: int) -> None:
    found = whole(10, window, horizon)
    origins = found.origins()
    part = found.examples(origins)
    assert origins.tolist() == list(range(window - 1, 10 - horizon))
    assert part.x.shape == (11 - window - horizon, window, 2)
    assert part.y.shape == ((len(origins), horizon) if horizon > 1 else (len(origins),))
    for t, x, y in zip(origins, part.x, part.y.reshape(-1, horizon), strict=True):
        assert x[:, 1].tolist() == [100 + s for s in range(t - window + 1, t + 1)]
        assert y.tolist() == [s**2 for s in range(t + 1, t + horizon + 1)]


def test_known_columns_are_read_up_to_the_last_step_to_forecast() -> None:
    found = whole(10, 4, 3, known=True)
    part = found.examples(np.array([5]))
    assert part.x[0].tolist() == [[s**2, 100 + s, 103 + s] for s in (2, 3, 4, 5)]


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_no_value_is_predicted_in_two_splits(horizon: int) -> None:
    found = whole(60, 4, horizon).split(6, 7)
    assert [len(found[split]) for split in ("valid", "test")] == [6, 7]
    assert found["test"][-1] + horizon == 59
    for earlier, later in (("train", "valid"), ("valid", "test")):
        assert found[earlier][-1] + horizon == found[later][0]
    auto = whole(60, 4, horizon).split(0, 0)
    assert len(auto["test"]) == (60 - 4 - horizon + 1 - 2 * (horizon - 1)) // 10


def test_a_series_that_is_too_short() -> None:
    assert whole(7, 4, 3).origins().tolist() == [3]
    with pytest.raises(DataError, match=r"sun\.csv: 6 values .* window of 4 and a horizon of 3; expected at least 7"):
        whole(6, 4, 3).origins()
    assert {split: len(some) for split, some in whole(13, 4, 3).split(1, 1).items()} == {
        "train": 1,
        "valid": 1,
        "test": 1,
    }
    with pytest.raises(DataError, match=r"12 values are too few .* expected at least 13"):
        whole(12, 4, 3).split(1, 1)
    with pytest.raises(DataError, match=r"data.valid_size is 50 and data.test_size is 1, of 50 examples"):
        whole(60, 4, 3).split(50, 1)


def test_what_was_filled_is_never_a_true_value_and_no_forecast_starts_on_a_line_to_the_future() -> None:
    gaps = whole(20, 3, 2, missing=(8, 9, 10))
    origins = gaps.origins()
    assert not {7, 8, 9, 10} & set(origins.tolist()), "from 7, both steps are missing; 8, 9 and 10 are filled"
    assert {6, 11} <= set(origins.tolist())
    y = gaps.examples(np.array([6])).y
    assert y[0, 0] == 49 and np.isnan(y[0, 1])
    previous = whole(20, 3, 2, missing=(8, 9, 10), fill="previous").origins().tolist()
    assert {9, 10} <= set(previous) and not {7, 8} & set(previous)
    assert not np.isnan(whole(20, 3, 1, missing=(8,)).examples(whole(20, 3, 1, missing=(8,)).origins()).y).any()
