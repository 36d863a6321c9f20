"""The table of layouts: there and back, biases summed where that is allowed, the forget bias."""

from typing import Any

import numpy as np
import pytest
import torch

from gatewise.interchange.layouts import LAYOUTS, Layout, PassWeights, from_layout, summed_biases, to_layout
from gatewise.interchange.stack import StackWeights
from gatewise.spec import CELLS
from tests.interchange.rig import H, I, assert_alike, drawn_stack

ROWS = [pytest.param(framework, cell, id=f"{framework}-{cell}") for framework, row in LAYOUTS.items() for cell in row]


def there_and_back(framework: str, cell: str, weights: PassWeights, forget_bias: float = 0.0) -> PassWeights:
    layout = LAYOUTS[framework][cell]
    return from_layout(
        cell, to_layout(cell, weights, layout, forget_bias=forget_bias), layout, H, forget_bias=forget_bias
    )


@pytest.mark.parametrize(
    ("framework", "cell", "bias", "forget_bias"),
    [
        *[(*row.values, bias, 0.0) for row in ROWS for bias in (False, True)],
        *[(framework, "lstm", True, 1.0) for framework in LAYOUTS],
    ],
)
def test_there_and_back(framework: str, cell: str, bias: bool, forget_bias: float) -> None:
    """The module computes the same; the kernels are equal to the bit, and so are biases that stay two."""
    stack = drawn_stack(cell, bias=bias)
    (weights,) = StackWeights.from_module(stack).passes
    found = there_and_back(framework, cell, weights, forget_bias)
    assert_alike(StackWeights.of(cell, [found], bidirectional=False, source="").to_module(), stack)
    two = LAYOUTS[framework][cell].bias != "one" and not forget_bias
    for name in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if bias and two else ())):
        np.testing.assert_array_equal(getattr(found, name), getattr(weights, name))


@pytest.mark.parametrize(("framework", "cell"), ROWS)
def test_shapes(framework: str, cell: str) -> None:
    """As the module documents them."""
    (weights,) = StackWeights.from_module(drawn_stack(cell)).passes
    G = len(CELLS[cell].gates) * H
    one = (2, G) if cell == "gru" else (G,)
    expected = {
        "torch": [(G, I), (G, H), (G,), (G,)],
        "keras": [(I, G), (H, G), one],
        "tf1": [(I + H, G), (G,)],
        "onnx": [(G, I), (G, H), (2 * G,)],
    }
    assert [array.shape for array in to_layout(cell, weights, LAYOUTS[framework][cell])] == expected[framework]


def test_forget_bias_goes_to_the_forget_gate() -> None:
    """Without it in the file, 1 is added to f alone."""
    layout, zeros = LAYOUTS["tf1"]["lstm"], np.zeros(4 * H, np.float32)
    found = from_layout("lstm", [np.zeros((I + H, 4 * H), np.float32), zeros], layout, H, forget_bias=1.0)
    assert found.bias_ih is not None
    assert found.bias_ih.tolist() == [0] * H + [1] * H + [0] * 2 * H


@torch.no_grad()
def test_one_bias_cannot_hold_a_gru() -> None:
    """Its r and z may be summed, its n may not."""
    layout = Layout("rzn", bias="one")
    stack = drawn_stack("gru")
    (weights,) = StackWeights.from_module(stack).passes
    with pytest.raises(ValueError, match="two biases"):
        to_layout("gru", weights, layout)
    stack.bias_hh_l0[2 * H :] = 0
    (weights,) = StackWeights.from_module(stack).passes
    found = from_layout("gru", to_layout("gru", weights, layout), layout, H)
    assert_alike(StackWeights.of("gru", [found], bidirectional=False, source="").to_module(), stack)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_wrong_shapes(index: int) -> None:
    """The message names the array by its number."""
    (weights,) = StackWeights.from_module(drawn_stack("lstm")).passes
    layout = LAYOUTS["keras"]["lstm"]
    arrays = list(to_layout("lstm", weights, layout))
    arrays[index] = arrays[index][..., :-1]
    with pytest.raises(ValueError, match=f"^array {index} has shape"):
        from_layout("lstm", arrays, layout, H)


ORDERS = {
    "torch": {"lstm": "i f c o", "gru": "r z h"},
    "keras": {"lstm": "i f c o", "gru": "z r h"},
    "tf1": {"lstm": "i c f o"},
    "onnx": {"lstm": "i o f c", "gru": "z r h"},
}
"""The gates as the frameworks' documentation lists them."""


def peer_step(framework: str, cell: str, arrays: list[Any], x: Any, h: Any, c: Any, forget_bias: float) -> Any:
    """One step of a row as a framework computes it from its own arrays; a GRU resets after the product."""
    if framework == "tf1":
        from_x, from_h = np.concatenate([x, h]) @ arrays[0] + arrays[1], np.zeros(arrays[1].shape)
    elif framework == "keras":
        bias = arrays[2] if cell == "gru" else (arrays[2], 0)
        from_x, from_h = x @ arrays[0] + bias[0], h @ arrays[1] + bias[1]
    else:
        bias = arrays[2:] if framework == "torch" else np.split(arrays[2], 2)
        from_x, from_h = arrays[0] @ x + bias[0], arrays[1] @ h + bias[1]
    if cell.startswith("rnn"):
        return np.tanh(from_x + from_h) if cell == "rnn_tanh" else np.maximum(from_x + from_h, 0)
    names = ORDERS[framework][cell].split()
    at_x, at_h = (dict(zip(names, np.split(part, len(names)), strict=True)) for part in (from_x, from_h))

    def sigmoid(gate: str, more: float = 0.0) -> Any:
        return 1 / (1 + np.exp(-(at_x[gate] + at_h[gate] + more)))

    if cell == "gru":
        candidate, z = np.tanh(at_x["h"] + sigmoid("r") * at_h["h"]), sigmoid("z")
        return z * h + (1 - z) * candidate
    c = sigmoid("f", forget_bias) * c + sigmoid("i") * np.tanh(at_x["c"] + at_h["c"])
    return sigmoid("o") * np.tanh(c)


@pytest.mark.parametrize(
    ("framework", "cell", "forget_bias"),
    [*[(*row.values, 0.0) for row in ROWS], ("tf1", "lstm", 1.0)],
)
@torch.no_grad()
def test_the_frameworks_own_equations(framework: str, cell: str, forget_bias: float) -> None:
    """Each computes a step of ours from the arrays that it gets."""
    stack = drawn_stack(cell)
    (weights,) = StackWeights.from_module(stack).passes
    arrays = to_layout(cell, weights, LAYOUTS[framework][cell], forget_bias=forget_bias)
    x, h, c = np.split(np.random.default_rng(1).standard_normal(I + 2 * H), [I, I + H])
    found = peer_step(framework, cell, list(arrays), x, h, c, forget_bias)
    state = [torch.from_numpy(part).float()[None] for part in (h, c)]
    y, _ = stack(torch.from_numpy(x).float()[None], tuple(state) if cell == "lstm" else state[0])
    np.testing.assert_allclose(found, y[0].numpy(), atol=1e-6)


def test_biases_of_a_gru_are_summed_except_those_of_n() -> None:
    first, second = np.arange(3 * H, dtype=np.float32), np.full(3 * H, 100, np.float32)
    one, other = summed_biases("gru", first, second)
    assert one.tolist() == [*(first[: 2 * H] + 100), *first[2 * H :]]
    assert other.tolist() == [0] * 2 * H + [100] * H
    assert [part.tolist() for part in summed_biases("rnn_tanh", first, second)] == [[*(first + 100)], [0] * 3 * H]
