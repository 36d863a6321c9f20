"""The table of layouts: there and back, biases summed where that is allowed, the forget bias."""

import numpy as np
import pytest
import torch

from gatewise.interchange.layouts import LAYOUTS, Layout, PassWeights, from_layout, to_layout
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
