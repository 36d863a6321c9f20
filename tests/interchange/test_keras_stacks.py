"""Bare stacks through Keras' files: Keras 3 computes what ours do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gatewise.interchange import load_stack, save_stack
from gatewise.interchange.keras_peer import differences
from gatewise.nn import Recurrent
from tests.interchange.keras_rig import keras_3, keras_called
from tests.interchange.rig import GRID, B, H, I, T, assert_equal_weights, called, drawn_stack
from tests.nn.beside import assert_same, drawn_state, parts
from tests.tolerances import RELATIVE

keras = keras_3()
L = keras.layers
LENGTHS = [4, 6, 1]


def beside(stack: Recurrent, model: Any, lengths: list[int] | None = None) -> tuple[dict[str, Tensor], ...]:
    """Outputs and last states of both, from a first state that is not zero."""
    x = torch.randn(T, B, I, generator=torch.Generator().manual_seed(4))
    return called(stack, lengths), keras_called(keras, model, x, parts(drawn_state(stack, B)), lengths)


def keras_stack(cell: str, layers: int = 1, bidirectional: bool = False, bias: bool = True, **more: Any) -> Any:
    """A model of Keras with random weights."""
    keras.utils.set_random_seed(5)
    kind, options = {"lstm": (L.LSTM, {}), "gru": (L.GRU, {})}.get(
        cell, (L.SimpleRNN, {"activation": cell.removeprefix("rnn_")})
    )
    model = keras.Sequential([L.Input((None, I))])
    for _ in range(layers):
        one = kind(H, return_sequences=True, use_bias=bias, zero_output_for_mask=True, **options, **more)
        model.add(L.Bidirectional(one) if bidirectional else one)
    for number, variable in enumerate(model.trainable_weights):
        variable.assign(np.random.default_rng(number).normal(size=variable.shape) * 0.5)
    return model


@pytest.mark.parametrize(("cell", "layers", "bidirectional", "bias"), GRID)
def test_from_keras_and_to_it(cell: str, layers: int, bidirectional: bool, bias: bool, tmp_path: Path) -> None:
    """Outputs and states agree from the first state on, whole and ragged; a second trip keeps every bit."""
    keras_stack(cell, layers, bidirectional, bias).save(tmp_path / "theirs.keras")
    model = keras.saving.load_model(tmp_path / "theirs.keras")
    stack = load_stack(tmp_path / "theirs.keras")
    assert (stack.spec.cell, stack.spec.num_layers, stack.spec.bias) == (cell, layers, bias)
    assert not stack.training
    for lengths in (None, LENGTHS):
        found, expected = beside(stack, model, lengths)
        assert_same(found, expected, RELATIVE[torch.float32])
    save_stack(stack, tmp_path / "ours.keras", "keras")
    assert_equal_weights(load_stack(tmp_path / "ours.keras"), stack)
    again = keras.saving.load_model(tmp_path / "ours.keras")
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_relu"])
def test_two_biases(cell: str, bidirectional: bool, tmp_path: Path) -> None:
    """Of ours that PyTorch trained: their sum leaves, and a GRU's candidate gate keeps both."""
    stack = drawn_stack(cell, 2, bidirectional)
    save_stack(stack, tmp_path / "a.keras", "keras")
    assert max(differences(stack, tmp_path / "a.keras").values()) < RELATIVE[torch.float32]
    with torch.no_grad():
        stack.bias_hh_l0 += 0.1
    found = differences(stack, tmp_path / "a.keras")
    assert min(found.values()) > 1e-3, "each part of the comparison finds another bias"


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_from_h5_of_keras_3(cell: str, tmp_path: Path) -> None:
    """The older format, which Keras 3 still writes, and weights alone beside ``model.to_json()``."""
    model = keras_stack(cell, 2, True, dropout=0.1, recurrent_dropout=0.1)
    model.save(tmp_path / "a.h5")
    model.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "a.json").write_text(model.to_json())
    stack = load_stack(tmp_path / "a.h5")
    found, expected = beside(stack, model)
    assert_same(found, expected, RELATIVE[torch.float32])
    assert_equal_weights(load_stack(tmp_path / "a.weights.h5", architecture=tmp_path / "a.json"), stack)
