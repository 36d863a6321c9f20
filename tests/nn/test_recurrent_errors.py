"""Every error of the recurrent modules: one line with what was found, what was expected and what to do."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from gatewise.nn import LSTMState, RNNState
from tests.nn.beside import without_type_checks

nn = without_type_checks()
"""The modules without the runtime type checks of the tests, which would reject some of these first."""

NO_PROJECTION = "proj_size was given; only an LSTM supports a projection: omit it"

MADE: list[tuple[str, Callable[[], Any], str]] = [
    ("input_size", lambda: nn.LSTM(0, 4), "input_size is 0; expected an integer, 1 or more"),
    ("hidden_size", lambda: nn.GRU(3, 0), "hidden_size is 0; expected an integer, 1 or more"),
    ("hidden_size", lambda: nn.RNN(3, 4.0), "hidden_size is 4.0; expected an integer, 1 or more"),
    ("num_layers", lambda: nn.GRU(3, 4, True), "num_layers is True; expected an integer, 1 or more"),
    ("bias", lambda: nn.LSTM(3, 4, bias=1), "bias is 1; expected True or False"),
    ("batch_first", lambda: nn.GRU(3, 4, batch_first="no"), "batch_first is 'no'; expected True or False"),
    ("dropout", lambda: nn.LSTM(3, 4, 2, dropout=1.5), "dropout is 1.5; expected a probability, 0 to 1"),
    ("dropout", lambda: nn.LSTM(3, 4, 2, dropout=True), "dropout is True; expected a probability, 0 to 1"),
    ("dropout", lambda: nn.LSTM(3, 4, 2, dropout=float("nan")), "dropout is nan; expected a probability, 0 to 1"),
    ("dropout", lambda: nn.LSTM(3, 4, 2, dropout="0.5"), "dropout is '0.5'; expected a probability, 0 to 1"),
    (
        "variational_dropout",
        lambda: nn.LSTM(3, 4, variational_dropout=(0.1, -0.2)),
        "variational_dropout is -0.2; expected a probability, 0 to 1",
    ),
    (
        "variational_dropout",
        lambda: nn.LSTM(3, 4, variational_dropout=(0.1, 0.2, 0.3)),
        "variational_dropout is (0.1, 0.2, 0.3); expected a probability, or a pair (input, h')",
    ),
    (
        "forget_bias",
        lambda: nn.GRU(3, 4, forget_bias=1.0),
        "forget_bias is 1.0; expected a cell with a forget gate and biases, found gru, bias=True: omit it",
    ),
    (
        "forget_bias",
        lambda: nn.LSTM(3, 4, bias=False, forget_bias=1.0),
        "forget_bias is 1.0; expected a cell with a forget gate and biases, found lstm, bias=False: omit it",
    ),
    (
        "dtype",
        lambda: nn.LSTM(3, 4, dtype=torch.int64),
        "dtype is torch.int64; expected a floating-point dtype, such as torch.float32",
    ),
    (
        "proj_size",
        lambda: nn.LSTM(3, 4, proj_size=4),
        "proj_size is 4; expected 0 (none) or an integer smaller than hidden_size, which is 4",
    ),
    (
        "proj_size",
        lambda: nn.GRU(3, 4, proj_size=2),
        NO_PROJECTION,
    ),
    (
        "proj_size",
        lambda: nn.RNN(3, 4, proj_size=0),
        NO_PROJECTION,
    ),
    ("nonlinearity", lambda: nn.RNN(3, 4, nonlinearity="gelu"), "nonlinearity is 'gelu'; expected 'tanh' or 'relu'"),
    ("nonlinearity", lambda: nn.RNN(3, 4, 1, "gelu"), "nonlinearity is 'gelu'; expected 'tanh' or 'relu'"),
    (
        "engine",
        lambda: nn.LSTM(3, 4, engine="fast"),
        "engine 'fast' is not available: there is no such engine; expected one of auto, reference, torch, native",
    ),
    (
        "cell",
        lambda: nn.make_stack("qrnn", 3, 4),
        "cell is 'qrnn'; expected one of lstm, gru, rnn_tanh, rnn_relu",
    ),
    ("cell", lambda: nn.Recurrent("qrnn", 3, 4), "cell is 'qrnn'; expected one of lstm, gru, rnn_tanh, rnn_relu"),
]

X = torch.randn(5, 2, 3)
H = torch.randn(1, 2, 4)

CALLED: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("lstm", ([1.0],), {}, "input is a list; expected a tensor or a PackedSequence"),
    (
        "lstm",
        (X[0, 0],),
        {},
        "input has 1 dimensions, (3,); expected 3, (T, B, I), or 2 without a batch, (T, I)",
    ),
    (
        "gru",
        (torch.randn(5, 2, 4),),
        {},
        "input has 4 features per step, (5, 2, 4); expected input_size = 3 in the last dimension of (T, B, I)",
    ),
    (
        "gru",
        (torch.randn(5, 4),),
        {},
        "input has 4 features per step, (5, 4); expected input_size = 3 in the last dimension of (T, I)",
    ),
    ("gru", (X.to("meta"),), {}, "input is on meta, the parameters on cpu; move one with .to(...)"),
    ("gru", (X.double(),), {}, "input is torch.float64, the parameters torch.float32; convert one with .to(...)"),
    ("gru", (X.long(),), {}, "input is torch.int64, the parameters torch.float32; convert one with .to(...)"),
    ("lstm", (X, H), {}, "hx is a Tensor; expected (h_0, c_0), two tensors"),
    ("lstm", (X, (H,)), {}, "hx is a sequence of length 1; expected (h_0, c_0), two tensors"),
    ("lstm", (X, (H, H, H)), {}, "hx is a sequence of length 3; expected (h_0, c_0), two tensors"),
    ("lstm", (X, RNNState(H)), {}, "hx is a sequence of length 1; expected (h_0, c_0), two tensors"),
    ("gru", (X, LSTMState(H, H)), {}, "hx is a sequence of length 2; expected h_0, a tensor"),
    ("gru", (X, "state"), {}, "hx is a str; expected h_0, a tensor"),
    (
        "lstm",
        (X, (H, torch.randn(1, 3, 4))),
        {},
        "c_0 has shape (1, 3, 4); expected (1, 2, 4): (num_layers·1, batch, size)",
    ),
    ("gru", (X, H[:, 0]), {}, "h_0 has shape (1, 4); expected (1, 2, 4): (num_layers·1, batch, size)"),
    ("gru", (X[:, 0], H), {}, "h_0 has shape (1, 2, 4); expected (1, 4): (num_layers·1, size)"),
    (
        "gru",
        (X, H.double()),
        {},
        "h_0 is torch.float64 on cpu, the parameters torch.float32 on cpu; convert one with .to(...)",
    ),
    (
        "gru",
        (X, H.to("meta")),
        {},
        "h_0 is torch.float32 on meta, the parameters torch.float32 on cpu; convert one with .to(...)",
    ),
    (
        "lstm",
        (X[:, 0],),
        {"lengths": [5]},
        "lengths was given with unbatched input; slice the input instead: x[:length]",
    ),
    ("lstm", (X,), {"lengths": [5.0, 2.0]}, "lengths holds torch.float32; expected integers, one for each row"),
    ("lstm", (X,), {"lengths": [True, False]}, "lengths holds torch.bool; expected integers, one for each row"),
    ("lstm", (X,), {"lengths": [1, 2, 3]}, "lengths has shape (3,); expected (2,), one for each row of the batch"),
    ("lstm", (X,), {"lengths": 4}, "lengths has shape (); expected (2,), one for each row of the batch"),
    ("lstm", (X,), {"lengths": ["a", "b"]}, "lengths is a list; expected integers, one for each row of the batch"),
    ("lstm", (X,), {"lengths": [6, 2]}, "lengths holds 6; expected 0 to 5, the number of steps of the input"),
    ("lstm", (X,), {"lengths": [2, -1]}, "lengths holds -1; expected 0 to 5, the number of steps of the input"),
    ("lstm", (X,), {"trace": ["i", "r"]}, "trace contains 'r'; expected names from i, f, g, o, c, h"),
    ("gru", (X,), {"trace": "c"}, "trace contains 'c'; expected names from r, z, n, h"),
    ("rnn_tanh", (X,), {"trace": ["i"]}, "trace contains 'i'; expected names from h"),
    (
        "gru",
        (pack_sequence([X[:, 0], X[:2, 1]]),),
        {"lengths": [5, 2]},
        "lengths was given with a PackedSequence, which has its own lengths; omit it",
    ),
]


@pytest.mark.parametrize(("_option", "make", "text"), MADE, ids=[f"{name}-{k}" for k, (name, *_) in enumerate(MADE)])
def test_an_option_out_of_range(_option: str, make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize(("cell", "args", "kwargs", "text"), CALLED, ids=range(len(CALLED)))
def test_a_call_that_does_not_fit_leaves_the_module_as_it_was(
    cell: str, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    module = nn.make_stack(cell, 3, 4)
    before, (expected, _) = {n: p.detach().clone() for n, p in module.named_parameters()}, module(X)
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        module(*args, **kwargs)
    assert str(caught.value) == text
    assert all(torch.equal(p, before[n]) for n, p in module.named_parameters())
    assert torch.equal(module(X)[0], expected)


def test_batch_first_is_named_in_the_expected_order() -> None:
    with pytest.raises(ValueError, match=r"input_size = 3 in the last dimension of \(B, T, I\)$"):
        nn.LSTM(3, 4, batch_first=True)(torch.randn(5, 2, 4))
    with pytest.raises(ValueError, match=r"expected \(4, 5, 4\): \(num_layers·2, batch, size\)$"):
        nn.GRU(3, 4, 2, bidirectional=True, batch_first=True)(torch.randn(5, 2, 3), torch.zeros(4, 2, 4))
