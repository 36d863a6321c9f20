"""cuDNN's layers in the torch engine, with stand-ins for PyTorch's two operators, which exist on a GPU only."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gatewise.engines import ENGINES, layer
from gatewise.engines.contract import LayerInputs, LayerOptions, StackInputs
from gatewise.engines.layer_operator import flatten
from gatewise.engines.torch import cudnn, onednn
from gatewise.engines.torch.engine import _autograd_is_there
from gatewise.nn import Recurrent, make_stack
from gatewise.spec import CELLS
from tests.engines.cases import Case, disagreements, run
from tests.engines.test_operators import FORWARD, differentiable, gradients_of
from tests.tolerances import RELATIVE, differ

CASES = [
    Case(cell, numbers, shape, reverse, lengths, bias=bias)
    for cell in CELLS
    for numbers in ("float64", "float32", "bfloat16 products")
    for shape in ((5, 3, 7, 4), (1, 1, 1, 1), (4, 1, 2, 6))
    for reverse in (False, True)
    for lengths in ("none", "ragged", "zero")
    for bias in (True, False)
]
REAL = cudnn._FORWARD, cudnn._BACKWARD
NAMES = {code: name for name, code in cudnn._MODES.items()}


class StandIn:
    """PyTorch's operators, computed by its layers on the CPU; checks how they are called."""

    def __init__(self) -> None:
        self.calls = list[str]()
        self.graphs = dict[int, tuple[list[Tensor], list[Tensor], Tensor, tuple[Any, ...]]]()

    def forward(self, x: Tensor, weights: list[Tensor], each: int, flat: None, *rest: Any) -> tuple[Any, ...]:
        h, c, mode, H, projection, layers, batch_first, dropout, train, both, sizes, none = rest
        self.calls.append("forward")
        assert (flat, projection, batch_first, dropout, none) == (None, 0, False, 0.0, None)
        assert all(t.is_contiguous() for t in (x, h, *([] if c is None else [c])))
        assert len({t.dtype for t in (x, h, *weights)}) == 1
        assert len(weights) == each * layers * (2 if both else 1)
        states = [h] if c is None else [h, c]
        leaves = [t.detach().requires_grad_() for t in (x, *states, *weights)]
        given, own = leaves[1 : 1 + len(states)], leaves[1 + len(states) :]
        how = (each > 2, layers, 0.0, train, both)
        with torch.set_grad_enabled(train), _autograd_is_there() if train else nullcontext():
            state = given if len(given) > 1 else given[0]
            layer_of = getattr(torch, NAMES[mode])
            if sizes:
                y, *last = layer_of(leaves[0], torch.tensor(sizes), state, own, *how)
            else:
                y, *last = layer_of(leaves[0], state, own, *how, False)
        number, flat = len(self.graphs) + 1, torch.cat([w.flatten() for w in weights]).detach()
        reserve = torch.full((8,), number, dtype=torch.uint8)
        self.graphs[number] = leaves, [y, *last], flat, (each, mode, H, layers, both, sizes)
        outputs = [t.detach() for t in (y, *last)]
        return *outputs, *([None] if c is None else []), reserve if train else reserve[:0], flat

    def backward(self, x: Tensor, weights: list[Tensor], each: int, flat: Tensor, *rest: Any) -> tuple[Any, ...]:
        h, c, y, dy, dh, dc, mode, H, projection, layers, batch_first, dropout, train, both, sizes, none, *_ = rest
        reserve, wanted = rest[-2:]
        self.calls.append("backward")
        leaves, outputs, kept, how = self.graphs[int(reserve[0])]
        assert how == (each, mode, H, layers, both, sizes) and type(both) is bool
        assert (projection, batch_first, dropout, none) == (0, False, 0.0, None)
        assert type(wanted[0]) is bool and wanted[1:] == [True, c is not None, True]
        reserve.fill_(255)  # as cuDNN does
        given = [x, h, *([] if c is None else [c]), *weights]
        assert all(torch.equal(a, b) for a, b in zip(given, leaves, strict=True))
        assert torch.equal(y, outputs[0]) and torch.equal(flat, kept) and train
        assert all(t.is_contiguous() for t in (dy, dh))
        upstream = [d for d in (dy, dh, dc) if d is not None]
        with torch.enable_grad(), _autograd_is_there():
            found = list(torch.autograd.grad(outputs, leaves, upstream, retain_graph=True))
        dx, dh, *dw = found
        dc = dw.pop(0) if c is not None else None
        return dx if wanted[0] else None, dh, dc, dw


@pytest.fixture(autouse=True)
def operators(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Send every plain pass to cuDNN; return the stand-in."""
    stand_in = StandIn()
    monkeypatch.setattr(cudnn, "_FORWARD", stand_in.forward)
    monkeypatch.setattr(cudnn, "_BACKWARD", stand_in.backward)
    monkeypatch.setattr(onednn, "fits", lambda inputs, options: False)
    monkeypatch.setattr(cudnn, "why_not", lambda x: None)
    monkeypatch.setattr(cudnn, "_KEPT", {})
    return stand_in


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:5])) + "-bias" * case.bias)
def test_every_number_is_the_references(operators: StandIn, case: Case) -> None:
    inputs, upstream = case.draw()
    options = case.options._replace(trace=False)
    _, expected = run("reference", inputs, options, upstream)
    _, found = run("torch", inputs, options, upstream)
    if case.sharp or case.lengths == "zero":
        assert not disagreements(found, expected, case.tolerance)
    if case.lengths != "zero" and (case.lengths == "none" or case.shape[0] > 1):
        assert operators.calls == ["forward", "backward"]


def test_what_was_kept_is_checked(operators: StandIn) -> None:
    inputs, upstream = Case().draw()
    options = Case().options._replace(trace=False)
    outputs = ENGINES["torch"].forward(inputs, options)
    reserve, flat = outputs.saved
    for saved, message in (
        ([reserve[:3], flat], r"saved\[0\] has shape \(3,\); expected \(8,\)"),
        ([reserve, flat[:3]], r"saved\[0\] has shape \(3,\)"),
        ([reserve.float(), flat], "is torch.float32; expected torch.uint8"),
        ([reserve, flat, flat], "saved holds 2 tensors; expected the 1"),
    ):
        bad = outputs._replace(saved=saved)
        with pytest.raises(ValueError, match=message):
            ENGINES["torch"].backward(inputs, bad, upstream[0], upstream[1:], options, True)
    assert operators.calls == ["forward"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("counted", [False, True])
def test_autograd_hands_it_on(operators: StandIn, cell: str, reverse: bool, counted: bool) -> None:
    """Within an operator, too, and where a mode watches the operators."""
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
    assert operators.calls == ["forward", "backward"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", ["none", "ragged"])
def test_a_compiled_graph_is_told_what_is_kept(cell: str, lengths: str) -> None:
    """Nothing, where the pass is run once more; what the loops keep, elsewhere."""
    case = Case(cell, lengths=lengths)
    inputs, _ = case.draw()
    for options in (case.options._replace(trace=trace, known_shapes=True) for trace in (False, True)):
        torch.library.opcheck(FORWARD, (*flatten(inputs), *options, "torch"), test_utils="test_faketensor")
        saved = FORWARD(*flatten(inputs), *options, "torch")[2]
        assert [t.shape for t in saved] == ENGINES["torch"].saved_shapes(inputs, options)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_compiled_graph_runs_it(operators: StandIn, cell: str) -> None:
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
    operators.calls.clear()
    compiled(leaves).backward()
    found = gradients_of(leaves, cell)
    assert not disagreements(found, {n: t for n, t in expected.items() if n.startswith("d")}, case.tolerance)
    assert operators.calls == ["forward", "forward", "backward"]


def cost_of(*parts: Tensor) -> Tensor:
    """Return a cost that depends on every number in another way."""
    return torch.stack([(part * torch.linspace(-1, 2, part.numel()).view(part.shape)).sum() for part in parts]).sum()


def results(module: Recurrent, x: Tensor, lengths: Sequence[int] | None, create_graph: bool = False) -> list[Tensor]:
    """Return the outputs, the states, and the gradients of a cost that depends on all of them."""
    x = x.clone().requires_grad_()
    y, state = module(x, lengths=lengths)
    parts = [state] if isinstance(state, Tensor) else [*state]
    leaves = [x, *module.parameters()]
    return [y, *parts, *torch.autograd.grad(cost_of(y, *parts), leaves, create_graph=create_graph)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 0, 3, 6], [0, 0, 0, 0]])
@pytest.mark.parametrize("bias", [False, True])
def test_a_stack_is_one_call(operators: StandIn, cell: str, both: bool, lengths: list[int] | None, bias: bool) -> None:
    torch.manual_seed(1)
    module = make_stack(cell, 3, 5, 3, bias=bias, bidirectional=both, engine="torch")
    x = torch.randn(6, 4, 3)
    found = results(module, x, lengths)
    assert operators.calls == (["forward", "backward"] if lengths is None or any(lengths) else [])
    module.engine = "reference"
    for a, b in zip(found, results(module, x, lengths), strict=True):
        assert differ(a, b) < RELATIVE[torch.float32]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 0, 3, 6]])
def test_gradients_that_can_be_differentiated_are_the_same(
    operators: StandIn, both: bool, lengths: list[int] | None
) -> None:
    torch.manual_seed(1)
    module, x = make_stack("lstm", 3, 5, 3, bidirectional=both, engine="torch"), torch.randn(6, 4, 3)
    plain, again = (results(module, x, lengths, create_graph=create) for create in (False, True))
    assert operators.calls == ["forward", "backward", "forward"]
    assert all(t.requires_grad for t in again)
    for a, b in zip(plain, again, strict=True):
        assert differ(a, b) < RELATIVE[torch.float32]


def test_the_gradient_of_the_input_is_left_out_if_nobody_needs_it(operators: StandIn) -> None:
    module, x = make_stack("lstm", 3, 5, 2, engine="torch"), torch.randn(6, 4, 3)
    _, _, _, _, *expected = results(module, x, None)
    y, (h_n, c_n) = module(x)
    found = torch.autograd.grad(cost_of(y, h_n, c_n), list(module.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    inputs = StackInputs(x, (h_n, c_n), tuple(map(tuple, module.all_weights)))
    options = LayerOptions("lstm", save=True)
    outputs = ENGINES["torch"].stack(inputs, options)
    assert ENGINES["torch"].stack_backward(inputs, outputs, y, (h_n, c_n), options, False).x is None


def test_a_stack_in_16_bits(operators: StandIn) -> None:
    torch.manual_seed(1)
    module, x = make_stack("lstm", 3, 5, 2, engine="torch"), torch.randn(6, 4, 3)
    exact = results(module, x, None)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(module, x, None)
    assert [t.dtype for t in found] == [t.dtype for t in exact]
    assert operators.calls == ["forward", "backward"] * 2
    for a, b in zip(found, exact, strict=True):
        assert 0 < differ(a, b) < RELATIVE[torch.bfloat16]


def test_dropout_masks_and_traces_go_pass_by_pass(operators: StandIn) -> None:
    x = torch.randn(6, 4, 3)
    for options, each in (
        ({"dropout": 0.5}, 2),
        ({"variational_dropout": (0.5, 0.0)}, 2),
        ({"variational_dropout": (0.0, 0.5)}, 0),
    ):
        module = make_stack("lstm", 3, 5, 2, engine="torch", **options)
        operators.calls.clear()
        module(x)
        assert operators.calls == ["forward"] * each
        operators.calls.clear()
        module.eval()(x)
        assert operators.calls == ["forward"]
    operators.calls.clear()
    module(x, trace=("f",))
    assert not operators.calls


def test_a_stack_is_differentiated_twice_and_again(operators: StandIn) -> None:
    module = make_stack("lstm", 3, 4, 2, bidirectional=True, engine="torch").double()
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: module(x)[0], (x,))
    assert torch.autograd.gradgradcheck(lambda x: module(x)[0], (x,))
    y, _ = module(x)
    first = torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(y.sum(), x)[0])


def test_a_stack_refuses_what_does_not_fit(operators: StandIn) -> None:
    module, x = make_stack("lstm", 3, 4, 2, engine="torch"), torch.randn(5, 2, 3)
    with pytest.raises(ValueError, match="lengths holds 6; expected 0 to 5"):
        module(x, lengths=[6, 1])
    module.weight_hh_l1 = torch.nn.Parameter(torch.randn(16, 5))
    with pytest.raises(ValueError, match=r"weight_hh has shape \(16, 5\); expected \(16, 4\)"):
        module(x)
    assert not operators.calls


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 0, 3, 6])])
def test_the_operators_accept_these_arguments(
    operators: StandIn, cell: str, lengths: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch checks them against its schema before it finds that there is no cuDNN for the CPU."""
    module, x = make_stack(cell, 3, 5, 2, engine="torch"), torch.randn(6, 4, 3)
    stack = StackInputs(x, tuple(module._zeros(4, x)), tuple(map(tuple, module.all_weights)), lengths)
    options = LayerOptions(cell, save=True)
    outputs = ENGINES["torch"].stack(stack, options)
    for name, real in zip(("_FORWARD", "_BACKWARD"), REAL, strict=True):
        monkeypatch.setattr(cudnn, name, real)
    with pytest.raises(NotImplementedError, match="Could not run 'aten::_cudnn_rnn'"):
        ENGINES["torch"].stack(stack, options)
    with pytest.raises(NotImplementedError, match="Could not run 'aten::_cudnn_rnn_backward'"):
        ENGINES["torch"].stack_backward(stack, outputs, outputs.y, outputs.state, options, True)
