"""What ``training.precision`` means on a device, and whether the device has it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from gatewise.errors import UsageError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, device: torch.device) -> None:
    """Check that a device can train at a precision.

    Raises:
        UsageError: it cannot.
    """
    if precision == "high":
        raise UsageError("precision 'high' needs the native engine, which this version has not; use fp32 or bf16")
    if precision == "fp16" and not has_fp16(device):
        raise UsageError("precision 'fp16' is not available: this processor has no fp16 arithmetic; use fp32 or bf16")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device computes bf16 products in hardware; elsewhere they are right, but slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_fp16(device: torch.device) -> bool:
    """Whether the device computes fp16 products in hardware."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def products_in(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which matrix products run in ``precision`` while weights and gradients stay fp32."""
    if precision not in _DTYPES:
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def choose_device(name: str) -> torch.device:
    """Return the device of ``runtime.device``; ``auto`` takes a GPU where there is one.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"Gatewise does not compute on {device.type}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0]
        raise UsageError(f"device {name!r} is not available ({reason}); expected auto, cpu or cuda") from None
    return device


def keep_fp32_exact() -> None:
    """Let fp32 mean fp32 on a GPU too: cuDNN's recurrent layers would round products to TF32 by default."""
    torch.backends.cudnn.allow_tf32 = False
