"""The step of an optimizer, ``csrc/update.hpp``: gradient norm, clipping and update.

The optimizer keeps its options and state under its own names; this module replaces only the computation of ``step``.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gatewise.engines.boundary import Ready, addresses, changeable, check_shape, readable
from gatewise.engines.native.module import native

_RULES: dict[type, str] = {torch.optim.SGD: "sgd", torch.optim.Adam: "adam", torch.optim.AdamW: "adamw"}
_UNKNOWN = ("momentum", "nesterov", "maximize", "amsgrad", "capturable", "differentiable")


def why_not(optimizer: torch.optim.Optimizer) -> str | None:
    """Return the reason why the step of an optimizer is not supported, or None."""
    if _rule(optimizer) is None:
        return f"the optimizer is {type(optimizer).__name__}"
    for group in optimizer.param_groups:
        if options := [name for name in _UNKNOWN if group.get(name)]:
            return f"the optimizer uses {' and '.join(options)}"
        for p in group["params"]:
            if p.device.type != "cpu" or p.dtype != torch.float32 or not p.is_contiguous():
                return f"a parameter is {p.dtype} on {p.device} with strides {p.stride()}"
    return None


def _rule(optimizer: torch.optim.Optimizer) -> str | None:
    """Return the rule of an optimizer whose class, or whose base class without another ``step``, is known."""
    kind = next((kind for kind in type(optimizer).__mro__ if kind in _RULES), None)
    same = kind and inspect.unwrap(type(optimizer).step) is inspect.unwrap(kind.step)  # type: ignore[attr-defined]
    return _RULES[kind] if kind and same else None


def gradient_norm(parameters: Iterable[Tensor], threads: int) -> float:
    """Return ``√ Σ g²`` over the gradients of float32 parameters, summed in double precision.

    A sparse gradient is coalesced, in ``grad`` too.
    """
    described, kept = [], []
    for p in parameters:
        if p.grad is not None:
            rows, g = _gradient(p)
            kept.append((rows, g))
            described.append(_describe(_in_place("a parameter", p), rows, g))
    return float(native.gradient_norm(threads, described))


def step(optimizer: torch.optim.Optimizer, clip: float, threads: int) -> None:
    """Perform ``optimizer.step()`` with the gradients multiplied by ``clip``; the gradients are not modified.

    The gradient of an embedding may be sparse; the result is that of the dense one.

    Raises:
        ValueError: optimizer state or a gradient does not fit its parameter, or tensors share memory; no parameter of
            the group has been changed then.
    """
    rule = native.UpdateRule[_rule(optimizer) or ""]
    for group in optimizer.param_groups:
        described, kept, changed, steps = [], [], [], []
        beta1, beta2 = map(float, group.get("betas", (0.0, 0.0)))
        for p in group["params"]:
            if p.grad is None:
                continue
            rows, g = _gradient(p)
            weight, own, moments = _in_place("a parameter", p), dict[str, Any](), list[Ready]()
            if "betas" in group:
                state = _adam_state(optimizer, p)
                t = float(state["step"] + 1)
                moments = [_in_place(name, state[name], *p.shape) for name in ("exp_avg", "exp_avg_sq")]
                m, v = addresses(*moments)
                own = {"m": m, "v": v, "correction_m": 1 - beta1**t, "correction_v": 1 - beta2**t}
                steps.append(state["step"])
            described.append(_describe(weight, rows, g, **own))
            kept.append((rows, g))
            changed += [weight, *moments]
        native.update(
            threads,
            rule,
            described,
            clip,
            float(group["lr"]),
            float(group["weight_decay"]),
            beta1,
            beta2,
            float(group.get("eps", 0.0)),
        )
        for count in steps:
            count += 1
        torch.autograd.graph.increment_version(changed)


def _in_place(name: str, tensor: Tensor, *shape: int) -> Ready:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} is {tensor!r:.40}; expected a tensor")
    return changeable(name, tensor, torch.float32, *(shape or tensor.shape))


def _gradient(p: Tensor) -> tuple[Ready | None, Ready]:
    """Return the rows of a sparse gradient (None if it is dense) and its values, both contiguous."""
    assert p.grad is not None
    check_shape("a gradient", p.grad, p.shape)
    if not p.grad.is_sparse:
        return None, readable("a gradient", p.grad, torch.float32, *p.shape)
    if p.grad.sparse_dim() != 1 or p.dim() != 2:
        raise ValueError(
            f"a gradient of shape {tuple(p.shape)} is sparse in {p.grad.sparse_dim()} dimensions; expected rows of a "
            "matrix, or a dense gradient: call .to_dense()"
        )
    p.grad = p.grad.coalesce()
    rows, g = p.grad.indices()[0], p.grad.values()
    return (
        readable("a gradient's rows", rows, torch.int64, len(rows)),
        readable("a gradient", g, torch.float32, len(rows), p.shape[1]),
    )


def _describe(p: Ready, rows: Ready | None, g: Ready, **own: Any) -> Any:
    if rows is not None:
        own |= {"rows": addresses(rows)[0], "row_count": len(rows), "width": g.shape[1]}
    return native.Parameter(p.numel(), *addresses(p, g), **own)


def _adam_state(optimizer: torch.optim.Optimizer, p: Tensor) -> dict[str, Tensor]:
    """Return Adam's state of a parameter, created at the first step as the optimizer itself does."""
    state: dict[str, Tensor] = optimizer.state[p]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
    missing = [name for name in ("step", "exp_avg", "exp_avg_sq") if name not in state]
    if missing:
        raise ValueError(f"the optimizer state of a parameter lacks {' and '.join(missing)}; expected Adam's state")
    count = state["step"]
    if not isinstance(count, Tensor) or count.shape != () or not 0 <= float(count) < float("inf"):
        raise ValueError(f"the optimizer's step is {count!r:.40}; expected a tensor of one integer, 0 or more")
    return state
