"""Dropout masks: their values, their mean, and what they depend on."""

import pytest
import torch

from gatewise.engines import ENGINES
from gatewise.engines.native.module import why_not_built
from gatewise.engines.torch.dropout import _words
from gatewise.nn.dropout import dropout, dropout_mask


@pytest.mark.parametrize("p", [0.01, 0.1, 0.35, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_mask_holds_zeros_and_the_scale_as_often_as_it_should(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    mask = dropout_mask(torch.empty(301, 333, dtype=dtype), p)
    assert mask.shape == (301, 333)
    assert mask.dtype == dtype
    dropped = mask == 0
    assert torch.equal(mask[~dropped].unique(), torch.tensor([1 / (1 - p)], dtype=dtype))
    n = mask.numel()
    assert abs(float(dropped.double().mean()) - p) < 4 * (p * (1 - p) / n) ** 0.5  # four standard deviations
    for k in range(1, 5):  # numbers that stand together are drawn together, and yet independent
        together = float((dropped.flatten()[k:] & dropped.flatten()[:-k]).double().mean())
        assert abs(together - p * p) < 5 * (p * p / n) ** 0.5


def test_all_is_dropped_or_nothing() -> None:
    x = torch.randn(5, 3)
    assert torch.equal(dropout(x, 1.0), torch.zeros(5, 3))
    assert dropout(x, 0.0) is x
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x[:0], 0.5).shape == (0, 3)


def test_equal_seeds_give_equal_masks_and_the_next_one_differs() -> None:
    x = torch.ones(40, 7)
    torch.manual_seed(1)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.5), first)
    assert not torch.equal(first, second)


def test_the_gradient_is_the_mask() -> None:
    x = torch.randn(30, 2, requires_grad=True)
    y = dropout(x, 0.25)
    (g,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(y, x * g)
    assert (g == 0).any()


def test_the_gradient_of_a_gradient_and_vectorized_gradients_apply_the_same_mask() -> None:
    x = torch.randn(30, 4, requires_grad=True)
    y = dropout(x, 0.25)
    (mask,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    dy = torch.randn(3, 30, 4, requires_grad=True)
    (dx,) = torch.autograd.grad(y, x, dy, retain_graph=True, is_grads_batched=True)
    assert torch.equal(dx, dy * mask)
    (dx,) = torch.autograd.grad(y, x, dy[0], create_graph=True)
    (again,) = torch.autograd.grad(dx.sum(), dy)
    assert torch.equal(again[0], mask)


def test_no_mask_is_kept_for_the_backward_pass() -> None:
    kept = list[torch.Tensor]()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        dropout(torch.randn(40, 7, requires_grad=True), 0.5)
    assert sum(t.numel() for t in kept) <= 1  # the seed at most


def test_a_product_keeps_what_is_not_finite() -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -1.0]).repeat(100)
    torch.manual_seed(1)
    mask = dropout_mask(x, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.5).nan_to_num(7.0), (x * mask).nan_to_num(7.0))


def test_the_words_are_those_of_splitmix64() -> None:
    """The first words of the seed 1234567, which the algorithm's reference program prints."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    words = _words(torch.tensor([1234567]), 5, torch.device("cpu"))
    assert [int(word) % (1 << 64) for word in words] == expected


@pytest.mark.parametrize("p", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (7, 3), (301, 333)])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_native_engine_draws_the_same(
    p: float, shape: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why_not_built():
        pytest.skip("the native engine was not built")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(11)
        native = [dropout_mask(torch.empty(shape), p) for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(ENGINES["native"], "why_not_mask", lambda like: "a test")
    torch.manual_seed(11)
    for mask in native:
        assert torch.equal(mask, dropout_mask(torch.empty(shape), p))
