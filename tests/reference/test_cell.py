"""The logistic function, and the products with the input and its gradient."""

import numpy as np
import pytest

from gatewise.reference.cell import input_gradients, input_product, outer, sigmoid

WORDS = np.array([[3, 0], [3, 3], [1, 0]])
"""Some repeated in a step, some over the steps; 2 and 4 never come."""


def test_the_logistic_function() -> None:
    a = np.linspace(-30, 30, 601)
    assert sigmoid(a) == pytest.approx(1 / (1 + np.exp(-a)), abs=1e-15)
    assert sigmoid(np.zeros(1))[0] == 0.5


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_logistic_function_overflows_nowhere(dtype: type) -> None:
    with np.errstate(all="raise"):
        found = sigmoid(np.array([-1e30, -1e4, 1e4, 1e30, -np.inf, np.inf], dtype))
    assert found.tolist() == [0, 0, 1, 1, 0, 1] and found.dtype == dtype
    assert np.isnan(sigmoid(np.array([np.nan]))[0])


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16, np.uint8])
def test_words_stand_for_one_hot_vectors(kind: type) -> None:
    rng = np.random.default_rng(0)
    w_ih, da = rng.normal(size=(6, 5)), rng.normal(size=(3, 2, 6))
    dense = np.eye(5)[WORDS]
    words = WORDS.astype(kind)
    assert np.array_equal(input_product(words, w_ih), input_product(dense, w_ih))
    dx, dw_ih = input_gradients(da, words, w_ih)
    dx_dense, dw_dense = input_gradients(da, dense, w_ih)
    assert dx is None and dx_dense is not None
    assert dx_dense == pytest.approx(np.einsum("tbg,gi->tbi", da, w_ih), rel=1e-12)
    assert dw_ih == pytest.approx(dw_dense, rel=1e-12, abs=1e-15)
    assert not dw_ih[:, [2, 4]].any()
    assert dw_ih[:, 3] == pytest.approx(da[0, 0] + da[1, 0] + da[1, 1], rel=1e-12)


def test_products_are_summed_over_steps_and_rows() -> None:
    rng = np.random.default_rng(1)
    da, x = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2, 5))
    assert outer(da, x) == pytest.approx(np.einsum("tbg,tbi->gi", da, x), rel=1e-12, abs=1e-14)
    assert outer(da[:0], x[:0]).tolist() == np.zeros((4, 5)).tolist()
