"""The gradient check must detect wrong gradients."""

import numpy as np
import pytest

from gatewise.reference import Array, gradcheck
from gatewise.spec import CELLS, RecurrentSpec
from tests.reference.rig import Case, Problem, make_smooth


def polynomial(arrays: dict[str, Array]) -> float:
    return float((arrays["a"] ** 3).sum() + 2 * arrays["a"][0] * arrays["b"].sum())


def arrays_and_slopes() -> tuple[dict[str, Array], dict[str, Array]]:
    arrays = {"a": np.array([1.0, -2.0, 0.5]), "b": np.array([[0.5, 3.0], [-1.0, 2.0]])}
    slopes = {"a": 3 * arrays["a"] ** 2, "b": np.full((2, 2), 2 * arrays["a"][0])}
    slopes["a"][0] += 2 * arrays["b"].sum()
    return arrays, slopes


def test_central_differences_are_the_derivatives() -> None:
    arrays, slopes = arrays_and_slopes()
    found = gradcheck.central_differences(lambda: polynomial(arrays), arrays)
    assert found.keys() == slopes.keys()
    for name, slope in slopes.items():
        assert np.abs(found[name] - slope).max() < 1e-8


def test_both_sides_are_taken() -> None:
    square = np.array([0.0])  # the forward difference is step itself, the central one nothing
    found = gradcheck.central_differences(lambda: float(square[0] ** 2), {"a": square}, step=0.5)
    assert found["a"][0] == 0


def test_arrays_are_put_back() -> None:
    arrays, slopes = arrays_and_slopes()
    before = {name: a.copy() for name, a in arrays.items()}
    gradcheck.check(lambda: polynomial(arrays), arrays, slopes)
    assert all(np.array_equal(arrays[name], before[name]) for name in arrays)


def test_right_gradients_pass_and_a_wrong_one_is_named() -> None:
    arrays, slopes = arrays_and_slopes()

    def loss() -> float:
        return polynomial(arrays)

    assert gradcheck.check(loss, arrays, slopes) == {}
    slopes["b"][1, 0] += 0.01
    failures = gradcheck.check(loss, arrays, slopes)
    assert failures.keys() == {"b"}
    assert failures["b"] == pytest.approx(0.01 / 2, rel=1e-4)  # of the largest derivative, which is 2
    assert gradcheck.check(loss, arrays, slopes, tolerance=0.006) == {}


def test_small_derivatives_are_compared_with_one() -> None:
    array = np.array([2.0])
    failures = gradcheck.check(lambda: float(1e-3 * array[0]), {"a": array}, {"a": np.array([1.5e-3])})
    assert failures["a"] == pytest.approx(0.5e-3, rel=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_gradient_that_is_no_number_is_named(bad: float) -> None:
    arrays, slopes = arrays_and_slopes()
    slopes["a"][2] = bad
    assert gradcheck.check(lambda: polynomial(arrays), arrays, slopes, tolerance=1e9).keys() == {"a"}


def test_a_loss_that_is_no_number_fails_everything() -> None:
    arrays, slopes = arrays_and_slopes()
    assert gradcheck.check(lambda: float("nan"), arrays, slopes).keys() == {"a", "b"}


def test_a_gradient_that_is_missing_is_an_error() -> None:
    arrays, slopes = arrays_and_slopes()
    with pytest.raises(KeyError, match="b"):
        gradcheck.check(lambda: polynomial(arrays), arrays, {"a": slopes["a"]})


def test_empty_arrays_have_nothing_to_differ_in() -> None:
    empty = np.empty((0, 3))
    assert gradcheck.check(lambda: 1.0, {"a": empty}, {"a": empty.copy()}) == {}


SPECS = [RecurrentSpec(cell, 2, 3, bidirectional=True) for cell in CELLS] + [RecurrentSpec("lstm", 2, 3, proj_size=2)]
WHOLE = [(make_smooth(Case(spec, T=2, B=2)), name) for spec in SPECS for name in make_smooth(Case(spec)).gradients()]


@pytest.mark.parametrize(("problem", "name"), WHOLE, ids=lambda x: x.case.name if isinstance(x, Problem) else x)
@pytest.mark.parametrize("fault", ["negated", "zero", "one entry", "NaN"])
def test_a_cells_wrong_gradient_is_named(problem: Problem, name: str, fault: str) -> None:
    gradients = problem.gradients()
    wrong = gradients[name].copy()
    if fault == "one entry":
        wrong.flat[-1] += 1e-4
    elif fault == "NaN":
        wrong.flat[0] = np.nan
    else:
        wrong *= -1 if fault == "negated" else 0
    found = gradcheck.check(problem.loss, {name: problem.arrays[name]}, {**gradients, name: wrong})
    assert found.keys() == {name}


def test_a_gradient_of_another_shape_is_named_though_it_would_broadcast() -> None:
    w = np.array([[1.0], [1.0]])
    assert gradcheck.check(lambda: float(w.sum()), {"w": w}, {"w": np.array([1.0])}) == {"w": np.inf}


def test_the_array_is_put_back_where_the_loss_raises() -> None:
    w = np.array([1.0, 2.0])

    def loss() -> float:
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        gradcheck.central_differences(loss, {"w": w})
    assert w.tolist() == [1.0, 2.0]
