"""Implementation of ``training.precision`` and ``runtime.device``: availability checks and contexts."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from operator import attrgetter

import torch

from gatewise.engines import engine_named, why_not
from gatewise.errors import UsageError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, device: torch.device, engine: str = "auto") -> None:
    """Check that a device and an engine support training at a precision.

    Raises:
        UsageError: the precision is not available.
    """
    if precision == "high" and not engine_named(engine, device).has_high(device):
        reason = f"the engine is {engine!r}" if engine != "auto" else why_not("native", device)
        raise UsageError(f"precision 'high' is not available: it needs the native engine, and {reason}; use fp32")
    if precision == "fp16" and engine != "auto" and not engine_named(engine, device).has_fp16:
        raise UsageError(
            f"precision 'fp16' is not available: engine {engine!r} does not support fp16; use engine auto, or bf16"
        )
    if precision == "fp16" and not has_fp16(device):
        raise UsageError("precision 'fp16' is not available: this processor has no fp16 arithmetic; use fp32 or bf16")


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the device has bf16 matrix products in hardware; otherwise, they are slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_fast_high(device: torch.device | str = "cpu") -> bool:
    """Return whether ``high`` is faster than fp32 on a device."""
    device = torch.device(device)
    return engine_named("auto", device).fast_high(device)


def has_fp16(device: torch.device) -> bool:
    """Return whether the device has fp16 matrix products in hardware."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def products_in(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return a context for the forward pass in which matrix products run in ``bf16`` or ``fp16``.

    Weights and gradients stay fp32; the backward pass uses the same dtypes as the forward pass. Rounded weights are not
    kept: PyTorch would keep them to the end of the outermost ``autocast``, which here is that of the whole training.
    """
    if precision not in _DTYPES:
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision], cache_enabled=False)


@contextmanager
def fp32_products_in(precision: str) -> Iterator[None]:
    """Compute fp32 matrix products in full fp32, or at precision ``high``, in forward and backward passes.

    ``high`` is TF32 on a GPU; cuDNN's layers have a setting of their own.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "high" else "highest")
    try:
        with _tf32_layers() if precision == "high" else nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _tf32_layers() -> Iterator[None]:
    """Let cuDNN's recurrent layers use TF32 within the block."""
    unit, name = (torch.backends.cudnn.rnn, "fp32_precision") if _HAS_UNITS else (torch.backends.cudnn, "allow_tf32")
    before = getattr(unit, name)
    setattr(unit, name, "tf32" if _HAS_UNITS else True)
    try:
        yield
    finally:
        setattr(unit, name, before)


@contextmanager
def as_configured(device: torch.device, threads: int = 0) -> Iterator[None]:
    """Make PyTorch follow the configuration within the block, regardless of the calling program's global settings.

    Products of fp32 are not rounded to TF32 or bf16, new tensors are fp32, autocast is off, and gradients are enabled.
    At the end of the block, these settings, the number of threads and the random generators are restored. On a GPU,
    ``CUBLAS_WORKSPACE_CONFIG`` is set to ``:4096:8`` unless it has a value: the sums of cuBLAS then have one order.

    Args:
        device: the device of the computation.
        threads: number of PyTorch's threads; 0 leaves it unchanged.
    """
    dtype, number = torch.get_default_dtype(), torch.get_num_threads()
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cuda = [device] if device.type == "cuda" else []
    with (
        _exact_fp32(),
        torch.autocast(device.type, enabled=False),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=cuda),
    ):
        try:
            torch.set_default_dtype(torch.float32)
            if threads:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_default_dtype(dtype)
            if threads:
                torch.set_num_threads(number)


_HAS_UNITS = hasattr(torch.backends.cudnn, "rnn")
"""Whether each backend has a precision setting of its own: since PyTorch 2.9."""
_UNITS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
"""Those backends; cuDNN's recurrent layers use TF32 by default."""


@contextmanager
def _exact_fp32() -> Iterator[None]:
    """Disable reduced-precision fp32 products in PyTorch's old and new settings; a program can use both."""
    units = [get(torch.backends) for get in map(attrgetter, _UNITS)] if _HAS_UNITS else []
    each = [unit.fp32_precision for unit in units]
    products = tf32 = None
    with suppress(RuntimeError):  # the old settings cannot be read once a new one was set
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        tf32 = torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        for unit in units:
            unit.fp32_precision = "ieee"
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if tf32 is not None:
            torch.backends.cudnn.allow_tf32 = tf32
        for unit, kind in zip(units, each, strict=True):
            unit.fp32_precision = kind


def choose_device(name: str) -> torch.device:
    """Return the device named by ``runtime.device``; ``auto`` selects a GPU if there is one.

    Raises:
        UsageError: the device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"Gatewise does not support {device.type}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0]
        raise UsageError(f"device {name!r} is not available ({reason}); expected auto, cpu or cuda") from None
    return device
