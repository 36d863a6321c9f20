"""The softmax cross-entropy against central differences, its definition and PyTorch's, and at extremes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.reference import Array, cross_entropy, gradcheck
from tests.tolerances import FINITE_DIFFERENCES, RELATIVE, differ


def draw(n: int, v: int, seed: int = 0, scale: float = 1.0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=scale, size=(n, v)), rng.integers(v, size=n)


@pytest.mark.parametrize(("n", "v"), [(5, 4), (1, 1), (1, 7), (6, 2)])
def test_the_gradient_against_central_differences(n: int, v: int) -> None:
    logits, targets = draw(n, v)
    dz = cross_entropy(logits, targets)[1]
    assert dz.shape == logits.shape
    found = gradcheck.check(lambda: cross_entropy(logits, targets)[0], {"z": logits}, {"z": dz}, FINITE_DIFFERENCES)
    assert found == {}


def test_the_value_is_the_definition() -> None:
    logits, targets = draw(6, 5)
    rows = [math.log(math.fsum(map(math.exp, z))) - z[k] for z, k in zip(logits.tolist(), targets, strict=True)]
    nll, _ = cross_entropy(logits, targets)
    assert isinstance(nll, float)
    assert nll == pytest.approx(math.fsum(rows), rel=1e-14)


@pytest.mark.parametrize(
    ("row", "target", "nll", "dz"),
    [
        ([1e4, -1e4], 0, 0.0, [0.0, 0.0]),
        ([1e4, -1e4], 1, 2e4, [1.0, -1.0]),
        ([1e4, 1e4], 1, math.log(2), [0.5, -0.5]),
        ([-1e4, -1e4, -1e4], 2, math.log(3), [1 / 3, 1 / 3, -2 / 3]),
        ([0.0, 1e4, 1e4], 0, 1e4 + math.log(2), [-1.0, 0.5, 0.5]),
        ([-1e4], 0, 0.0, [0.0]),
        ([float("-inf"), 0.0], 1, 0.0, [0.0, 0.0]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_extremes(row: list[float], target: int, nll: float, dz: list[float], dtype: type) -> None:
    # A second, ordinary row: what is largest is found for each row by itself.
    logits = np.array([row, [0.0] * len(row)], dtype)
    found, gradient = cross_entropy(logits, np.array([target, 0]))
    assert found == pytest.approx(nll + math.log(len(row)), rel=1e-6)
    assert gradient[0] == pytest.approx(dz, abs=1e-6)
    assert gradient.dtype == dtype


@settings(deadline=None)
@given(
    n=st.integers(1, 6), v=st.integers(1, 9), scale=st.sampled_from([0.1, 1.0, 30.0]), seed=st.integers(0, 2**32 - 1)
)
def test_equals_pytorchs(n: int, v: int, scale: float, seed: int) -> None:
    logits, targets = draw(n, v, seed, scale)
    z = torch.tensor(logits, requires_grad=True)
    peer = torch.nn.functional.cross_entropy(z, torch.tensor(targets), reduction="sum")
    peer.backward()
    nll, dz = cross_entropy(logits, targets)
    assert nll == pytest.approx(peer.item(), rel=RELATIVE[torch.float64], abs=1e-12)
    # Where softmax is all but the target, both are rounding alone: compared with 1, which a gradient can reach.
    one = torch.ones(1, v, dtype=torch.float64)
    assert differ(torch.cat([torch.tensor(dz), one]), torch.cat([z.grad, one])) < RELATIVE[torch.float64]


def test_each_rows_gradient_sums_to_nothing() -> None:
    assert np.abs(cross_entropy(*draw(20, 7))[1].sum(1)).max() < 1e-15


def test_inputs_stay_as_they_were_and_need_not_be_contiguous() -> None:
    logits, targets = draw(5, 4)
    kept, kept_targets = logits.copy(), targets.copy()
    nll, dz = cross_entropy(logits, targets)
    assert np.array_equal(logits, kept) and np.array_equal(targets, kept_targets)
    spread = np.repeat(np.asfortranarray(logits), 2, 1)[:, ::2]
    assert not spread.flags.c_contiguous
    nll_spread, dz_spread = cross_entropy(spread, np.repeat(targets, 2)[::2])
    assert nll_spread == pytest.approx(nll, rel=1e-14)
    assert dz_spread == pytest.approx(dz, rel=1e-14)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nan_and_infinity_come_out_as_such(bad: float, dtype: type) -> None:
    logits, targets = draw(4, 3)
    logits[2, 1] = bad
    nll, dz = cross_entropy(logits.astype(dtype), targets)
    assert not math.isfinite(nll)
    assert not np.isfinite(dz[2]).any()
    assert np.isfinite(dz[[0, 1, 3]]).all()


def test_no_rows_cost_nothing() -> None:
    nll, dz = cross_entropy(np.empty((0, 4)), np.empty(0, int))
    assert nll == 0 and dz.shape == (0, 4)
