"""Modules made from PyTorch's, and PyTorch's from ours."""

from typing import Any

import pytest
import torch
from torch import nn

from gatewise.nn import GRU, LSTM, RNN, Recurrent, make_stack
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, drawn_state, parts, pytorchs
from tests.tolerances import RELATIVE

OURS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU, "rnn_tanh": RNN, "rnn_relu": RNN}
T, B, I, H = 6, 3, 5, 4
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "dropout": 0.3, "bidirectional": True, "batch_first": True},
    {"bias": False, "dtype": torch.float64},
]


@torch.no_grad()
def assert_twins(made: nn.Module, given: nn.Module) -> None:
    """The same results and options, and weights that are equal and shared by neither."""
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
    assert [getattr(made, name) for name in names] == [getattr(given, name) for name in names]
    assert made.training == given.training
    own, theirs = dict(made.named_parameters()), dict(given.named_parameters())
    assert list(own) == list(theirs)
    for name, parameter in theirs.items():
        assert torch.equal(own[name], parameter)
        assert own[name].dtype == parameter.dtype
        assert own[name].requires_grad == parameter.requires_grad
        assert own[name].data_ptr() != parameter.data_ptr()
    like = given.get_parameter("weight_ih_l0")
    x, state = torch.randn(T, T, I, dtype=like.dtype), drawn_state(given, T)
    made, given = made.eval(), given.eval()
    found, expected = ({"y": y, "h_n": parts(after)[0]} for y, after in (made(x, state), given(x, state)))
    assert_same(found, expected, RELATIVE[like.dtype])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "options", "float64"])
@pytest.mark.parametrize("training", [False, True])
def test_there_and_back(cell: str, options: dict[str, Any], training: bool) -> None:
    torch.manual_seed(1)
    peer = pytorchs(cell, I, H, **options).train(training)
    peer.get_parameter("weight_hh_l0").requires_grad_(False)
    module = OURS[cell].from_torch(peer, engine="torch")
    assert module.engine == "torch"
    assert_twins(module, peer)
    module.train(training)
    back = module.to_torch()
    assert type(back) is type(peer)
    assert back.mode == peer.mode
    assert_twins(back, module)


def test_projection() -> None:
    peer = nn.LSTM(I, H, proj_size=2)
    module = LSTM.from_torch(peer)
    assert_twins(module, peer)
    assert_twins(module.to_torch(), module)


def test_another_kind() -> None:
    with pytest.raises(ValueError, match=r"^module is a LSTM; expected a torch.nn.GRU$"):
        GRU.from_torch(nn.LSTM(I, H))
    with pytest.raises(ValueError, match=r"^module is a LSTM; expected from_torch of LSTM, GRU, RNN$"):
        Recurrent.from_torch(nn.LSTM(I, H))


def test_variational_dropout_has_no_peer() -> None:
    with pytest.raises(ValueError, match=r"^variational_dropout is 0.5; torch.nn.LSTM has none: set it to 0.0$"):
        make_stack("lstm", I, H, variational_dropout=0.5).to_torch()
