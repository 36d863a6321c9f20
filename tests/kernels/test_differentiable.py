"""The pass that can be differentiated again computes what the reference computes, and so do its gradients."""

import pytest
import torch

from gatewise.kernels.differentiable import differentiable_forward
from tests.kernels.cases import CELLS, NUMBERS, Case, disagreements, every_case, run
from tests.kernels.test_operators import differentiable

CASES = list(every_case())[::11]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_and_gradients_are_the_references(cell: str, numbers: str) -> None:
    cases = [case for case in CASES if (case.cell, case.numbers) == (cell, numbers) and case.sharp]
    assert len(cases) > 1
    wrong = []
    for case in cases:
        inputs, upstream = case.draw()
        options = case.options._replace(trace=True)
        _, expected = run("reference", inputs, options, upstream)
        leaves = differentiable(inputs)
        *outputs, _, trace = differentiable_forward(leaves, options)
        pairs = [(o, d) for o, d in zip(outputs, upstream, strict=True) if o.numel()]
        torch.autograd.backward([o for o, _ in pairs], [d for _, d in pairs])
        found = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
        found |= {f"trace {k}": t for k, t in enumerate(trace)}
        for name, t in leaves._asdict().items():
            if f"d{name}" in expected:
                found[f"d{name}"] = torch.zeros_like(t) if t.grad is None else t.grad
        wrong += [f"{case}: {text}" for text in disagreements(found, expected, case.tolerance)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("cell", CELLS)
def test_no_steps_give_the_state_back(cell: str) -> None:
    inputs, _ = Case(cell, shape=(0, 2, 3, 4)).draw()
    y, h_n, *_ = differentiable_forward(inputs, Case(cell).options)
    assert y.shape == (0, *inputs.h_0.shape)
    assert torch.equal(h_n, inputs.h_0)
