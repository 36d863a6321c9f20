"""Gradients that can be differentiated again: the same as the reference's, and their derivatives right."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from gatewise.engines import layer
from gatewise.engines.contract import LayerInputs
from tests.engines.cases import KINDS, NUMBERS, Case, disagreements, named, run
from tests.engines.test_operators import INPUTS, clean, differentiable


def gradients(case: Case, leaves: LayerInputs, upstream: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Every input's gradient, by name, with a graph of its own."""
    outputs = layer(leaves, case.options._replace(trace=False), "torch")
    given = {f"d{name}": t for name, t in named(leaves, case.options.cell).items() if t is not None and t.requires_grad}
    found = torch.autograd.grad([outputs.y, *outputs.state], [*given.values()], upstream, create_graph=True)
    assert all(t.requires_grad for t in found)
    return dict(zip(given, found, strict=True))


def with_named(inputs: LayerInputs, case: Case, tensors: Mapping[str, Tensor | None]) -> LayerInputs:
    """Put tensors in the place of those of their names."""
    x, *others = (named(inputs, case.options.cell) | tensors).values()
    states = len(inputs.state)
    return inputs._replace(x=x, state=tuple(others[:states]), params=tuple(others[states:]))


def expected_gradients(case: Case) -> dict[str, Tensor]:
    inputs, upstream = case.draw()
    _, expected = run("reference", inputs, case.options._replace(trace=False), upstream)
    return {name: t for name, t in expected.items() if name.startswith("d")}


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", ["none", "ragged"])
@pytest.mark.parametrize("masked", [False, True])
def test_they_are_the_references(cell: str, reverse: bool, lengths: str, masked: bool) -> None:
    for numbers in NUMBERS:
        case = Case(cell, numbers, (5, 3, 7, 4), reverse, lengths, masked)
        inputs, upstream = case.draw()
        found = gradients(case, differentiable(inputs), upstream)
        assert not disagreements(found, expected_gradients(case), case.tolerance)


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", ["none", "ragged"])
@pytest.mark.parametrize("masked", [False, True])
def test_their_derivatives_are_those_of_central_differences(
    cell: str, reverse: bool, lengths: str, masked: bool
) -> None:
    case = Case(cell, "float64", (3, 3, 2, 2), reverse, lengths, masked)
    inputs, upstream = clean(case)
    leaves = differentiable(inputs)
    given = {name: t for name, t in named(leaves, case.options.cell).items() if t is not None}

    def outputs(*tensors: Tensor) -> list[Tensor]:
        found = layer(with_named(inputs, case, dict(zip(given, tensors, strict=True))), options, "torch")
        return [found.y, *found.state]

    options, ups = case.options._replace(trace=False), [d.requires_grad_() for d in upstream]
    assert torch.autograd.gradgradcheck(outputs, [*given.values()], ups, fast_mode=True)


@pytest.mark.parametrize("needed", INPUTS)
def test_one_input_may_need_a_gradient_alone(needed: str) -> None:
    case = Case("lstm projected")
    inputs, upstream = case.draw()
    leaf = named(inputs, "lstm")[needed]
    assert leaf is not None
    leaf.requires_grad_()
    found = gradients(case, inputs, upstream)
    assert not disagreements(found, {f"d{needed}": expected_gradients(case)[f"d{needed}"]}, case.tolerance)


@pytest.mark.parametrize("twice", [("h_0", "c_0"), ("bias_ih", "bias_hh")])
def test_a_tensor_given_twice_counts_in_each_place(twice: tuple[str, str]) -> None:
    case = Case("lstm")
    inputs, upstream = case.draw()
    inputs = with_named(inputs, case, {twice[1]: named(inputs, "lstm")[twice[0]]})
    _, expected = run("reference", inputs, case.options, upstream)
    found = gradients(case, differentiable(inputs), upstream)
    whole = expected[f"d{twice[0]}"] + expected[f"d{twice[1]}"]
    assert not disagreements({"sum": found[f"d{twice[0]}"]}, {"sum": whole}, case.tolerance)
