"""The operator: its registration (PyTorch's own checks), lengths, fake shapes and derivatives."""

import itertools

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gatewise.engines import ENGINES, layer
from gatewise.engines.contract import LayerInputs, LayerOptions
from gatewise.engines.layer_operator import flatten
from gatewise.spec import CELLS
from tests.engines.cases import KINDS, Case, disagreements, each, named, run

FORWARD, BACKWARD = torch.ops.gatewise.layer_forward.default, torch.ops.gatewise.layer_backward.default


def differentiable(inputs: LayerInputs) -> LayerInputs:
    for t in inputs.floating:
        t.requires_grad_()
    return inputs


INPUTS = ["x", "h_0", "c_0", *CELLS["lstm"].parameters]


def clean(case: Case) -> tuple[LayerInputs, tuple[Tensor, ...]]:
    """Inputs without NaN, which would be compared with NaN."""
    inputs, (dy, *others) = case.draw()
    return inputs._replace(x=inputs.x.nan_to_num(0.0)), (dy.nan_to_num(0.0), *others)


def gradients_of(inputs: LayerInputs, cell: str) -> dict[str, Tensor]:
    """Every gradient that is there by its name."""
    found = named(inputs, cell).items()
    return {f"d{name}": t.grad for name, t in found if t is not None and t.grad is not None}


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("lengths", ["none", "ragged"])
@pytest.mark.parametrize("engine", ENGINES)
def test_pytorchs_checks_of_an_operator_pass(engine: str, cell: str, lengths: str) -> None:
    """Schema, autograd registration, the fake's shapes and strides, and the pass under a compiler."""
    case = Case(cell, "float64", lengths=lengths, reverse=cell == "gru", masked=cell == "rnn_tanh")
    inputs, _ = clean(case)
    options = case.options._replace(known_shapes=True)
    arguments = (*flatten(differentiable(inputs)), *options, engine)
    torch.library.opcheck(FORWARD, arguments)


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_pytorchs_checks_of_the_backward_operator_pass(engine: str, cell: str) -> None:
    """Not its autograd registration: it has none, derivatives of gradients go another way."""
    case = Case(cell, "float64", lengths="ragged")
    inputs, upstream = clean(case)
    options = case.options._replace(known_shapes=True)
    y, last, saved, _ = ENGINES[engine].forward(inputs, options)
    dy, *dlast = upstream
    for needs_dx in (True, False):
        arguments = (dy, dlast, y, list(last), saved, needs_dx, *flatten(inputs), *options, engine)
        torch.library.opcheck(BACKWARD, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize("numbers", ["float64", "float32", "bfloat16", "bfloat16 products"])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_shapes_are_known_before_the_pass(engine: str, cell: str, save: bool, numbers: str) -> None:
    for lengths, trace, shape in itertools.product(("none", "ragged"), (False, True), ((5, 3, 7, 4), (1, 1, 1, 2))):
        case = Case(cell, numbers, shape, lengths=lengths)
        inputs, _ = case.draw()
        options = case.options._replace(save=save, trace=trace, known_shapes=True)
        with FakeTensorMode() as mode:
            foreseen = FORWARD(*flatten(each(mode.from_tensor, inputs, lengths=True)), *options, engine)
        found = FORWARD(*flatten(inputs), *options, engine)
        for a, b in zip(foreseen, found, strict=True):
            lists = (a, b) if isinstance(a, list) else ([a], [b])
            assert [(t.shape, t.dtype, t.stride()) for t in lists[0]] == [
                (t.shape, t.dtype, t.stride()) for t in lists[1]
            ], case


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("lengths", ["none", "ragged"])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_autograd_hands_on_what_the_engine_computes(engine: str, cell: str, lengths: str, again: bool) -> None:
    """And computes the same another way where the gradients are to be differentiated again."""
    case = Case(cell, "float64", lengths=lengths, masked=True)
    inputs, upstream = case.draw()
    options = case.options._replace(trace=False)
    _, expected = run(engine, inputs, options, upstream)
    leaves = differentiable(inputs)
    outputs = layer(leaves, options, engine)
    wanted = {f"d{name}": t for name, t in named(leaves, options.cell).items() if t is not None and t.requires_grad}
    found = torch.autograd.grad([outputs.y, *outputs.state], wanted.values(), upstream, create_graph=again)
    gradients = {name: t for name, t in expected.items() if name.startswith("d")}
    assert not disagreements(dict(zip(wanted, found, strict=True)), gradients, case.tolerance)
    assert all(t.requires_grad is again for t in found)


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("only", ["y", "h_n", "c_n"])
@pytest.mark.parametrize("again", [False, True])
def test_an_output_that_the_loss_does_not_read_counts_for_nothing(cell: str, only: str, again: bool) -> None:
    case = Case(cell)
    inputs, upstream = case.draw()
    k = ("y", "h_n", "c_n").index(only)
    if k >= len(upstream):
        pytest.skip("a cell without c")
    alone = tuple(d if j == k else torch.zeros_like(d) for j, d in enumerate(upstream))
    _, expected = run("reference", inputs, case.options._replace(trace=False), alone)
    leaves = differentiable(inputs)
    outputs = layer(leaves, case.options._replace(trace=False), "torch")
    (outputs.y, *outputs.state)[k].backward(upstream[k], create_graph=again)
    found = gradients_of(leaves, case.options.cell)
    assert not disagreements(found, {name: expected[name] for name in found}, case.tolerance)
    for t in leaves.floating:
        t.grad = None  # which holds its graph where there is one


@pytest.mark.parametrize("needed", INPUTS)
def test_one_input_may_need_a_gradient_alone(needed: str) -> None:
    case = Case("lstm projected")
    inputs, upstream = case.draw()
    _, expected = run("reference", inputs, case.options, upstream)
    leaf = named(inputs, "lstm")[needed]
    assert leaf is not None
    leaf.requires_grad_()
    outputs = layer(inputs, case.options, "torch")
    torch.autograd.backward([outputs.y, *outputs.state], upstream)
    found = gradients_of(inputs, "lstm")
    assert not disagreements(found, {f"d{needed}": expected[f"d{needed}"]}, case.tolerance)


@pytest.mark.parametrize("lengths", [[6, 1, 2], [-1, 2, 3], [5, 5, 99]])
@pytest.mark.parametrize("engine", ENGINES)
def test_lengths_out_of_range_are_named_in_one_line(engine: str, lengths: list[int]) -> None:
    inputs, _ = Case().draw()
    given = inputs._replace(lengths=torch.tensor(lengths))
    bad = next(n for n in lengths if not 0 <= n <= 5)
    with pytest.raises(ValueError, match=f"^lengths holds {bad}; expected 0 to 5, the number of steps of the input$"):
        layer(given, LayerOptions("lstm"), engine)


def test_an_unknown_engine_is_no_operator_argument() -> None:
    inputs, _ = Case().draw()
    with pytest.raises(ValueError, match=r"^engine 'fastest' is not available; expected one of reference, torch"):
        layer(inputs, LayerOptions("lstm"), "fastest")
