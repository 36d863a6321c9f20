"""The loss in PyTorch's contexts: the results of its own loss, or a one-line error."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from gatewise.engines.contract import LossOptions
from tests.nn.beside import loaded_anew
from tests.nn.test_loss import make, native_only, targets_for
from tests.tolerances import RELATIVE, differ

ENGINE = pytest.mark.parametrize("engine", ["torch", pytest.param("native", marks=native_only)])
bare = loaded_anew("gatewise.nn.loss").linear_cross_entropy
"""The tests' checks of types would be first to see a tensor that is none."""


def of_pytorch(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(F.linear(x, weight, bias), targets, reduction="sum")


Loss = Callable[..., torch.Tensor]
T = targets_for(4, 5)


def _second_derivatives(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    first = torch.autograd.grad(nll(x, w, b, T) * 2, (x, w, b), create_graph=True)
    return [*first, *torch.autograd.grad(sum((g**2).sum() for g in first), (x, w, b))]


def _directions(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    return torch.autograd.grad(nll(x, w, b, T), (x, w, b), torch.tensor([1.0, -2.0]).double(), is_grads_batched=True)


def _dual(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    with torch.autograd.forward_ad.dual_level(), torch.no_grad():
        made = torch.autograd.forward_ad.make_dual(w.detach(), w.detach().cos())
        return tuple(torch.autograd.forward_ad.unpack_dual(nll(x, made, b, T)))


def _checkpointed(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    return torch.autograd.grad(checkpoint(nll, x, w, b, T, use_reentrant=False), (x, w, b))


def _saved_elsewhere(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    with torch.autograd.graph.save_on_cpu():
        return torch.autograd.grad(nll(x, w, b, T) * 3, (x, w, b))


def _below_a_counter(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    with FlopCounterMode(display=False):
        return torch.autograd.grad(nll(x, w, b, T), (x, w, b))


def _default_device(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    torch.set_default_device("meta")
    try:
        return torch.autograd.grad(nll(x, w, b, T), (x, w, b))
    finally:
        torch.set_default_device(None)


def _shapes_on(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    given = [t.detach().requires_grad_() for t in (x, w, b)]
    leaves = [t.detach().to("meta").requires_grad_() for t in given]
    found = torch.autograd.grad(nll(*leaves, T.to("meta")), leaves)
    assert {t.device.type for t in found} == {"meta"}
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(t) for t in given]
        made = [nll(*fakes, mode.from_tensor(T))]
        made += torch.autograd.grad(made[0], fakes)
        assert all(isinstance(t, FakeTensor) for t in made)
    return [torch.zeros(t.shape) for t in (*found, *made)]


def _traced(nll: Loss, x: Any, w: Any, b: Any) -> Any:
    def call(*given: Any) -> Any:
        return torch.autograd.grad(nll(*given, T), given)

    given = [t.detach().cos().requires_grad_() for t in (x, w, b)]
    with torch.no_grad():
        quiet = make_fx(lambda *g: nll(*g, T))(x, w, b)
    return [quiet(*given), *make_fx(call)(x, w, b)(*given)]


CONTEXTS: dict[str, Callable[..., Any]] = {
    "grad": lambda nll, x, w, b: torch.func.grad(nll, argnums=(0, 1, 2))(x, w, b, T),
    "jacrev": lambda nll, x, w, b: torch.func.jacrev(nll, argnums=1)(x, w, b, T),
    "jacfwd": lambda nll, x, w, b: torch.func.jacfwd(nll, argnums=0)(x, w, b, T),
    "hessian": lambda nll, x, w, b: torch.func.hessian(nll, argnums=2)(x, w, b, T),
    "jvp": lambda nll, x, w, b: torch.func.jvp(lambda w: nll(x, w, b, T), (w,), (w.cos(),)),
    "vmap": lambda nll, x, w, b: torch.vmap(lambda x, t: nll(x[None], w, b, t[None]))(x, T),
    "vmap of an ensemble": lambda nll, x, w, b: torch.vmap(lambda w: nll(x, w, b, T))(torch.stack([w, w.cos()])),
    "for each sample": lambda nll, x, w, b: torch.vmap(
        torch.func.grad(lambda w, x, t: nll(x[None], w, b, t[None])), in_dims=(None, 0, 0)
    )(w, x, T),
    "second derivatives": _second_derivatives,
    "directions": _directions,
    "dual": _dual,
    "checkpoint": _checkpointed,
    "saved elsewhere": _saved_elsewhere,
    "below a counter": _below_a_counter,
    "default device": _default_device,
    "meta and fake": _shapes_on,
    "make_fx": _traced,
}


@ENGINE
@pytest.mark.parametrize("context", CONTEXTS)
def test_in_every_context_the_numbers_are_pytorchs(context: str, engine: str) -> None:
    """Or, on meta and fake tensors, the shapes."""
    call = CONTEXTS[context]
    found, expected = (
        pytree.tree_leaves(call(nll, *make(4, 3, 5, torch.float64).values()))
        for nll in (partial(bare, engine=engine), of_pytorch)
    )
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert differ(a, b, least=1.0) < RELATIVE[torch.float64]


@ENGINE
def test_its_saved_tensors_are_unpacked_once(engine: str) -> None:
    packed: list[torch.Tensor] = []
    unpacked: list[int] = []

    def pack(t: torch.Tensor) -> int:
        packed.append(t)
        return len(packed) - 1

    def unpack(k: int) -> torch.Tensor:
        unpacked.append(k)
        return packed[k]

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        nll = bare(**make(4, 3, 5, torch.float32), targets=T, engine=engine)
    nll.backward()
    assert sorted(unpacked) == list(range(len(packed)))
    assert len(packed) == 7  # what it reads, and its gradients


@native_only
def test_the_gradient_of_the_operator_has_a_gradient() -> None:
    """As in a program that was exported, which calls it by itself."""
    found, expected = (
        _second_derivatives(nll, *make(4, 3, 5, torch.float64).values())
        for nll in (
            lambda *given: torch.ops.gatewise.linear_loss(*given, *LossOptions(products=torch.float64), "native")[0],
            of_pytorch,
        )
    )
    for a, b in zip(found, expected, strict=True):
        assert differ(a, b, least=1.0) < RELATIVE[torch.float64]


@ENGINE
def test_tracing_and_an_export_to_onnx_are_refused_in_one_line(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nll = partial(bare, engine=engine)
    x, w, b = (t.detach() for t in make(4, 3, 5, torch.float32).values())
    instead = "; use torch.export.export or torch.compile, or load its weights into PyTorch's own module$"
    with pytest.raises(RuntimeError, match="^linear_cross_entropy cannot be traced by torch.jit" + instead):
        torch.jit.trace(lambda x: nll(x, w, b, T), (x,))  # type: ignore[no-untyped-call]
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)

    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return nll(x, w, b, T)

    if engine == "native":  # torch's operations are ONNX's
        with pytest.raises(RuntimeError, match="^linear_cross_entropy cannot be exported to ONNX" + instead):
            torch.export.export(Module(), (x,))
