"""The recurrent stacks: the reduced-precision pass against PyTorch's, and the cell state it must not round."""

from typing import Any

import pytest
import torch

from gatewise.engines.torch import cells as torch_cells
from gatewise.nn import make_stack
from gatewise.nn.recurrent import LSTM
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, parts, results
from tests.tolerances import RELATIVE, differ


def run(lstm: torch.nn.Module, x: torch.Tensor, state: tuple[torch.Tensor, ...], autocast: torch.dtype | None) -> dict:
    x, state = x.clone().requires_grad_(), tuple(part.clone().requires_grad_() for part in state)
    with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        y, (h_n, c_n) = lstm(x, state)
    # Upstream gradients into y, h_n and c_n, each its own.
    weights = [torch.linspace(-1, 1, t.numel()).view(t.shape) for t in (y, h_n, c_n)]
    sum((t.float() * w).sum() for t, w in zip((y, h_n, c_n), weights, strict=True)).backward()
    results = {"y": y, "h_n": h_n, "c_n": c_n, "dx": x.grad, "dh_0": state[0].grad, "dc_0": state[1].grad}
    results |= {f"d{name}": p.grad.clone() for name, p in lstm.named_parameters()}
    lstm.zero_grad()
    return {name: tensor.detach() for name, tensor in results.items()}


@pytest.mark.parametrize(("T", "B", "I", "H", "L"), [(1, 1, 1, 1, 1), (5, 3, 4, 63, 2), (12, 2, 7, 5, 3)])
def test_the_16_bit_pass_computes_the_same_lstm(T: int, B: int, I: int, H: int, L: int) -> None:
    torch.manual_seed(T)
    lstm = LSTM(I, H, L)
    x, state = torch.randn(T, B, I), (torch.randn(L, B, H), torch.randn(L, B, H))
    full, reduced = run(lstm, x, state, None), run(lstm, x, state, torch.bfloat16)
    for name, tensor in full.items():
        assert differ(reduced[name], tensor) < RELATIVE[torch.bfloat16], name


def test_the_16_bit_pass_keeps_the_cell_state_in_fp32() -> None:
    """With the forget gate open and the input gate shut, c must come through exactly."""
    lstm = LSTM(1, 1, 1)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.zero_()
        lstm.bias_ih_l0.copy_(torch.tensor([-200.0, 200.0, 0.0, 0.0]))
    c = torch.tensor([[[1.000123]]])  # bf16 would make 1.0 of it
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, (_, c_n) = lstm(torch.zeros(20, 1, 1), (torch.zeros(1, 1, 1), c))
    assert c_n.dtype == torch.float32
    assert torch.equal(c_n, c)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", [None, [7, 0, 3]])
def test_autocast_multiplies_in_bf16_and_keeps_states_and_gradients_in_fp32(
    cell: str, lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    stack = make_stack(cell, 5, 6, 2, bidirectional=True, engine="torch")
    with torch.no_grad():  # far from the kink of relu, which a rounding must not cross
        for name, parameter in stack.named_parameters():
            if cell == "rnn_relu" and name.startswith("bias_ih"):
                parameter.copy_(torch.where(torch.arange(6) % 2 == 0, 3.0, -3.0))
    x = torch.randn(7, 3, 5)
    full = results(stack, x, lengths=lengths)
    seen = []
    for name in ("set_product", "add_product"):
        genuine = getattr(torch_cells, name)

        def spy(into: torch.Tensor, a: torch.Tensor, b: torch.Tensor, genuine: Any = genuine) -> torch.Tensor:
            seen.append((into.dtype, b.dtype))
            return genuine(into, a, b)

        monkeypatch.setattr(torch_cells, name, spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = results(stack, x, lengths=lengths)
    assert set(seen) == {(torch.float32, torch.bfloat16)}
    assert not torch.equal(reduced["y"], full["y"])
    assert_same(reduced, full, RELATIVE[torch.bfloat16])  # dtypes too: all is float32


@pytest.mark.parametrize("cell", CELLS)
def test_under_autocast_an_input_of_16_bits_is_taken_and_the_state_stays_fp32(cell: str) -> None:
    stack, x = make_stack(cell, 3, 4), torch.randn(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = stack(x.bfloat16())
        full, _ = stack(x)
    assert y.dtype == parts(state)[0].dtype == torch.float32
    assert differ(y, full) < RELATIVE[torch.bfloat16]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False), pytest.raises(ValueError, match=r"torch.bfloat16"):
        stack(x.bfloat16())


def test_dropout_between_layers_draws_the_same_masks_in_both_passes() -> None:
    lstm = LSTM(3, 4, 2, dropout=0.5)
    x, state = torch.randn(6, 2, 3), (torch.zeros(2, 2, 4), torch.zeros(2, 2, 4))
    torch.manual_seed(5)
    full = run(lstm, x, state, None)
    torch.manual_seed(5)
    assert differ(run(lstm, x, state, torch.bfloat16)["y"], full["y"]) < RELATIVE[torch.bfloat16]


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_has_pytorchs_parameters_and_a_state_in_a_tuple(cell: str) -> None:
    stack = make_stack(cell, 3, 4, 2)
    peer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(cell, torch.nn.RNN)(3, 4, 2)
    assert {n: p.shape for n, p in stack.named_parameters()} == {n: p.shape for n, p in peer.named_parameters()}
    parts = 2 if cell == "lstm" else 1
    y, state = stack(torch.randn(5, 2, 3), tuple(torch.zeros(2, 2, 4) for _ in range(parts)))
    assert y.shape == (5, 2, 4)
    assert isinstance(state, tuple)
    assert torch.equal(state[0][-1], y[-1])
