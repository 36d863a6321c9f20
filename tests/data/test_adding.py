"""The adding problem: what is drawn is what the docstring says."""

import numpy as np
import pytest

from gatewise.data.adding import draw_adding_problem
from gatewise.errors import UsageError


@pytest.mark.parametrize("length", [2, 3, 50])
def test_one_step_of_each_half_is_marked_and_their_sum_is_the_answer(length: int) -> None:
    part = draw_adding_problem(3000, length, np.random.default_rng(1))
    values, marks = part.x[:, :, 0], part.x[:, :, 1]
    assert (part.x.shape, part.x.dtype, part.y.dtype) == ((3000, length, 2), np.float32, np.float32)
    assert set(np.unique(marks)) <= {0, 1}
    half = length // 2
    assert (marks[:, :half].sum(1) == 1).all()
    assert (marks[:, half:].sum(1) == 1).all()
    assert (marks.sum(0) > 0).all(), "every step is marked at times"
    assert part.y == pytest.approx((values * marks).sum(1))
    assert 0 <= values.min() < 0.01
    assert 0.99 < values.max() < 1
    assert np.mean((part.y - 1) ** 2) == pytest.approx(1 / 6, abs=0.01)


def test_it_follows_from_the_generator() -> None:
    one, same, other = (draw_adding_problem(5, 9, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.data_hash == same.data_hash != other.data_hash


def test_one_step_has_no_halves() -> None:
    with pytest.raises(UsageError, match=r"data\.length is 1; expected at least 2"):
        draw_adding_problem(5, 1, np.random.default_rng(1))
