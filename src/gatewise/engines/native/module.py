"""The extension module ``gatewise._native``: whether it is there, and what it can do on this processor."""

import shutil
from importlib import import_module
from typing import Any

import torch

from gatewise.errors import UsageError

NAME = "gatewise._native"

native: Any = None
"""The extension module; None where it cannot be had."""
_PROBLEM = ""
try:
    native = import_module(NAME)
except ModuleNotFoundError as error:
    if error.name != NAME:
        raise
except ImportError as error:  # it is there, but is damaged, or was built for another system
    _PROBLEM = " ".join(str(error).split())


def why_not_built() -> str | None:
    """Say why there is no native engine at all, and what to do; None where there is one."""
    if native is not None:
        return None
    if _PROBLEM:
        return f"its module does not load ({_PROBLEM}); install Gatewise again"
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        return "it was not built, since no C++ compiler was found; get g++ or clang++ and install Gatewise again"
    return f"it was not built, though {compiler} is here; install Gatewise again with pip install -v, which shows why"


def instructions() -> tuple[str, list[str]]:
    """Return the instruction set in use, and all that this build and this processor have.

    Raises:
        UsageError: ``GATEWISE_INSTRUCTIONS`` names another.
    """
    check_instructions()
    return str(native.rung()), list(native.rungs())


def check_instructions() -> None:
    """Check that the instruction set can be had that ``GATEWISE_INSTRUCTIONS`` asks for; read once, at import.

    Raises:
        UsageError: it cannot.
    """
    if _WRONG_INSTRUCTIONS:
        raise UsageError(_WRONG_INSTRUCTIONS)


def _wrong_instructions() -> str:
    """What is wrong with ``GATEWISE_INSTRUCTIONS``, or nothing."""
    try:
        if native is not None:
            native.rung()
    except RuntimeError as error:
        return str(error)
    return ""


_WRONG_INSTRUCTIONS = _wrong_instructions()


def product_rate(threads: int, precision: str = "fp32") -> float:
    """Measure the GFLOP/s that this processor's products cannot exceed: tiles in the first-level cache.

    Args:
        threads: that multiply at a time.
        precision: ``fp32``, ``high`` or ``bf16``, as ``training.precision``.

    Raises:
        ValueError: there is no such precision, or not 1 to 4096 threads.
    """
    numbers = {"fp32": "float32", "high": "high", "bf16": "bfloat16"}.get(precision)
    if numbers is None:
        raise ValueError(f"precision is {precision!r}; expected 'fp32', 'high' or 'bf16'")
    if not 1 <= threads <= 4096:
        raise ValueError(f"threads is {threads}; expected 1 to 4096")
    return max(float(native.product_rate(threads, getattr(native.Numbers, numbers))) for _ in range(5)) / 1e9


def numbers_for(dtype: torch.dtype, high: bool, *asked: torch.dtype | None) -> Any:
    """Return what a pass in ``dtype`` computes with, whose products or outputs are asked for in other dtypes."""
    if dtype == torch.float64:
        return native.Numbers.float64
    if torch.bfloat16 in asked:
        return native.Numbers.bfloat16
    return native.Numbers.high if high else native.Numbers.float32


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name without ``torch.``."""
    return str(dtype).removeprefix("torch.")
