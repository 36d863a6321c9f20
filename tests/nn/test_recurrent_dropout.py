"""What is added to the start and to training: the forget bias, dropout between layers, variational dropout."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gatewise.engines import ENGINES
from gatewise.nn import LSTM, Recurrent, make_stack
from gatewise.nn import recurrent as implementation
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, parts, results
from tests.tolerances import RELATIVE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forget_bias_is_added_to_the_f_block_of_bias_ih_and_nothing_else_changes(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    plain = LSTM(3, 4, 2, bidirectional=True, dtype=dtype)
    torch.manual_seed(1)
    biased = LSTM(3, 4, 2, bidirectional=True, dtype=dtype, forget_bias=1.5)
    for name, found in biased.named_parameters():
        expected = plain.get_parameter(name).detach().clone()
        if name.startswith("bias_ih"):
            expected[4:8] += 1.5
        assert torch.equal(found, expected), name


def test_new_parameters_have_the_forget_bias_too() -> None:
    lstm = LSTM(3, 4, forget_bias=2.0)
    with torch.no_grad():
        lstm.bias_ih_l0.zero_()
    lstm.reset_parameters()
    assert (lstm.bias_ih_l0[4:8] >= 1.5).all()
    assert (lstm.bias_ih_l0[:4].abs() <= 0.5).all()


def masked_by_hand(module: Recurrent, x: Tensor, masks: list[Tensor]) -> Tensor:
    """Run a one-directional stack step by step in PyTorch's cells with given masks: of each layer x, then h'."""
    kinds: dict[str, Any] = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}
    for layer in range(module.num_layers):
        in_mask, h_mask = masks[2 * layer], masks[2 * layer + 1]
        x = x * in_mask
        weights = {n: getattr(module, f"{n}_l{layer}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        cell = kinds.get(module.spec.cell, torch.nn.RNNCell)(x.shape[-1], module.hidden_size)
        if isinstance(cell, torch.nn.RNNCell):
            cell.nonlinearity = module.nonlinearity
        cell.load_state_dict(weights)
        h = c = x.new_zeros(x.shape[1], module.hidden_size)
        outputs = []
        for step in x:
            if module.spec.cell == "lstm":
                h, c = cell(step, (h * h_mask, c))
            elif module.spec.cell == "gru":  # the mask is on the recurrent product alone, not on z·h'
                a, u = cell.weight_ih @ step.T + cell.bias_ih[:, None], cell.weight_hh @ (h * h_mask).T
                (a_r, a_z, a_n), (u_r, u_z, u_n) = a.chunk(3), (u + cell.bias_hh[:, None]).chunk(3)
                r, z = (a_r + u_r).sigmoid(), (a_z + u_z).sigmoid()
                h = ((1 - z) * (a_n + r * u_n).tanh() + z * h.T).T
            else:
                h = cell(step, h * h_mask)
            outputs.append(h)
        x = torch.stack(outputs)
    return x


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pair", [0.5, (0.5, 0.0), (0.0, 0.5), (0.3, 0.6)])
@torch.no_grad()
def test_variational_masks_are_the_same_at_every_step(cell: str, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks that were drawn, put into a loop by hand, give the same outputs."""
    drawn: list[Tensor] = []
    genuine = implementation.dropout_mask

    def spy(like: Tensor, p: float) -> Tensor:
        drawn.append(genuine(like, p))
        return drawn[-1]

    monkeypatch.setattr(implementation, "dropout_mask", spy)
    torch.manual_seed(3)
    module = make_stack(cell, 5, 6, 2, variational_dropout=pair)
    x = torch.randn(7, 3, 5)
    y, _ = module(x)
    p_in, p_h = pair if isinstance(pair, tuple) else (pair, pair)
    shapes = [(1, 3, 5), (3, 6), (1, 3, 6), (3, 6)]
    expected_shapes = [s for s, p in zip(shapes, (p_in, p_h, p_in, p_h), strict=True) if p]
    assert [tuple(m.shape) for m in drawn] == expected_shapes
    masks = iter(drawn)
    everywhere = [next(masks) if p else torch.ones(s) for s, p in zip(shapes, (p_in, p_h, p_in, p_h), strict=True)]
    assert_same({"y": y}, {"y": masked_by_hand(module, x, everywhere)}, RELATIVE[torch.float32])
    for mask, p in zip(drawn, [p for p in (p_in, p_h) * 2 if p], strict=True):
        kept = mask[mask != 0]
        assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p)))


@pytest.mark.parametrize("cell", CELLS)
def test_equal_seeds_give_equal_masks_on_every_engine(cell: str) -> None:
    options: dict[str, Any] = {"bidirectional": True, "dropout": 0.3, "variational_dropout": (0.2, 0.4)}
    modules = [make_stack(cell, 3, 4, 2, engine=name, dtype=torch.float64, **options) for name in ENGINES]
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    for module in modules:
        module.load_state_dict(modules[0].state_dict())
    expected = results(modules[0], x, lengths=[5, 2, 0])
    for module in modules[1:]:
        assert_same(results(module, x, lengths=[5, 2, 0]), expected, RELATIVE[torch.float64])
    other = results(modules[1], x, lengths=[5, 2, 0], seed=6)
    assert not torch.equal(other["y"], expected["y"])


@pytest.mark.parametrize("cell", CELLS)
def test_in_eval_mode_nothing_is_dropped(cell: str) -> None:
    dropping = make_stack(cell, 3, 4, 2, dropout=0.5, variational_dropout=0.5).eval()
    plain = make_stack(cell, 3, 4, 2)
    plain.load_state_dict(dropping.state_dict())
    x = torch.randn(5, 2, 3)
    state = torch.random.get_rng_state()
    y, _ = dropping(x)
    assert torch.equal(torch.random.get_rng_state(), state)  # no number was drawn
    assert torch.equal(y, plain(x)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_dropping_nothing_and_dropping_all(cell: str) -> None:
    x = torch.randn(5, 2, 3)
    plain = make_stack(cell, 3, 4, 2)
    nothing = make_stack(cell, 3, 4, 2, dropout=0.0, variational_dropout=(0.0, 0.0))
    everything = make_stack(cell, 3, 4, 2, variational_dropout=1.0)
    inputs = make_stack(cell, 3, 4, 2, variational_dropout=(1.0, 0.0))
    for module in (nothing, everything, inputs):
        module.load_state_dict(plain.state_dict())
    assert torch.equal(nothing(x)[0], plain(x)[0])
    zeros = torch.zeros(1, 2, 3)
    y, _ = everything(x)
    assert torch.isfinite(y).all()
    if cell != "gru":  # without input or h' in the product each step of a cell but c (and z·h') is the same
        assert cell == "lstm" or torch.equal(y[1], y[2])
    assert torch.equal(everything(torch.randn(5, 2, 3))[0], y)
    assert_same({"y": inputs(x)[0][:1]}, {"y": inputs(zeros)[0]}, RELATIVE[torch.float32])
    found = results(everything, x)
    assert not found["dx"].any()
    assert not found["dweight_hh_l0"].any()
    assert found["dbias_ih_l0"].any()


def test_as_many_units_are_dropped_as_the_probability_says() -> None:
    """h of a RNN whose input is 1 and whose weights are the identity is the mask."""
    rnn = make_stack("rnn_relu", 2000, 2000, bias=False, variational_dropout=(0.3, 0.0))
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(torch.eye(2000))
        rnn.weight_hh_l0.zero_()
    torch.manual_seed(0)
    y, _ = rnn(torch.ones(2, 5, 2000))
    assert torch.equal(y[0], y[1])
    assert not torch.equal(y[0, 0], y[0, 1])  # each row its own
    share = float((y == 0).float().mean())
    assert share == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 10_000) ** 0.5)
    assert float(y.detach().mean()) == pytest.approx(1, abs=0.05)


def test_dropout_between_layers_is_drawn_anew_at_each_step_and_never_on_the_output() -> None:
    rnn = make_stack("rnn_relu", 4, 500, 2, bias=False, dropout=0.5)
    with torch.no_grad():
        rnn.weight_ih_l0.fill_(1)
        rnn.weight_ih_l1.copy_(torch.eye(500))
        rnn.weight_hh_l0.zero_()
        rnn.weight_hh_l1.zero_()
    y, state = rnn(torch.ones(3, 2, 4))
    assert set(y.detach().unique().tolist()) == {0.0, 8.0}
    assert not torch.equal(y[0], y[1])
    assert torch.equal(parts(state)[0][0], torch.full((2, 500), 4.0))  # the state that goes on is whole
