"""The native engine's part in an optimiser's step, ``csrc/update.hpp``: the gradients' norm, clipping and the update.

The optimiser keeps its options and its state, under its own names; only what ``step`` would compute is computed here.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gatewise.kernels.native_engine import _native, addresses, why_not_built

_RULES: dict[type, str] = {torch.optim.SGD: "sgd", torch.optim.Adam: "adam", torch.optim.AdamW: "adamw"}
_UNKNOWN = ("momentum", "nesterov", "maximize", "amsgrad", "capturable", "differentiable")


def why_not(optimizer: torch.optim.Optimizer) -> str | None:
    """Say why an optimiser's step is left to torch; None where it is computed here."""
    if reason := why_not_built():
        return reason
    if type(optimizer) not in _RULES:
        return f"the optimiser is {type(optimizer).__name__}"
    for group in optimizer.param_groups:
        if options := [name for name in _UNKNOWN if group.get(name)]:
            return f"the optimiser has {' and '.join(options)}"
        for p in group["params"]:
            if p.device.type != "cpu" or p.dtype != torch.float32 or not p.is_contiguous():
                return f"a parameter is {p.dtype} on {p.device} with strides {p.stride()}"
    return None


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """Return ``√ Σ g²`` over the gradients of float32 parameters, summed in double.

    A sparse gradient is brought into its short form, each row once, and left so in ``grad``.
    """
    described, kept = [], []
    for p in parameters:
        if p.grad is not None:
            rows, g = _gradient(p)
            kept.append((rows, g))
            described.append(_native.Parameter(p.numel(), *addresses(p, g), **_of_rows(rows, g)))
    return float(_native.gradient_norm(torch.get_num_threads(), described))


def step(optimizer: torch.optim.Optimizer, clip: float) -> None:
    """Do what ``optimizer.step()`` does, once the gradients were multiplied by ``clip``; they are not changed.

    The gradient of an embedding may be sparse; it means the same as the dense one.
    """
    rule = _native.UpdateRule[_RULES[type(optimizer)]]
    for group in optimizer.param_groups:
        described, kept, changed = [], [], []
        beta1, beta2 = group.get("betas", (0.0, 0.0))
        for p in group["params"]:
            if p.grad is None:
                continue
            rows, g = _gradient(p)
            own: dict[str, Any] = {}
            if "betas" in group:
                state = _adam_state(optimizer, p)
                state["step"] += 1
                t, m, v = float(state["step"]), state["exp_avg"], state["exp_avg_sq"]
                own = {"m": m.data_ptr(), "v": v.data_ptr(), "correction_m": 1 - beta1**t, "correction_v": 1 - beta2**t}
                changed += [m, v]
            described.append(_native.Parameter(p.numel(), *addresses(p, g), **own, **_of_rows(rows, g)))
            kept.append((rows, g))
            changed.append(p)
        _native.update(
            torch.get_num_threads(),
            rule,
            described,
            clip,
            group["lr"],
            group["weight_decay"],
            beta1,
            beta2,
            group.get("eps", 0.0),
        )
        torch.autograd.graph.increment_version(changed)


def _gradient(p: Tensor) -> tuple[Tensor | None, Tensor]:
    """The rows that have a gradient, None where it is dense, and their gradient; in memory without gaps."""
    assert p.grad is not None
    if not p.grad.is_sparse:
        return None, p.grad.contiguous()
    p.grad = p.grad.coalesce()
    return p.grad.indices()[0].contiguous(), p.grad.values().contiguous()


def _of_rows(rows: Tensor | None, g: Tensor) -> dict[str, int]:
    return {} if rows is None else {"rows": rows.data_ptr(), "row_count": len(rows), "width": g.shape[1]}


def _adam_state(optimizer: torch.optim.Optimizer, p: Tensor) -> dict[str, Tensor]:
    """What Adam keeps of a parameter, made at the first step as the optimiser itself makes it."""
    state: dict[str, Tensor] = optimizer.state[p]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
    return state
