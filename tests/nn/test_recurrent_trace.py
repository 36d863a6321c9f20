"""The trace: every gate and state of every step, against loops over PyTorch's cells."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from gatewise.engines import ENGINES, why_not
from gatewise.nn import LSTM, Recurrent, make_stack
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, drawn_state, parts
from tests.tolerances import RELATIVE

LENGTHS = [4, 6, 0]
TIGHT = RELATIVE[torch.float64]


def cell_loop(module: Recurrent, x: Tensor, state: Any, lengths: list[int]) -> dict[str, Tensor]:
    """Trace each row alone with ``nn.LSTMCell``, ``nn.GRUCell`` or ``nn.RNNCell``; gates by their definition."""
    (T, B), H, D = x.shape[:2], module.hidden_size, module.spec.num_directions
    traced = {name: x.new_zeros(module.num_layers, D, T, B, H) for name in CELLS[module.spec.cell].traced}
    kinds = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}
    below = x
    for k, (depth, reverse, suffix) in enumerate(module.spec.passes()):
        if not reverse:
            below = torch.cat(list(traced["h"][depth - 1]), -1) if depth else x
        cell = kinds.get(module.spec.cell, nn.RNNCell)(below.shape[-1], H, dtype=x.dtype)
        if isinstance(cell, nn.RNNCell):
            cell.nonlinearity = module.nonlinearity
        cell.load_state_dict({name: getattr(module, f"{name}_{suffix}") for name in cell.state_dict()})
        for b, n in enumerate(lengths):
            before = tuple(part[k, b] for part in parts(state))
            for t in reversed(range(n)) if reverse else range(n):
                step, place = below[t, b], (depth, int(reverse), t, b)
                a, u = cell.weight_ih @ step + cell.bias_ih, cell.weight_hh @ before[0] + cell.bias_hh
                gates = (a + u).chunk(len(CELLS[module.spec.cell].gates))
                if module.spec.cell == "lstm":
                    found = dict(zip("ifo", (gates[j].sigmoid() for j in (0, 1, 3)), strict=True))
                    found["g"] = gates[2].tanh()
                    before = cell(step, before)
                    found["c"] = before[1]
                else:
                    found = {}
                    if module.spec.cell == "gru":
                        r, z = gates[0].sigmoid(), gates[1].sigmoid()
                        found = {"r": r, "z": z, "n": (a[2 * H :] + r * u[2 * H :]).tanh()}
                    before = (cell(step, before[0]),)
                for name, value in {**found, "h": before[0]}.items():
                    traced[name][place] = value
    return traced


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@torch.no_grad()
def test_every_name_is_what_a_loop_over_pytorchs_cell_gives(
    cell: str, bidirectional: bool, num_layers: int, lengths: list[int] | None
) -> None:
    torch.manual_seed(2)
    module = make_stack(cell, 3, 4, num_layers, bidirectional=bidirectional, dtype=torch.float64)
    x, state = torch.randn(6, 3, 3, dtype=torch.float64), drawn_state(module, 3)
    plain, _ = module(x, state, lengths=lengths)
    y, after, traced = module(x, state, lengths=lengths, trace=CELLS[cell].traced)
    assert_same(dict(traced), cell_loop(module, x, state, lengths or [6, 6, 6]), TIGHT)
    assert torch.equal(y, plain)
    assert torch.equal(torch.cat(list(traced["h"][-1]), -1), y)
    assert {t.shape for t in traced.values()} == {(num_layers, 1 + bidirectional, 6, 3, 4)}
    for b, n in enumerate(lengths or ()):
        assert not any(t[:, :, n:, b].any() for t in traced.values())
        if n and cell == "lstm":
            assert torch.equal(traced["c"][:, 0, n - 1, b], after.c.view(num_layers, -1, 3, 4)[:, 0, b])
            if bidirectional:
                assert torch.equal(traced["c"][:, 1, 0, b], after.c.view(num_layers, 2, 3, 4)[:, 1, b])


@pytest.mark.parametrize("cell", CELLS)
def test_names_come_in_the_order_asked_for_and_nothing_is_differentiated(cell: str) -> None:
    module, x = make_stack(cell, 3, 4, 2, bidirectional=True), torch.randn(5, 2, 3, requires_grad=True)
    for names in (CELLS[cell].traced, CELLS[cell].traced[::-1], CELLS[cell].traced[:1], ["h"], "h"):
        y, _, traced = module(x, trace=names)
        assert list(traced) == list(names)
        assert not any(t.requires_grad for t in traced.values())
    y.sum().backward()
    assert x.grad is not None
    assert len(module(x, trace=())) == len(module(x)) == 2


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("engine", [name for name in ENGINES if why_not(name) is None])
def test_a_trace_shares_no_memory_with_the_outputs(cell: str, engine: str) -> None:
    """Whoever scribbles over what was traced must not change what backward reads."""
    module, x = make_stack(cell, 3, 4, dtype=torch.float64, engine=engine), torch.randn(5, 2, 3, dtype=torch.float64)
    module(x)[0].sum().backward()
    expected = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    y, _, traced = module(x, trace=CELLS[cell].traced)
    kept = y.detach().clone()
    for t in traced.values():
        t.fill_(torch.nan)
    assert torch.equal(y, kept)
    y.sum().backward()
    assert_same({name: p.grad for name, p in module.named_parameters()}, expected, TIGHT)


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_time_comes_before_the_batch_whatever_the_input(cell: str) -> None:
    module, x = make_stack(cell, 3, 4, 2, bidirectional=True), torch.randn(5, 3, 3)
    _, _, expected = module(x, trace=CELLS[cell].traced)
    first = make_stack(cell, 3, 4, 2, bidirectional=True, batch_first=True)
    first.load_state_dict(module.state_dict())
    _, _, found = first(x.transpose(0, 1), trace=CELLS[cell].traced)
    assert_same(dict(found), dict(expected), RELATIVE[torch.float32])
    _, _, alone = module(x[:, 1], trace=CELLS[cell].traced)
    assert_same(dict(alone), {n: t[:, :, :, 1:2] for n, t in expected.items()}, RELATIVE[torch.float32])


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_a_packed_sequence_is_traced_in_the_order_of_the_batch(cell: str) -> None:
    module, x = make_stack(cell, 3, 4, 2, bidirectional=True), torch.randn(5, 3, 3)
    lengths = [2, 5, 3]
    _, _, expected = module(x, lengths=lengths, trace=CELLS[cell].traced)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    _, _, found = module(packed, trace=CELLS[cell].traced)
    assert_same(dict(found), dict(expected), RELATIVE[torch.float32])


@torch.no_grad()
def test_of_a_projected_lstm_h_is_projected_and_the_gates_are_not() -> None:
    module, x = LSTM(3, 4, 2, proj_size=2, bidirectional=True), torch.randn(5, 3, 3)
    y, after, traced = module(x, trace=CELLS["lstm"].traced)
    assert traced["h"].shape == (2, 2, 5, 3, 2)
    assert {traced[name].shape for name in "ifgoc"} == {(2, 2, 5, 3, 4)}
    s = traced["o"] * traced["c"].tanh()
    for k, (depth, reverse, suffix) in enumerate(module.spec.passes()):
        h = s[depth, int(reverse)] @ getattr(module, f"weight_hr_{suffix}").T
        assert_same({"h": traced["h"][depth, int(reverse)]}, {"h": h}, RELATIVE[torch.float32])
        assert torch.equal(after.h[k], traced["h"][depth, int(reverse), 0 if reverse else -1])
    assert torch.equal(torch.cat(list(traced["h"][-1]), -1), y)
