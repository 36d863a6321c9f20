"""The names, shapes and order of parameters against PyTorch's modules; every error is one line."""

from dataclasses import FrozenInstanceError
from itertools import product
from typing import Any

import pytest
import torch

from gatewise.spec import CELLS, RecurrentSpec

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN}


@pytest.mark.parametrize(
    ("cell", "proj_size"), [("lstm", 0), ("lstm", 1), ("lstm", 3), ("gru", 0), ("rnn_tanh", 0), ("rnn_relu", 0)]
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_parameters_are_those_of_pytorchs_module(cell: str, proj_size: int, bias: bool, bidirectional: bool) -> None:
    options = {"bias": bias, "bidirectional": bidirectional, **({"proj_size": proj_size} if proj_size else {})}
    for num_layers, input_size in product((1, 2, 3), (1, 5)):
        module = MODULES[cell](input_size, 4, num_layers, **options).state_dict()
        spec = RecurrentSpec(cell, input_size, 4, num_layers, bias, bidirectional, proj_size)
        assert list(spec.parameters().items()) == [(name, tuple(t.shape)) for name, t in module.items()]


@pytest.mark.parametrize("cell", CELLS)
def test_what_follows_from_the_options(cell: str) -> None:
    plain = RecurrentSpec(cell, 2, 3)
    assert (plain.num_layers, plain.bias, plain.bidirectional, plain.proj_size) == (1, True, False, 0)
    assert (plain.num_directions, plain.output_size, plain.layer_input_size(0)) == (1, 3, 2)
    assert plain.gates == CELLS[cell].gates and len(plain.gates) == {"lstm": 4, "gru": 3}.get(cell, 1)
    assert list(plain.passes()) == [(0, False, "l0")]
    both = RecurrentSpec(cell, 2, 3, num_layers=2, bidirectional=True)
    assert (both.num_directions, both.output_size) == (2, 3)
    assert [both.layer_input_size(layer) for layer in range(2)] == [2, 6]
    assert list(both.passes()) == [
        (0, False, "l0"),
        (0, True, "l0_reverse"),
        (1, False, "l1"),
        (1, True, "l1_reverse"),
    ]


def test_a_projection_is_what_the_next_layer_reads() -> None:
    spec = RecurrentSpec("lstm", 2, 5, num_layers=2, bidirectional=True, proj_size=3)
    assert (spec.output_size, spec.layer_input_size(0), spec.layer_input_size(1)) == (3, 2, 6)


def test_every_cells_gates_and_output_can_be_traced() -> None:
    for cell in CELLS:
        assert CELLS[cell].traced[-1] == "h"
        assert set(CELLS[cell].gates) <= set(CELLS[cell].traced)


def test_a_spec_is_a_value() -> None:
    spec = RecurrentSpec("gru", 2, 3)
    assert spec == RecurrentSpec("gru", 2, 3) and hash(spec) == hash(RecurrentSpec("gru", 2, 3))
    with pytest.raises(FrozenInstanceError):
        spec.hidden_size = 4  # type: ignore[misc]


PROJECTION = "expected 0 (none) or an integer smaller than hidden_size, which is 3"
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"cell": "LSTM"}, "cell is 'LSTM'; expected one of lstm, gru, rnn_tanh, rnn_relu"),
    ({"cell": ""}, "cell is ''; expected one of lstm, gru, rnn_tanh, rnn_relu"),
    ({"cell": None}, "cell is None; expected one of lstm, gru, rnn_tanh, rnn_relu"),
    ({"cell": ["lstm"]}, "cell is ['lstm']; expected one of lstm, gru, rnn_tanh, rnn_relu"),
    ({"input_size": 0}, "input_size is 0; expected an integer, 1 or more"),
    ({"input_size": -1}, "input_size is -1; expected an integer, 1 or more"),
    ({"input_size": 2.0}, "input_size is 2.0; expected an integer, 1 or more"),
    ({"input_size": "2"}, "input_size is '2'; expected an integer, 1 or more"),
    ({"input_size": True}, "input_size is True; expected an integer, 1 or more"),
    ({"hidden_size": 0}, "hidden_size is 0; expected an integer, 1 or more"),
    ({"hidden_size": -3}, "hidden_size is -3; expected an integer, 1 or more"),
    ({"hidden_size": 3.5}, "hidden_size is 3.5; expected an integer, 1 or more"),
    ({"hidden_size": True}, "hidden_size is True; expected an integer, 1 or more"),
    ({"num_layers": 0}, "num_layers is 0; expected an integer, 1 or more"),
    ({"num_layers": None}, "num_layers is None; expected an integer, 1 or more"),
    ({"num_layers": True}, "num_layers is True; expected an integer, 1 or more"),
    ({"proj_size": -1}, f"proj_size is -1; {PROJECTION}"),
    ({"proj_size": 3}, f"proj_size is 3; {PROJECTION}"),
    ({"proj_size": 1.0}, f"proj_size is 1.0; {PROJECTION}"),
    ({"proj_size": None}, f"proj_size is None; {PROJECTION}"),
    ({"cell": "gru", "proj_size": 2}, "proj_size is 2; only an lstm supports a projection, found gru; use 0"),
    ({"cell": "rnn_relu", "proj_size": 1}, "proj_size is 1; only an lstm supports a projection, found rnn_relu; use 0"),
]


@pytest.mark.parametrize(("options", "message"), FAULTS, ids=str)
def test_a_fault_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        RecurrentSpec(**{"cell": "lstm", "input_size": 2, "hidden_size": 3, **options})
    assert str(caught.value) == message
