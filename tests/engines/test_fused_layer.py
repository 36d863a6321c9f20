"""The use of PyTorch's own layers in the torch engine, normally on a GPU, forced on the CPU."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gatewise.engines import ENGINES, layer
from gatewise.engines.contract import LayerInputs, LayerOptions
from gatewise.engines.layer_operator import flatten
from gatewise.engines.torch import fused
from gatewise.spec import CELLS
from tests.engines.cases import Case, disagreements, run
from tests.engines.test_operators import FORWARD, differentiable, gradients_of

CASES = [
    Case(cell, numbers, shape, reverse, bias=bias)
    for cell in CELLS
    for numbers in ("float64", "float32")
    for shape in ((5, 3, 7, 4), (1, 1, 1, 1), (4, 1, 2, 6))
    for reverse in (False, True)
    for bias in (True, False)
]


@pytest.fixture(autouse=True)
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Send every plain pass to PyTorch's layer; return what was sent there."""
    sent = list[str]()

    def spied(name: str) -> None:
        honest = getattr(fused, name)

        def spy(*arguments: Any) -> Any:
            sent.append(name)
            return honest(*arguments)

        monkeypatch.setattr(fused, name, spy)

    def fits(inputs: LayerInputs, options: LayerOptions) -> bool:
        return fused._is_pytorchs(inputs, options) and inputs.x.numel() > 0

    monkeypatch.setattr(fused, "fits_onednn", lambda inputs, options: False)
    monkeypatch.setattr(fused, "fits_cudnn", fits)
    spied("cudnn_forward")
    spied("cudnn_backward")
    return sent


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:4])) + "-bias" * case.bias)
def test_every_number_is_the_references(passes: list[str], case: Case) -> None:
    inputs, upstream = case.draw()
    options = case.options._replace(trace=False)
    _, expected = run("reference", inputs, options, upstream)
    _, found = run("torch", inputs, options, upstream)
    assert not disagreements(found, expected, case.tolerance)
    assert passes == ["cudnn_forward", "cudnn_backward", "cudnn_forward"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("counted", [False, True])
def test_autograd_hands_it_on(passes: list[str], cell: str, reverse: bool, counted: bool) -> None:
    """Within an operator, too, it can be run and differentiated once more; and where a mode watches the operators."""
    case = Case(cell, reverse=reverse)
    inputs, upstream = case.draw()
    options = case.options._replace(trace=False)
    _, expected = run("reference", inputs, options, upstream)
    leaves = differentiable(inputs)
    with FlopCounterMode(display=False) if counted else nullcontext():
        # As a compiled graph calls it: below a mode the layer itself goes by operations.
        y, last, *_ = FORWARD(*flatten(leaves), *options, "torch") if counted else layer(leaves, options, "torch")
        torch.autograd.backward([y, *last], upstream)
    found = gradients_of(leaves, cell)
    assert not disagreements(found, {n: t for n, t in expected.items() if n.startswith("d")}, case.tolerance)
    assert "cudnn_backward" in passes


@pytest.mark.parametrize("cell", CELLS)
def test_a_compiled_graph_is_told_what_is_kept(cell: str) -> None:
    """Nothing, where the pass is run once more; what the loops keep, elsewhere."""
    case = Case(cell)
    inputs, _ = case.draw()
    for options in (case.options._replace(trace=trace, known_shapes=True) for trace in (False, True)):
        torch.library.opcheck(FORWARD, (*flatten(inputs), *options, "torch"), test_utils="test_faketensor")
        saved = FORWARD(*flatten(inputs), *options, "torch")[2]
        assert [t.shape for t in saved] == ENGINES["torch"].saved_shapes(inputs, options)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_compiled_graph_runs_it(passes: list[str], cell: str) -> None:
    case = Case(cell)
    inputs, upstream = case.draw()
    options = case.options._replace(trace=False, known_shapes=True)
    _, expected = run("reference", inputs, options, upstream)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def compiled(inputs: LayerInputs) -> Tensor:
        y, last, *_ = layer(inputs, options, "torch")
        return (y * upstream[0]).sum() + (last[0] * upstream[1]).sum()

    if cell == "lstm":
        _, expected = run("reference", inputs, options, (*upstream[:2], torch.zeros_like(upstream[2])))
    leaves = differentiable(inputs)
    compiled(leaves).backward()
    found = gradients_of(leaves, cell)
    assert not disagreements(found, {n: t for n, t in expected.items() if n.startswith("d")}, case.tolerance)
    assert "cudnn_backward" in passes
