"""Keras 3 with our weights computes what we compute: outputs, last states, gradients."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from gatewise.interchange.layouts import LAYOUTS, to_layout
from gatewise.interchange.stack import StackWeights
from gatewise.nn import Recurrent, make_stack
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, drawn_state, parts
from tests.tolerances import RELATIVE

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("KERAS_HOME", f"{os.environ['GATEWISE_CACHE']}/keras")  # not the user's settings
keras = pytest.importorskip("keras", reason="Keras is a peer: pip install --group peers")
if keras.backend.backend() != "torch":
    pytest.skip("Keras runs on another backend (KERAS_BACKEND); expected torch", allow_module_level=True)

T, B, I, H = 6, 3, 5, 4


def keras_layer(cell: str, **options: Any) -> Any:
    """Make the layer of one of our cells; a GRU with the reset gate after the product."""
    if cell == "gru":
        options["reset_after"] = True
    if cell.startswith("rnn_"):
        options["activation"] = cell.removeprefix("rnn_")
    kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}.get(cell, keras.layers.SimpleRNN)
    return kind(H, return_sequences=True, return_state=True, **options)


def keras_weights(module: Recurrent) -> list[Any]:
    """Kernel, recurrent kernel and bias of each direction as Keras has them."""
    cell = module.spec.cell
    passes = StackWeights.from_module(module).passes
    return [array for own in passes for array in to_layout(cell, own, LAYOUTS["keras"][cell])]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backwards", [False, True])
def test_outputs_states_and_gradients(cell: str, backwards: bool) -> None:
    """Keras' ``go_backwards`` reads from the end and leaves the outputs in the order in which they were made."""
    torch.manual_seed(1)
    module = make_stack(cell, I, H)
    x, state = torch.randn(T, B, I), drawn_state(module, B)
    peer = keras_layer(cell, go_backwards=backwards)
    peer.build((B, T, I))
    peer.set_weights(keras_weights(module))

    def call(which: str) -> dict[str, Tensor]:
        leaf, before = x.clone().requires_grad_(), [p.clone().requires_grad_() for p in parts(state)]
        if which == "keras":
            y, *after = peer(leaf.transpose(0, 1), initial_state=[p[0] for p in before], training=True)
            y = y.transpose(0, 1)
        else:
            read = leaf.flip(0) if backwards else leaf
            y, after = module(read, before if cell == "lstm" else before[0])
            after = [part[0] for part in parts(after)]
        found = {"y": y, **dict(zip(("h_n", "c_n"), after, strict=False))}
        generator = torch.Generator().manual_seed(2)
        torch.autograd.backward(
            list(found.values()), [torch.randn(t.shape, generator=generator) for t in found.values()]
        )
        return {**found, "dx": leaf.grad, **dict(zip(("dh_0", "dc_0"), (p.grad for p in before), strict=False))}

    found, expected = call("ours"), call("keras")
    order = LAYOUTS["keras"][cell].gates
    for name, variable in zip(("weight_ih", "weight_hh", "bias"), peer.trainable_weights, strict=True):
        gradient = variable.value.grad
        for ours in ("bias_ih", "bias_hh") if name == "bias" else (name,):
            theirs = gradient[int(ours == "bias_hh")] if name == "bias" and cell == "gru" else gradient
            blocks = theirs.T.chunk(len(order)) if name != "bias" else theirs.chunk(len(order))
            expected[f"d{ours}"] = torch.cat([blocks[order.index(gate)] for gate in CELLS[cell].gates])
            found[f"d{ours}"] = module.get_parameter(f"{ours}_l0").grad
    assert_same(found, expected, RELATIVE[torch.float32])


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_both_directions(cell: str) -> None:
    torch.manual_seed(2)
    module, x = make_stack(cell, I, H, bidirectional=True), torch.randn(T, B, I)
    peer = keras.layers.Bidirectional(keras_layer(cell))
    peer.build((B, T, I))
    peer.set_weights(keras_weights(module))
    y, *after = peer(x.transpose(0, 1))
    found, state = module(x)
    half = len(after) // 2
    expected = [torch.stack(pair) for pair in zip(after[:half], after[half:], strict=True)]
    assert_same({"y": found}, {"y": y.transpose(0, 1)}, RELATIVE[torch.float32])
    for a, b in zip(parts(state), expected, strict=True):
        assert_same({"state": a}, {"state": b}, RELATIVE[torch.float32])


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_rows_of_unequal_length(cell: str) -> None:
    """Keras' mask, with outputs at zero where it is false."""
    torch.manual_seed(3)
    module, x, lengths = make_stack(cell, I, H), torch.randn(T, B, I), [4, 6, 1]
    peer = keras_layer(cell, zero_output_for_mask=True)
    peer.build((B, T, I))
    peer.set_weights(keras_weights(module))
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    y, *after = peer(x.transpose(0, 1), mask=mask)
    found, state = module(x, lengths=lengths)
    assert_same({"y": found}, {"y": y.transpose(0, 1)}, RELATIVE[torch.float32])
    for a, b in zip(parts(state), after, strict=True):
        assert_same({"state": a[0]}, {"state": b}, RELATIVE[torch.float32])
