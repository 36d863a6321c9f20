"""The differentiable pass and its gradients equal those of the reference."""

import pytest
import torch

from gatewise.engines.differentiable import differentiable_forward
from tests.engines.cases import KINDS, NUMBERS, Case, disagreements, every_case, named, run
from tests.engines.test_operators import differentiable

CASES = list(every_case())[::11]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("cell", KINDS)
def test_outputs_and_gradients_are_the_references(cell: str, numbers: str) -> None:
    cases = [case for case in CASES if (case.cell, case.numbers) == (cell, numbers) and case.sharp]
    assert len(cases) > 1
    wrong = []
    for case in cases:
        inputs, upstream = case.draw()
        options = case.options._replace(trace=True)
        _, expected = run("reference", inputs, options, upstream)
        leaves = differentiable(inputs)
        y, last, _, trace = differentiable_forward(leaves, options)
        torch.autograd.backward([y, *last], upstream)
        found = dict(zip(("y", "h_n", "c_n"), (y, *last), strict=False))
        found |= {f"trace {k}": t for k, t in enumerate(trace)}
        for name, t in named(leaves, options.cell).items():
            if t is not None:
                found[f"d{name}"] = torch.zeros_like(t) if t.grad is None else t.grad
        wrong += [f"{case}: {text}" for text in disagreements(found, expected, case.tolerance)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("cell", KINDS)
def test_no_steps_give_the_state_back(cell: str) -> None:
    inputs, _ = Case(cell, shape=(0, 2, 3, 4)).draw()
    y, last, *_ = differentiable_forward(inputs, Case(cell).options)
    assert y.shape == (0, *inputs.state[0].shape)
    assert all(torch.equal(a, b) for a, b in zip(last, inputs.state, strict=True))
