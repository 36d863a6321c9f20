"""LSTM, GRU and RNN are PyTorch's: outputs, states, every gradient, parameters, in configurations drawn at random."""

import copy
import io
import pickle
import warnings
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from gatewise.nn import GRU, LSTM, RNN, LSTMState, Recurrent, RNNState, make_stack
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, both, drawn_state, parts, pytorchs, results
from tests.tolerances import RELATIVE

FORMS = ("batch", "no batch", "packed sorted", "packed unsorted")


class Configuration(NamedTuple):
    """A module and a call of it."""

    cell: str
    input_size: int
    hidden_size: int
    options: dict[str, Any]
    T: int
    B: int
    form: str
    lengths: list[int]
    with_state: bool
    strided: bool
    dtype: torch.dtype
    seed: int


@st.composite
def configurations(draw: st.DrawFn, dropout: bool = False) -> Configuration:
    cell = draw(st.sampled_from(list(CELLS)))
    H, T, B = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    options: dict[str, Any] = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if cell == "lstm" and H > 1 and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, H - 1))
    if dropout:
        options |= {"num_layers": draw(st.integers(2, 3)), "dropout": draw(st.sampled_from([0.2, 0.5, 1.0]))}
    # PyTorch draws the masks of a PackedSequence over its packed numbers, ours over the padded ones.
    form = draw(st.sampled_from(FORMS[:2] if dropout else FORMS))
    return Configuration(
        cell,
        draw(st.integers(1, 5)),
        H,
        options,
        T,
        B,
        form,
        draw(st.lists(st.integers(1, T), min_size=B, max_size=B)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([torch.float32, torch.float64])),
        draw(st.integers(0, 9)),
    )


def call(c: Configuration, module: nn.Module) -> tuple[Any, Any]:
    """The input and the state of a configuration's call."""
    generator = torch.Generator().manual_seed(c.seed)
    first = c.options["batch_first"]
    shape = (c.T, c.input_size) if c.form == "no batch" else (c.B, c.T) if first else (c.T, c.B)
    x = torch.randn(*shape[:2], *(() if c.form == "no batch" else (c.input_size,)), generator=generator).to(c.dtype)
    if c.strided:
        x = torch.stack([x, x], -1)[..., 0]
    state = drawn_state(module, *(() if c.form == "no batch" else (c.B,))) if c.with_state else None
    if c.form.startswith("packed"):
        lengths = sorted(c.lengths, reverse=True) if c.form == "packed sorted" else c.lengths
        x = pack_padded_sequence(x, torch.tensor(lengths), first, enforce_sorted=c.form == "packed sorted")
    return x, state


def check(c: Configuration, training: bool) -> None:
    ours, theirs = both(c.cell, c.input_size, c.hidden_size, **c.options, dtype=c.dtype, seed=c.seed)
    ours.train(training), theirs.train(training)
    x, state = call(c, theirs)
    assert_same(results(ours, x, state), results(theirs, x, state), RELATIVE[c.dtype])
    with torch.no_grad():
        (y, after), (y_theirs, after_theirs) = ours(x, state), theirs(x, state)
    assert type(y) is type(y_theirs)
    if isinstance(y, PackedSequence):
        assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(y[1:], y_theirs[1:], strict=True))
    assert [p.shape for p in parts(after)] == [p.shape for p in parts(after_theirs)]
    assert isinstance(after, LSTMState if c.cell == "lstm" else Tensor)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(configurations(), st.booleans())
def test_outputs_states_and_gradients(c: Configuration, training: bool) -> None:
    check(c, training)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(configurations(dropout=True))
def test_dropout_between_layers_under_equal_masks(c: Configuration) -> None:
    """Ours are drawn in another way; drawn in PyTorch's, from equal seeds, all is equal."""
    with mock.patch("gatewise.nn.recurrent.dropout", torch.nn.functional.dropout):
        check(c, training=True)


@pytest.mark.filterwarnings("ignore:dropout")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(configurations())
def test_parameters_move_both_ways_and_start_equal(c: Configuration) -> None:
    ours, theirs = both(c.cell, c.input_size, c.hidden_size, **c.options, dtype=c.dtype, seed=c.seed)
    mine, other = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(other)
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert [[p.shape for p in group] for group in ours.all_weights] == [
        [p.shape for p in group] for group in theirs.all_weights
    ]
    again, theirs_again = both(c.cell, c.input_size, c.hidden_size, **c.options, dtype=c.dtype, seed=c.seed + 1)
    assert not torch.equal(again.weight_ih_l0, mine["weight_ih_l0"])
    assert again.load_state_dict(other).missing_keys == theirs_again.load_state_dict(mine).missing_keys == []
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), theirs_again.parameters(), strict=True))
    assert repr(ours) == repr(theirs)
    assert ours.mode == theirs.mode


def saved_and_loaded(module: Recurrent) -> Recurrent:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    loaded: Recurrent = torch.load(buffer, weights_only=False)
    return loaded


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded])
def test_a_copy_computes_the_same_and_shares_nothing(cell: str, copied: Any) -> None:
    options: dict[str, Any] = {"forget_bias": 1.0, "proj_size": 2} if cell == "lstm" else {}
    module = make_stack(cell, 3, 4, 2, bidirectional=True, variational_dropout=0.3, engine="torch", **options)
    twin = copied(module)
    x = torch.randn(5, 2, 3)
    for mode in (True, False):
        found, expected = results(twin.train(mode), x), results(module.train(mode), x)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert repr(twin) == repr(module)
    assert twin.spec == module.spec
    with torch.no_grad():
        twin.weight_ih_l0.zero_()
    assert module.weight_ih_l0.any()


@pytest.mark.parametrize("cell", CELLS)
def test_to_another_dtype_or_device_and_back(cell: str) -> None:
    ours, theirs = both(cell, 3, 4, 2)
    x = torch.randn(5, 2, 3)
    for dtype in (torch.float64, torch.float32):
        ours.to(dtype), theirs.to(dtype)
        assert_same(results(ours, x.to(dtype)), results(theirs, x.to(dtype)), RELATIVE[dtype])
    half = ours.to(torch.bfloat16)
    y, state = half(x.bfloat16())
    assert y.dtype == parts(state)[0].dtype == half.initial_state(2).h.dtype == torch.bfloat16
    meta = make_stack(cell, 3, 4, device="meta")
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    meta.to_empty(device="cpu").load_state_dict(pytorchs(cell, 3, 4).state_dict())
    assert torch.isfinite(meta(x)[0]).all()


def test_repr_names_what_is_not_the_default() -> None:
    module = LSTM(3, 4, 2, dropout=0.1, proj_size=2, forget_bias=1.0, variational_dropout=(0.1, 0.2), engine="torch")
    assert repr(module) == (
        "LSTM(3, 4, proj_size=2, num_layers=2, dropout=0.1, forget_bias=1.0, variational_dropout=(0.1, 0.2), "
        "engine=torch)"
    )


def test_the_arguments_have_pytorchs_places() -> None:
    """Every option by its position, as programs written for PyTorch give it."""
    for ours, theirs, positions in (
        (LSTM, nn.LSTM, (3, 4, 2, False, True, 0.5, True, 2, "cpu", torch.float64)),
        (GRU, nn.GRU, (3, 4, 2, False, True, 0.5, True)),
        (RNN, nn.RNN, (3, 4, 2, "relu", False, True, 0.5, True)),
    ):
        a, b = ours(*positions), theirs(*positions)
        assert repr(a) == repr(b)
        assert a.mode == b.mode
        assert {n: (p.shape, p.dtype) for n, p in a.named_parameters()} == {
            n: (p.shape, p.dtype) for n, p in b.named_parameters()
        }


def test_one_layer_with_dropout_warns_as_pytorch_does() -> None:
    with pytest.warns(UserWarning, match="dropout is 0.5 but there is only one layer"):
        LSTM(3, 4, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LSTM(3, 4, 2, dropout=0.5)


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "rnn_relu"])
def test_the_state_comes_back_in_the_form_in_which_it_was_given(cell: str) -> None:
    module, x = make_stack(cell, 3, 4), torch.randn(5, 2, 3)
    h_0 = torch.randn(1, 2, 4)
    assert type(module(x)[1]) is Tensor
    assert type(module(x, h_0)[1]) is Tensor
    given = module(x, RNNState(h_0))[1]
    assert type(given) is RNNState
    assert torch.equal(given.h, module(x, h_0)[1])
    assert type(module(x[:, 0], RNNState(h_0[:, 0]))[1]) is RNNState


def test_a_state_in_a_list_or_a_tuple_is_a_state() -> None:
    module, x = LSTM(3, 4), torch.randn(5, 2, 3)
    pair = (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    expected = module(x, pair)
    for hx in (list(pair), LSTMState(*pair)):
        y, state = module(x, hx)
        assert torch.equal(y, expected[0])
        assert isinstance(state, LSTMState)
        assert torch.equal(state.c, expected[1].c)


@pytest.mark.parametrize("cell", CELLS)
def test_backward_works_in_eval_mode_and_frozen_parameters_get_nothing(cell: str) -> None:
    ours, theirs = both(cell, 3, 4, 2)
    ours.eval(), theirs.eval()
    for module in (ours, theirs):
        module.weight_hh_l1.requires_grad_(False)
    x = torch.randn(5, 2, 3)
    found, expected = results(ours, x), results(theirs, x)
    assert "dweight_hh_l1" not in found
    assert_same(found, expected, RELATIVE[torch.float32])
