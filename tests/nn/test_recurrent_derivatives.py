"""Derivatives once and twice, against central differences; and through the state across windows."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gatewise.engines import layer
from gatewise.nn import make_stack
from gatewise.spec import CELLS
from tests.engines.cases import Case, named
from tests.engines.test_second_derivatives import with_named
from tests.nn.beside import assert_same, both, parts, results
from tests.tolerances import RELATIVE


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", ["none", "ragged"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_pass_once_and_twice_against_central_differences(
    cell: str, reverse: bool, lengths: str, masked: bool
) -> None:
    """By every input and every weight, from y, h_n and c_n."""
    case = Case(cell, "float64", (3, 2, 2, 2), reverse, lengths, masked)
    inputs, _ = case.draw()
    inputs = inputs._replace(x=inputs.x.nan_to_num(0.5))
    if inputs.lengths is not None:
        inputs = inputs._replace(lengths=torch.tensor([1, 3]))
    given = {name: t for name, t in named(inputs, cell).items() if t is not None}

    def call(*leaves: Tensor) -> tuple[Tensor, ...]:
        changed = with_named(inputs, case, dict(zip(given, leaves, strict=True)))
        y, last, *_ = layer(changed, case.options._replace(trace=False), "torch")
        return y, *last

    leaves = [t.clone().requires_grad_() for t in given.values()]
    assert torch.autograd.gradcheck(call, leaves, fast_mode=not masked)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_second_derivatives_are_pytorchs(cell: str, training: bool, lengths: list[int] | None) -> None:
    """The gradient of the size of the gradient, as penalties on gradients ask for it, by x and by every weight."""
    ours, theirs = both(cell, 3, 4, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def penalty(module: nn.Module, rows: Any) -> dict[str, Tensor]:
        module.train(training).zero_grad()
        leaf = x.clone().requires_grad_()
        y = module(leaf, lengths=lengths)[0] if rows is None else rows(module, leaf)
        wanted = [leaf, *module.parameters()]
        first = torch.autograd.grad((y**2).sum(), wanted, create_graph=True)
        sum((g**2).sum() for g in first).backward()
        return {"dx": leaf.grad, **{n: p.grad for n, p in module.named_parameters()}}

    def alone(module: nn.Module, leaf: Tensor) -> Tensor:
        return torch.cat([module(leaf[:n, b])[0] for b, n in enumerate(lengths or [4, 4, 4]) if n])

    assert_same(penalty(ours, None), penalty(theirs, alone), RELATIVE[torch.float64])


@pytest.mark.parametrize("cell", CELLS)
def test_mixed_derivatives_by_pairs_of_weights(cell: str) -> None:
    """Each block of the Hessian, symmetric in its two weights."""
    module = make_stack(cell, 2, 2, dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64)
    names = [n for n, _ in module.named_parameters()]

    def loss(*weights: Tensor) -> Tensor:
        y, after = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (x,))
        return (y**3).sum() + sum(part.sin().sum() for part in parts(after))

    blocks = torch.autograd.functional.hessian(loss, tuple(module.parameters()))
    for i, row in enumerate(blocks):
        for j, block in enumerate(row):
            a = block.reshape(len(list(module.parameters())[i].flatten()), -1)
            b = blocks[j][i].reshape(-1, a.shape[0]).T
            assert_same({f"{names[i]} {names[j]}": a}, {f"{names[i]} {names[j]}": b}, RELATIVE[torch.float64])
            assert a.any()


@pytest.mark.parametrize("cell", CELLS)
def test_a_detached_state_cuts_the_graph_and_a_carried_one_does_not(cell: str) -> None:
    module = make_stack(cell, 3, 4)
    x = torch.randn(2, 1, 3, requires_grad=True)
    for detached in (False, True):
        x.grad = None
        state = module.initial_state(1)
        _, state = module(x[:1], state)
        y, _ = module(x[1:], state.detach() if detached else state)
        y.sum().backward()
        assert bool(x.grad[0].any()) is not detached
        assert x.grad[1].any()


@pytest.mark.parametrize("cell", CELLS)
def test_without_gradients_nothing_is_kept_and_the_outputs_are_the_same(cell: str) -> None:
    module, x = make_stack(cell, 3, 4, 2, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    y, _ = module(x)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            quiet, _ = module(x)
        assert not quiet.requires_grad
        assert_same({"y": quiet}, {"y": y}, RELATIVE[torch.float64])
    module.requires_grad_(False)
    assert not module(x)[0].requires_grad
    assert module(x.requires_grad_())[0].requires_grad


@pytest.mark.parametrize("cell", CELLS)
def test_a_weight_may_be_computed_from_another(cell: str) -> None:
    """Weight drop and weight norm are transforms of a weight, not surgery on the module."""

    class Halved(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight / 2

    module, plain = make_stack(cell, 3, 4), make_stack(cell, 3, 4)
    plain.load_state_dict(module.state_dict())
    with torch.no_grad():
        plain.weight_hh_l0 /= 2
    parametrize.register_parametrization(module, "weight_hh_l0", Halved())
    x = torch.randn(5, 2, 3)
    found, expected = results(module, x), results(plain, x)
    assert_same({"y": found["y"]}, {"y": expected["y"]}, RELATIVE[torch.float32])
    original = {"d": found["dparametrizations.weight_hh_l0.original"]}
    assert_same(original, {"d": expected["dweight_hh_l0"] / 2}, RELATIVE[torch.float32])
