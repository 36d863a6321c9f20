"""A user-defined cell: an entry of the table, a pair of functions and a step are all it needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from gatewise.engines import ENGINES
from gatewise.engines.contract import LayerInputs, LayerOptions
from gatewise.engines.layer_operator import flatten
from gatewise.engines.steps import STEPS, Product
from gatewise.nn.state import KINDS, state_kind
from gatewise.reference import stack
from gatewise.reference.cell import Array, input_gradients, outer, sigmoid
from gatewise.spec import CELLS, CellSpec, RecurrentSpec
from tests.engines.cases import disagreements, run
from tests.nn.beside import without_type_checks

NAME = "keeper"
SPEC = CellSpec(
    gates=("k", "n"),
    states=("h", "m"),
    parameters={
        "weight_ih": ("G", "I"),
        "weight_hh": ("G", "P"),
        "bias_ih": ("G",),
        "bias_hh": ("G",),
        "weight_mk": ("H",),
    },
    traced=("k", "n", "m", "h"),
)
"""``k = σ(a_k + w_mk·m')``, ``n = tanh(a_n)``, ``m = k·m' + (1 − k)·n``, ``h = tanh(m)``; a is W_ih x + W_hh h' + b."""


class Weights(NamedTuple):
    w_ih: Array
    w_hh: Array
    b_ih: Array
    b_hh: Array
    w_mk: Array


class Tape(NamedTuple):
    x: Array
    h_before: Array
    m_before: Array
    k: Array
    n: Array
    m: Array


def forward(x: Array, h_0: Array, m_0: Array, weights: Weights, h_mask: Array | float = 1.0) -> tuple[Any, ...]:
    (T, B), H = x.shape[:2], h_0.shape[1]
    h_before, m_before, k, n, m, y = np.empty((6, T, B, H), h_0.dtype)
    h, c = h_0, m_0
    for t in range(T):
        h_before[t], m_before[t] = h, c
        a = x[t] @ weights.w_ih.T + weights.b_ih + (h_mask * h) @ weights.w_hh.T + weights.b_hh
        k[t], n[t] = sigmoid(a[:, :H] + weights.w_mk * c), np.tanh(a[:, H:])
        m[t] = c = k[t] * c + (1 - k[t]) * n[t]
        y[t] = h = np.tanh(c)
    return y, h, c, Tape(x, h_before, m_before, k, n, m)


def backward(
    dy: Array, dh_n: Array, dm_n: Array, tape: Tape, weights: Weights, h_mask: Array | float = 1.0
) -> tuple[Any, ...]:
    x, h_before, m_before, k, n, m = tape
    T, H = len(k), k.shape[-1]
    da, dw_mk = np.empty((*k.shape[:2], 2 * H), k.dtype), np.zeros_like(weights.w_mk)
    dh, dm = dh_n, dm_n
    for t in reversed(range(T)):
        dm = dm + (dh + dy[t]) * (1 - np.tanh(m[t]) ** 2)
        da[t, :, :H] = dm * (m_before[t] - n[t]) * k[t] * (1 - k[t])
        da[t, :, H:] = dm * (1 - k[t]) * (1 - n[t] ** 2)
        dw_mk += (da[t, :, :H] * m_before[t]).sum(0)
        dm = dm * k[t] + da[t, :, :H] * weights.w_mk
        dh = h_mask * (da[t] @ weights.w_hh)
    dx, dw_ih = input_gradients(da, x, weights.w_ih)
    db = da.sum((0, 1))
    return dx, dh, dm, Weights(dw_ih, outer(da, h_mask * h_before), db, db, dw_mk)


def step(
    a: Tensor, u: Tensor, state: Sequence[Tensor], params: dict[str, Tensor | None], product: Product
) -> tuple[Sequence[Tensor], list[Tensor]]:
    (a_k, a_n), w_mk = (a + u).chunk(2, 1), params["weight_mk"]
    assert w_mk is not None
    k, n = (a_k + w_mk * state[1]).sigmoid(), a_n.tanh()
    m = k * state[1] + (1 - k) * n
    return (m.tanh(), m), [k, n]


@pytest.fixture(autouse=True)
def _the_cell_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, NAME, SPEC)
    monkeypatch.setitem(stack.CELLS, NAME, stack.Cell(forward, backward, Weights))
    monkeypatch.setitem(STEPS, NAME, step)
    monkeypatch.setattr("gatewise.nn.state.KINDS", dict(KINDS))


def draw(lengths: bool = True) -> tuple[LayerInputs, list[Tensor]]:
    torch.manual_seed(3)
    T, B, I, H = 5, 4, 3, 6
    params = tuple(torch.randn(shape).double() / 2 for shape in SPEC.shapes(I, H, H).values())
    state = (torch.randn(B, H).double(), torch.randn(B, H).double())
    mask = (torch.rand(B, H) < 0.7).double() * 1.4
    x, own = torch.randn(T, B, I).double(), torch.tensor([5, 0, 2, 5]) if lengths else None
    return LayerInputs(x, state, params, mask, own), [torch.randn(*s).double() for s in ((T, B, H), (B, H), (B, H))]


def test_its_derivatives_are_those_of_central_differences() -> None:
    inputs, upstream = draw(lengths=False)
    options = LayerOptions(NAME, save=True)
    _, found = run("reference", inputs, options, upstream)

    def cost(changed: LayerInputs) -> float:
        y, last, *_ = ENGINES["reference"].forward(changed, options)
        return float(sum((o * d).sum() for o, d in zip((y, *last), upstream, strict=True)))

    names = ("x", "h_0", "m_0", *SPEC.parameters)
    for name, t in zip(names, inputs.floating, strict=True):
        for place in range(0, t.numel(), 7):
            flat, eps = t.view(-1), 1e-6
            kept = float(flat[place])
            flat[place] = kept + eps
            above = cost(inputs)
            flat[place] = kept - eps
            below = cost(inputs)
            flat[place] = kept
            assert float(found[f"d{name}"].flatten()[place]) == pytest.approx((above - below) / (2 * eps), abs=1e-7), (
                name
            )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_the_torch_engine_computes_the_references_numbers(reverse: bool, lengths: bool) -> None:
    inputs, upstream = draw(lengths)
    options = LayerOptions(NAME, reverse, save=True, trace=True)
    (_, expected), (_, found) = (run(engine, inputs, options, upstream) for engine in ("reference", "torch"))
    assert {"trace 0", "trace 1", "dm_0", "dweight_mk"} <= expected.keys()
    assert not disagreements(found, expected, 1e-12)


def module(**options: Any) -> Any:
    torch.manual_seed(4)
    return without_type_checks().make_stack(NAME, 3, 6, 2, bidirectional=True, dtype=torch.float64, **options)


def test_the_native_engine_says_that_it_has_no_such_cell_and_auto_leaves_it_to_torch() -> None:
    if "native" not in ENGINES:
        pytest.skip("the native engine was not built")
    with pytest.raises(ValueError, match="engine 'native' cannot run this: cell keeper is not supported"):
        module(engine="native")
    x, lengths = torch.randn(5, 4, 3).double(), torch.tensor([5, 0, 2, 5])
    y, state = module()(x, lengths=lengths)
    expected, _ = module(engine="reference")(x, lengths=lengths)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    assert list(state._asdict()) == ["h", "m"]


def test_its_module_has_names_a_trace_and_a_state_that_is_carried_and_saved(tmp_path: Path) -> None:
    own = module(engine="torch")
    assert list(own.state_dict()) == list(RecurrentSpec(NAME, 3, 6, 2, bidirectional=True).parameters())
    x = torch.randn(6, 2, 3).double()
    whole, last, trace = own(x, trace=SPEC.traced)
    assert {name: t.shape for name, t in trace.items()} == dict.fromkeys(SPEC.traced, (2, 2, 6, 2, 6))
    one_way = without_type_checks().make_stack(NAME, 3, 6, dtype=torch.float64, engine="torch")
    whole, last = one_way(x)
    first, state = one_way(x[:2])
    state.save(tmp_path / "state")
    rest, after = one_way(x[2:], type(state).load(tmp_path / "state"))
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    for a, b in zip(after, last, strict=True):
        torch.testing.assert_close(a, b)
    assert state_kind(SPEC)._fields == ("h", "m")
    with pytest.raises(ValueError, match=r"hx is a Tensor; expected \(h_0, m_0\)"):
        one_way(x, x)


@pytest.mark.parametrize("engine", ["torch", "reference"])
def test_gradients_and_their_derivatives_pass_pytorchs_check(engine: str) -> None:
    own = module(engine=engine)
    x = torch.randn(3, 2, 3).double().requires_grad_()
    lengths = torch.tensor([3, 1])
    assert torch.autograd.gradcheck(lambda x, w: own(x, lengths=lengths)[0], (x, own.weight_mk_l0), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: own(x, lengths=lengths)[0], (x,), fast_mode=True)


def test_a_compiled_graph_and_the_operator_run_it() -> None:
    own, x = module(engine="torch"), torch.randn(4, 2, 3).double()
    torch._dynamo.reset()
    compiled = torch.compile(own, backend="aot_eager", fullgraph=True)
    expected, found = [], []
    for call, into in ((own, expected), (compiled, found)):
        own.zero_grad()
        y, _ = call(x)
        y.sum().backward()
        into += [y.detach(), *(p.grad.clone() for p in own.parameters())]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    arguments = (*flatten(draw()[0]), *LayerOptions(NAME, save=True, known_shapes=True), "torch")
    torch.library.opcheck(torch.ops.gatewise.layer_forward.default, arguments)


def test_a_transform_maps_it() -> None:
    own, x = module(engine="torch"), torch.randn(3, 4, 2, 3).double()
    torch.testing.assert_close(torch.vmap(lambda x: own(x)[0])(x), torch.stack([own(one)[0] for one in x]))
