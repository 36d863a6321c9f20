"""The extension module ``gatewise._native``: whether it is available, and what it supports on this processor."""

from importlib import import_module
from typing import Any

import torch

from gatewise.errors import UsageError
from gatewise.runtime import library

NAME = library.NAME

native: Any = None
"""The extension module; None if it is not available."""
_PROBLEM = ""
try:
    native = import_module(NAME)
except ModuleNotFoundError as error:
    if error.name != NAME:
        raise
except ImportError as error:  # it exists but is damaged or was built for another system
    _PROBLEM = " ".join(str(error).split())

CELLS = tuple(native.Cell.__members__) if native is not None else ()
"""The names of the cells that it supports; a tuple, because a compiler cannot trace ``__members__``."""


def why_not_built() -> str | None:
    """Return the reason why the native engine is not available, with advice, or None."""
    if native is not None:
        return None
    if _PROBLEM:
        return f"its module cannot be loaded ({_PROBLEM}); reinstall Gatewise"
    return library.why_not_built()


def instructions() -> tuple[str, list[str]]:
    """Return the instruction set in use, and all that both this build and this processor support.

    Raises:
        UsageError: ``GATEWISE_INSTRUCTIONS`` names one that is not available.
    """
    check_instructions()
    return str(native.instruction_set()), list(native.instruction_sets())


def check_instructions() -> None:
    """Check that the instruction set in ``GATEWISE_INSTRUCTIONS`` is available; the variable is read once, at import.

    Raises:
        UsageError: it is not.
    """
    if _WRONG_INSTRUCTIONS:
        raise UsageError(_WRONG_INSTRUCTIONS)


def _wrong_instructions() -> str:
    """Return what is wrong with ``GATEWISE_INSTRUCTIONS``, or an empty string."""
    try:
        if native is not None:
            native.instruction_set()
    except RuntimeError as error:
        return str(error)
    return ""


_WRONG_INSTRUCTIONS = _wrong_instructions()


def product_rate(threads: int, precision: str = "fp32") -> float:
    """Measure the peak GFLOP/s of matrix products on this processor, with tiles in the L1 cache.

    Args:
        threads: the number of threads.
        precision: ``fp32``, ``high`` or ``bf16``, as in ``training.precision``.

    Raises:
        ValueError: the precision is unknown, or threads is not 1 to 4096.
    """
    numbers = {"fp32": "float32", "high": "high", "bf16": "bfloat16"}.get(precision)
    if numbers is None:
        raise ValueError(f"precision is {precision!r}; expected 'fp32', 'high' or 'bf16'")
    if not 1 <= threads <= 4096:
        raise ValueError(f"threads is {threads}; expected 1 to 4096")
    return max(float(native.product_rate(threads, getattr(native.Numbers, numbers))) for _ in range(5)) / 1e9


def numbers_for(dtype: torch.dtype, high: bool, *asked: torch.dtype | None) -> Any:
    """Return the compute type of a pass in ``dtype`` whose products or outputs have the dtypes ``asked``."""
    if dtype == torch.float64:
        return native.Numbers.float64
    if torch.bfloat16 in asked:
        return native.Numbers.bfloat16
    return native.Numbers.high if high else native.Numbers.float32


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype without ``torch.``."""
    return str(dtype).removeprefix("torch.")
