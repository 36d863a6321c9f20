"""Gradients that can be differentiated again: the same as the reference's, and their derivatives right."""

import pytest
import torch
from torch import Tensor

from gatewise.kernels import layer
from gatewise.kernels.contract import LayerInputs
from tests.kernels.cases import CELLS, NUMBERS, Case, disagreements, run
from tests.kernels.test_operators import N_FLOATING, clean, differentiable

INPUTS = LayerInputs._fields[:N_FLOATING]


def gradients(case: Case, leaves: LayerInputs, upstream: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Every input's gradient, by name, with a graph of its own."""
    outputs = layer(leaves, case.options._replace(trace=False), "torch")
    pairs = [(o, d) for o, d in zip(outputs[:3], upstream, strict=True) if o.numel()]
    named = {f"d{name}": t for name, t in leaves._asdict().items() if t is not None and t.requires_grad}
    found = torch.autograd.grad([o for o, _ in pairs], [*named.values()], [d for _, d in pairs], create_graph=True)
    assert all(t.requires_grad for t in found)
    return dict(zip(named, found, strict=True))


def expected_gradients(case: Case) -> dict[str, Tensor]:
    inputs, upstream = case.draw()
    _, expected = run("reference", inputs, case.options._replace(trace=False), upstream)
    return {name: t for name, t in expected.items() if name.startswith("d")}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", ["none", "ragged"])
@pytest.mark.parametrize("masked", [False, True])
def test_they_are_the_references(cell: str, reverse: bool, lengths: str, masked: bool) -> None:
    for numbers in NUMBERS:
        case = Case(cell, numbers, (5, 3, 7, 4), reverse, lengths, masked)
        inputs, upstream = case.draw()
        found = gradients(case, differentiable(inputs), upstream)
        assert not disagreements(found, expected_gradients(case), case.tolerance)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", ["none", "ragged"])
@pytest.mark.parametrize("masked", [False, True])
def test_their_derivatives_are_those_of_central_differences(
    cell: str, reverse: bool, lengths: str, masked: bool
) -> None:
    case = Case(cell, "float64", (3, 3, 2, 2), reverse, lengths, masked)
    inputs, upstream = clean(case)
    leaves = differentiable(inputs)
    names = [name for name in INPUTS if getattr(leaves, name) is not None]

    def outputs(*given: Tensor) -> list[Tensor]:
        given_inputs = inputs._replace(**dict(zip(names, given, strict=True)))
        return [o for o in layer(given_inputs, case.options._replace(trace=False), "torch")[:3] if o.numel()]

    ups = [d.requires_grad_() for d in upstream if d.numel()]
    assert torch.autograd.gradgradcheck(outputs, [getattr(leaves, name) for name in names], ups, fast_mode=True)


@pytest.mark.parametrize("needed", INPUTS)
def test_one_input_may_need_a_gradient_alone(needed: str) -> None:
    case = Case("lstm projected")
    inputs, upstream = case.draw()
    getattr(inputs, needed).requires_grad_()
    found = gradients(case, inputs, upstream)
    assert not disagreements(found, {f"d{needed}": expected_gradients(case)[f"d{needed}"]}, case.tolerance)


@pytest.mark.parametrize("twice", [("h_0", "c_0"), ("b_ih", "b_hh")])
def test_a_tensor_given_twice_counts_in_each_place(twice: tuple[str, str]) -> None:
    case = Case("lstm")
    inputs, upstream = case.draw()
    inputs = inputs._replace(**{twice[1]: getattr(inputs, twice[0])})
    _, expected = run("reference", inputs, case.options, upstream)
    found = gradients(case, differentiable(inputs), upstream)
    whole = expected[f"d{twice[0]}"] + expected[f"d{twice[1]}"]
    assert not disagreements({"sum": found[f"d{twice[0]}"]}, {"sum": whole}, case.tolerance)
