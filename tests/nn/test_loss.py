"""The fused loss: finite differences, then PyTorch's own loss, then what breaks such things."""

import pytest
import torch
from torch.nn import functional as F

from gatewise.nn import linear_cross_entropy, loss
from tests.tolerances import FINITE_DIFFERENCES, RELATIVE, differ


def make(n: int, h: int, v: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(n * 100 + v)
    shapes = {"x": (n, h), "weight": (v, h), "bias": (v,)}
    return {k: torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for k, s in shapes.items()}


def targets_for(n: int, v: int) -> torch.Tensor:
    return torch.randint(v, (n,), generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_each_gradient_against_central_differences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_ROWS", 3)  # 7 rows in three chunks, the last one short
    inputs, targets = make(7, 4, 5, torch.float64), targets_for(7, 5)
    linear_cross_entropy(**inputs, targets=targets, scale=0.5).mul(0.37).backward()
    found = inputs[name].grad
    assert found is not None
    expected, step = torch.zeros_like(found), 1e-6
    with torch.no_grad():
        for index in range(expected.numel()):
            sides = []
            for sign in (1, -1):
                moved = {k: t.clone() for k, t in inputs.items()}
                moved[name].view(-1)[index] += sign * step
                sides.append(float(linear_cross_entropy(**moved, targets=targets)) * 0.5 * 0.37)
            expected.view(-1)[index] = (sides[0] - sides[1]) / (2 * step)
    assert differ(found, expected) < FINITE_DIFFERENCES


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("n", "h", "v"), [(1, 1, 2), (1, 63, 7), (256, 8, 10), (257, 8, 10), (700, 5, 31)])
def test_equals_pytorchs_loss_and_gradients(
    n: int, h: int, v: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "CHUNK_ROWS", 256)
    ours, peer, targets = make(n, h, v, dtype), make(n, h, v, dtype), targets_for(n, v)
    a = linear_cross_entropy(**ours, targets=targets)
    b = F.cross_entropy(F.linear(peer["x"], peer["weight"], peer["bias"]), targets, reduction="sum")
    a.backward()
    b.backward()
    assert differ(a.detach(), b.detach()) < RELATIVE[dtype]
    for name in ours:
        assert differ(ours[name].grad, peer[name].grad) < RELATIVE[dtype], name


def test_without_gradients_the_value_is_the_same() -> None:
    inputs, targets = make(300, 6, 9, torch.float64), targets_for(300, 9)
    with torch.no_grad():
        alone = linear_cross_entropy(**inputs, targets=targets)
    assert alone == linear_cross_entropy(**inputs, targets=targets).detach()


def test_a_frozen_decoder_still_passes_its_gradient_on() -> None:
    inputs, targets = make(5, 3, 4, torch.float64), targets_for(5, 4)
    full = torch.autograd.grad(linear_cross_entropy(**inputs, targets=targets), inputs["x"])[0]
    frozen = {k: t.detach().requires_grad_(k == "x") for k, t in inputs.items()}
    linear_cross_entropy(**frozen, targets=targets).backward()
    assert torch.equal(frozen["x"].grad, full)  # type: ignore[arg-type]


def test_huge_logits_do_not_overflow() -> None:
    x = torch.tensor([[1e4]], requires_grad=True)
    nll = linear_cross_entropy(x, torch.tensor([[1.0], [-1.0]]), torch.zeros(2), torch.tensor([1]))
    nll.backward()
    assert nll.item() == pytest.approx(2e4)
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(2.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_come_out_as_such(bad: float) -> None:
    inputs, targets = make(4, 3, 5, torch.float32), targets_for(4, 5)
    with torch.no_grad():
        inputs["x"][2, 1] = bad
    assert not torch.isfinite(linear_cross_entropy(**inputs, targets=targets))


def test_a_second_backward_is_an_error_not_a_wrong_number() -> None:
    inputs, targets = make(4, 3, 5, torch.float32), targets_for(4, 5)
    nll = linear_cross_entropy(**inputs, targets=targets)
    nll.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated twice"):
        nll.backward()


def test_under_autocast_the_softmax_stays_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_ROWS", 30)
    inputs, targets = make(64, 16, 50, torch.float32), targets_for(64, 50)
    full = linear_cross_entropy(**inputs, targets=targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = linear_cross_entropy(**inputs, targets=targets)
    assert reduced.dtype == torch.float32
    assert reduced != full  # the products really were rounded
    assert differ(reduced.detach(), full.detach()) < RELATIVE[torch.bfloat16]
    full_grads = torch.autograd.grad(full, list(inputs.values()))
    for a, b in zip(torch.autograd.grad(reduced, list(inputs.values())), full_grads, strict=True):
        assert a.dtype == torch.float32
        assert differ(a, b) < RELATIVE[torch.bfloat16]
