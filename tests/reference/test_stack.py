"""Lengths, windows, one-hot words, precision, unmodified inputs, and edge cases."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from gatewise.reference import Array, stack
from gatewise.reference.stack import Masks
from gatewise.spec import CELLS, RecurrentSpec
from tests.reference.rig import Case, Problem, make
from tests.tolerances import RELATIVE, differ

RAGGED = (3, 0, 5)
SPECS = [RecurrentSpec(cell, 2, 3, 2, bidirectional=both) for cell in CELLS for both in (False, True)]
SPECS += [RecurrentSpec("lstm", 2, 3, 2, proj_size=2), RecurrentSpec("gru", 2, 3, 1, bias=False)]


def named(spec: RecurrentSpec) -> str:
    return Case(spec).name


def results(problem: Problem) -> dict[str, Array]:
    """Every output and every gradient by name."""
    y, state_n, _ = problem.forward()
    gradients = {f"d{name}": d for name, d in problem.gradients().items()}
    return {"y": y, **dict(zip(("h_n", "c_n"), state_n, strict=False)), **gradients}


def assert_close(found: dict[str, Array], expected: dict[str, Array], dtype: torch.dtype = torch.float64) -> None:
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        assert found[name].shape == right.shape, name
        assert differ(torch.tensor(found[name]), torch.tensor(right)) < RELATIVE[dtype], name


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_each_row_of_a_ragged_batch_is_that_row_alone(spec: RecurrentSpec) -> None:
    whole = make(Case(spec, 5, 3, RAGGED, "steps"))
    found = results(whole)
    weights = {name: np.zeros(shape) for name, shape in spec.parameters().items()}
    for b, n in enumerate(RAGGED):
        rows = slice(b, b + 1)
        if n == 0:
            continue
        arrays = {k: a if k in weights else a[:n, rows] if k == "x" else a[:, rows] for k, a in whole.arrays.items()}
        inputs = [m[:n, rows] for m in whole.masks.inputs or [] if m is not None]
        hidden = [m[rows] for m in whole.masks.hidden or [] if m is not None]
        dstate_n = tuple(d[:, rows] for d in whole.dstate_n)
        alone = Problem(Case(spec, n, 1), arrays, whole.dy[:n, rows], dstate_n, Masks(inputs, hidden))
        for name, value in results(alone).items():
            if name.removeprefix("d") in weights:
                weights[name.removeprefix("d")] += value
            elif name in ("y", "dx"):
                assert found[name][:n, rows] == pytest.approx(value, rel=1e-10, abs=1e-12), name
                assert not found[name][n:, rows].any(), name
            else:
                assert found[name][:, rows] == pytest.approx(value, rel=1e-10, abs=1e-12), name
    assert_close({name: found[f"d{name}"] for name in weights}, weights)


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_a_row_of_no_length_hands_its_state_and_gradient_on(spec: RecurrentSpec) -> None:
    problem = make(Case(spec, 5, 3, RAGGED, "batch"))
    found = results(problem)
    assert not found["y"][:, 1].any() and not found["dx"][:, 1].any()
    for name, before, upstream in zip("hc", problem.state, problem.dstate_n, strict=False):
        assert np.array_equal(found[f"{name}_n"][:, 1], before[:, 1])
        assert np.array_equal(found[f"d{name}_0"][:, 1], upstream[:, 1])


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_what_stands_past_a_length_is_not_read(spec: RecurrentSpec) -> None:
    problem = make(Case(spec, 5, 3, RAGGED))
    expected = results(problem)
    for b, n in enumerate(RAGGED):
        problem.arrays["x"][n:, b] = problem.dy[n:, b] = np.nan
    for name, value in results(problem).items():
        assert np.array_equal(value, expected[name]), name


@pytest.mark.parametrize("lengths", [None, (0, 0, 0)])
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_no_steps_at_all(spec: RecurrentSpec, lengths: tuple[int, ...] | None) -> None:
    problem = make(Case(spec, 0, 3, lengths, "steps"))
    found = results(problem)
    assert found["y"].shape == (0, 3, spec.num_directions * spec.output_size) and found["dx"].shape == (0, 3, 2)
    for name, before, upstream in zip("hc", problem.state, problem.dstate_n, strict=False):
        assert np.array_equal(found[f"{name}_n"], before) and found[f"{name}_n"] is not before
        assert np.array_equal(found[f"d{name}_0"], upstream)
    for name, shape in spec.parameters().items():
        assert found[f"d{name}"].shape == shape and not found[f"d{name}"].any()


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.bidirectional], ids=named)
def test_windows_one_after_the_other_are_the_whole(spec: RecurrentSpec) -> None:
    whole = make(Case(spec, 6, 2, masks="batch"))
    expected, state, windows, outputs = results(whole), whole.state, [], []
    for start, stop in pairwise((0, 1, 4, 6)):
        x = whole.arrays["x"][start:stop]
        y, state, tape = stack.forward(spec, x, state, whole.arrays, masks=whole.masks)
        windows.append((slice(start, stop), tape))
        outputs.append(y)
    found = {"y": np.concatenate(outputs), **dict(zip(("h_n", "c_n"), state, strict=False))}
    dstate, pieces, sums = whole.dstate_n, [], {f"d{name}": np.zeros(s) for name, s in spec.parameters().items()}
    for steps, tape in reversed(windows):
        dx, dstate, dweights = stack.backward(spec, whole.dy[steps], dstate, tape, masks=whole.masks)
        assert dx is not None
        pieces.insert(0, dx)
        for name, d in dweights.items():
            sums[f"d{name}"] += d
    found |= {"dx": np.concatenate(pieces), **dict(zip(("dh_0", "dc_0"), dstate, strict=False)), **sums}
    assert_close(found, expected)


@pytest.mark.parametrize("lengths", [None, RAGGED])
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_words_equal_one_hot_vectors(spec: RecurrentSpec, lengths: tuple[int, ...] | None) -> None:
    spec = RecurrentSpec(spec.cell, 4, 3, spec.num_layers, spec.bias, spec.bidirectional, spec.proj_size)
    problem = make(Case(spec, 5, 3, lengths, "some"))
    words = np.array([[1, 0, 1], [1, 1, 2], [0, 0, 1], [2, 2, 2], [1, 2, 2]])  # repeated; 3 never comes
    problem.arrays["x"] = words
    found = results(problem)
    problem.arrays["x"] = np.eye(4)[words]
    expected = results(problem)
    del expected["dx"]
    assert_close(found, expected)
    assert not found["dweight_ih_l0"][:, 3].any()


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_float32_stays_float32(spec: RecurrentSpec) -> None:
    problem = make(Case(spec, 5, 3, RAGGED, "steps"))
    single = problem.map_arrays(lambda array: array.astype(np.float32))
    found = results(single)
    assert {name: value.dtype for name, value in found.items() if value.dtype != np.float32} == {}
    assert_close(found, results(problem), torch.float32)
    single.arrays["x"] = np.ones((5, 3), np.int64)
    single.masks = Masks(None, single.masks.hidden)
    assert {name for name, value in results(single).items() if value.dtype != np.float32} == set()


@pytest.mark.parametrize("lengths", [None, RAGGED])
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_arrays_need_not_be_contiguous(spec: RecurrentSpec, lengths: tuple[int, ...] | None) -> None:
    problem = make(Case(spec, 5, 3, lengths, "steps"))
    expected = results(problem)
    spread = problem.map_arrays(lambda array: np.repeat(array, 2, -1)[..., ::2])
    assert not spread.arrays["x"].flags.c_contiguous and not spread.dy.flags.c_contiguous
    assert_close(results(spread), expected)
    turned = problem.map_arrays(lambda array: array.T.copy().T)
    assert not turned.arrays["x"].flags.c_contiguous
    assert_close(results(turned), expected)


@pytest.mark.parametrize("lengths", [None, RAGGED])
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_nothing_given_is_changed_or_handed_back(spec: RecurrentSpec, lengths: tuple[int, ...] | None) -> None:
    problem = make(Case(spec, 5, 3, lengths, "steps"))
    kept = problem.map_arrays(np.copy)
    y, state_n, tape = problem.forward()
    outputs = [y.copy(), *(part.copy() for part in state_n)]
    first, again = (stack.backward(spec, problem.dy, problem.dstate_n, tape, masks=problem.masks) for _ in range(2))
    for name, array in kept.arrays.items():
        assert np.array_equal(problem.arrays[name], array), name
    for a, b in zip((problem.dy, *problem.dstate_n), (kept.dy, *kept.dstate_n), strict=True):
        assert np.array_equal(a, b)
    for a, b in zip((y, *state_n), outputs, strict=True):
        assert np.array_equal(a, b)
    for given, copies in zip(problem.masks, kept.masks, strict=True):
        for a, b in zip(given or [], copies or [], strict=True):
            assert np.array_equal(a, b)
    arrays = [*problem.arrays.values(), problem.dy, *problem.dstate_n]
    results_of = [[dx, *dstate, *dweights.values()] for dx, dstate, dweights in (first, again)]
    for a, b in zip(*results_of, strict=True):
        assert np.array_equal(a, b)
    handed_back = [y, *state_n, *results_of[0]]
    for k, result in enumerate(handed_back):
        assert not any(np.shares_memory(result, array) for array in (*arrays, *handed_back[:k]))


def harmed(spec: RecurrentSpec, name: str, bad: float) -> dict[str, Array]:
    """The results with one number spoilt: of x and dy the third step of the second row, of a state the second row."""
    problem = make(Case(spec, 5, 3))
    places = {"x": (2, 1, 0), "dy": (2, 1), "h_0": (0, 1, 0), "c_0": (0, 1, 0)}  # dy: a relu may shut one unit
    array = problem.dy if name == "dy" else problem.arrays[name]
    array[places.get(name, (0,) * array.ndim)] = bad
    return results(problem)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.bidirectional], ids=named)
def test_nan_comes_out_as_such_and_only_where_it_belongs(spec: RecurrentSpec) -> None:
    clean = results(make(Case(spec, 5, 3)))
    found = harmed(spec, "x", np.nan)
    assert np.isnan(found["y"][2:, 1]).all() and np.isnan(found["h_n"][:, 1]).all()
    assert np.isnan(found["dweight_ih_l0"][:, 0]).any() and np.isnan(found["dweight_hh_l0"]).any()
    assert np.array_equal(found["y"][:2], clean["y"][:2])
    others = [0, 2]
    for name in ("y", "dx", "h_n", "dh_0"):
        assert found[name][:, others] == pytest.approx(clean[name][:, others], rel=1e-10), name
    found = harmed(spec, "dy", np.nan)
    assert np.isnan(found["dx"][:3, 1]).any() and np.isnan(found["dweight_ih_l0"]).any()
    assert found["dx"][:, others] == pytest.approx(clean["dx"][:, others], rel=1e-10)
    for name in ["h_0", *spec.parameters()]:
        found = harmed(spec, name, np.nan)
        assert np.isnan(found["y"]).any(), name
        assert any(np.isnan(found[f"d{weight}"]).any() for weight in spec.parameters()), name


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_infinity_does_not_pass_unseen(spec: RecurrentSpec) -> None:
    for name in ["x", "dy", "h_0", *(["c_0"] if spec.cell == "lstm" else []), "weight_ih_l0", "weight_hh_l0"]:
        found = harmed(spec, name, np.inf)
        assert not all(np.isfinite(value).all() for value in found.values()), name


def test_a_mask_over_all_steps_is_that_mask_at_each_step() -> None:
    for spec in SPECS:
        once = make(Case(spec, 5, 3, RAGGED, "batch"))
        inputs = [None if m is None else np.repeat(m, 5, 0) for m in once.masks.inputs or []]
        each = Problem(once.case, once.arrays, once.dy, once.dstate_n, Masks(inputs, once.masks.hidden))
        assert_close(results(each), results(once))


@pytest.mark.parametrize("lengths", [(5, 2), (5, 2, 6), (5, 2, -1)])
def test_lengths_that_do_not_fit_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 3 integers, each 0 to 5"):
        results(make(Case(SPECS[0], 5, 3, lengths)))


def test_a_batch_without_rows_has_gradients_without_rows() -> None:
    for lengths in (None, ()):
        found = results(make(Case(SPECS[0], 5, 0, lengths)))
        assert found["dx"].shape == (5, 0, SPECS[0].input_size)
        assert not found["dweight_ih_l0"].any()
