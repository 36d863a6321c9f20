"""The engine in C++ (``csrc/``): whole layer passes on the CPU, without a tensor operation in between.

What it does not compute, ``why_not`` says in words for a pass, ``NOT_COMPUTED`` for all; ``auto`` leaves it to torch.
"""

import shutil
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import UsageError
from gatewise.kernels.boundary import Ready, addresses, new, readable
from gatewise.kernels.contract import (
    LayerGradients,
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    check_saved,
    packed_rows,
    state_size,
    work_dtype,
)
from gatewise.spec import GATES

_native: Any = None
"""The extension module; None where it cannot be had."""
_PROBLEM = ""
try:
    _native = import_module("gatewise.kernels._native")
except ModuleNotFoundError as error:
    if error.name != "gatewise.kernels._native":
        raise
except ImportError as error:  # it is there, but is damaged, or was built for another system
    _PROBLEM = " ".join(str(error).split())

NOT_COMPUTED = "projected LSTMs, fp16, mixed dtypes, tensors on a GPU"
"""What goes to the torch engine."""


def why_not_built() -> str | None:
    """Say why there is no native engine at all, and what to do; None where there is one."""
    if _native is not None:
        return None
    if _PROBLEM:
        return f"its module does not load ({_PROBLEM}); install Gatewise again"
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        return "it was not built, since no C++ compiler was found; get g++ or clang++ and install Gatewise again"
    return f"it was not built, though {compiler} is here; install Gatewise again with pip install -v, which shows why"


def instructions() -> tuple[str, list[str]]:
    """Return the instructions in use, and all that this build and this processor have.

    Raises:
        UsageError: ``GATEWISE_INSTRUCTIONS`` names others.
    """
    check_instructions()
    return str(_native.rung()), list(_native.rungs())


def check_instructions() -> None:
    """Check that the instructions can be had that ``GATEWISE_INSTRUCTIONS`` asks for; read once, at import.

    Raises:
        UsageError: they cannot.
    """
    if _WRONG_INSTRUCTIONS:
        raise UsageError(_WRONG_INSTRUCTIONS)


def _wrong_instructions() -> str:
    """What is wrong with ``GATEWISE_INSTRUCTIONS``, or nothing."""
    try:
        if _native is not None:
            _native.rung()
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
    return max(float(_native.product_rate(threads, getattr(_native.Numbers, numbers))) for _ in range(5)) / 1e9


def why_not(inputs: LayerInputs, options: LayerOptions) -> str | None:
    """Say why a pass is not computed here, but by the torch engine; None where it is computed here."""
    if inputs.w_hr is not None:
        return "the output is projected"
    if inputs.x.device.type != "cpu":
        return f"the tensors are on {inputs.x.device}"
    dtypes, products = {t.dtype for t in inputs[:8] if t is not None}, options.products
    if not dtypes <= {torch.float32, torch.bfloat16} and dtypes != {torch.float64}:
        return f"the tensors are {', '.join(sorted(str(d).removeprefix('torch.') for d in dtypes))}"
    if products not in (None, torch.bfloat16, inputs.h_0.dtype) or (
        products == torch.bfloat16 and torch.float64 in dtypes
    ):
        return f"products in {str(products).removeprefix('torch.')} are asked for"
    return None


def check_computed(inputs: LayerInputs, options: LayerOptions) -> None:
    """Check that a pass is computed here.

    Raises:
        ValueError: it is not; the reason in one line.
    """
    if reason := why_not(inputs, options):
        raise ValueError(refusal(reason))


def refusal(reason: str) -> str:
    """Say that what was asked of this engine is not computed, and what to do."""
    return f"engine 'native' cannot run this: {reason}; use engine='auto' or 'torch'"


class NativeEngine:
    """Hands addresses to ``gatewise.kernels._native``; ``csrc/passes.hpp`` says what stands behind each."""

    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass."""
        check_computed(inputs, options)
        dtype, out = work_dtype(inputs), inputs.h_0.dtype
        given = _in_memory(inputs, options, dtype)
        (T, B), H = inputs.x.shape[:2], state_size(inputs)
        gates, lstm = len(GATES[options.cell]), options.cell == "lstm"
        saved = [new(dtype, *shape) for shape in self._kept(inputs, options)] if options.save else []
        if options.known_shapes and inputs.lengths is not None:  # rows that no length reaches: equal at every call
            for t in saved:
                t.zero_()
        y, h_n, c_n = new(dtype, T, B, H), new(dtype, B, H), new(dtype, B, H) if lstm else new(dtype, 0)
        trace = [new(dtype, T, B, gates * H)] if options.trace and gates > 1 else []
        trace += [new(dtype, T, B, H)] if options.trace and lstm else []
        _native.forward(
            _describe(given, options, inputs),
            torch.get_num_threads(),
            *addresses(y, h_n, c_n if lstm else None, *(saved or (None, None)), *trace, *(None,) * (2 - len(trace))),
        )
        return LayerOutputs(y.to(out), h_n.to(out), c_n.to(out), list(saved), [t.to(out) for t in trace])

    def backward(
        self,
        inputs: LayerInputs,
        outputs: LayerOutputs,
        dy: Tensor,
        dh_n: Tensor,
        dc_n: Tensor,
        options: LayerOptions,
        needs_dx: bool,
    ) -> LayerGradients:
        """Return the gradients of the inputs."""
        check_computed(inputs, options)
        dtype, lstm = work_dtype(inputs), inputs.c_0 is not None
        given = _in_memory(inputs, options, dtype)
        (T, B), H = inputs.x.shape[:2], state_size(inputs)
        kept = self._kept(inputs, options)
        check_saved(outputs.saved, kept, dtype)
        saved = [readable(f"saved[{k}]", outputs.saved[k], dtype, *shape) for k, shape in enumerate(kept)]
        given_back = (
            readable("y", outputs.y, dtype, T, B, H),
            *(saved or (None, None)),
            readable("dy", dy, dtype, T, B, H),
            readable("dh_n", dh_n, dtype, B, H),
            readable("dc_n", dc_n, dtype, B, H) if lstm else None,
        )
        # In the order of LayerGradients.
        found = [new(dtype, *t.shape) if t is not None and (k or needs_dx) else None for k, t in enumerate(given[:7])]
        _native.backward(
            _describe(given, options, inputs),
            torch.get_num_threads(),
            *addresses(*given_back, *found),
        )
        typed = [None if d is None or t is None else d.to(t.dtype) for d, t in zip(found, inputs, strict=False)]
        return LayerGradients._make((*typed, None))

    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return the shapes of what is kept: the gates of all packed rows, and c or ``W_hn h' + b_hn``."""
        return self._kept(inputs._replace(lengths=None), options)

    def _kept(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        rows, H, gates = packed_rows(inputs, options), state_size(inputs), len(GATES[options.cell])
        return [(rows, gates * H), (rows, H)] if gates > 1 else []


_Given = tuple[Ready | None, ...]
"""LayerInputs, ready for C++: to be kept while their addresses are used."""


def _in_memory(inputs: LayerInputs, options: LayerOptions, dtype: torch.dtype) -> _Given:
    x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, _, h_mask, lengths = inputs
    (T, B, width), H, rows = x.shape, h_0.shape[-1], len(GATES[options.cell]) * h_0.shape[-1]
    return (
        readable("x", x, dtype, T, B, width),
        readable("h_0", h_0, dtype, B, H),
        None if c_0 is None else readable("c_0", c_0, dtype, B, H),
        readable("weight_ih", w_ih, dtype, rows, width),
        readable("weight_hh", w_hh, dtype, rows, H),
        None if b_ih is None else readable("bias_ih", b_ih, dtype, rows),
        None if b_hh is None else readable("bias_hh", b_hh, dtype, rows),
        None if h_mask is None else readable("h_mask", h_mask, dtype, B, H),
        None if lengths is None else readable("lengths", lengths, torch.int64, B),
    )


def _describe(given: _Given, options: LayerOptions, inputs: LayerInputs) -> Any:
    *numbers, lengths = given
    return _native.Given(
        _native.Cell[options.cell],
        numbers_for(work_dtype(inputs), options.products, inputs.h_0.dtype),
        *(*inputs.x.shape, inputs.h_0.shape[-1]),
        options.reverse,
        *addresses(lengths, *numbers),
    )


def numbers_for(dtype: torch.dtype, *asked: torch.dtype | None) -> Any:
    """Return what a pass in ``dtype`` computes with, whose products or outputs are asked for in other dtypes."""
    if dtype == torch.float64:
        return _native.Numbers.float64
    if torch.bfloat16 in asked:
        return _native.Numbers.bfloat16
    return _native.Numbers.float32 if _exact() else _native.Numbers.high


def _exact() -> bool:
    """Whether products of fp32 are to be computed in fp32."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # a program has set the devices' own switches (PyTorch 2.9) unlike each other
        return torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")  # type: ignore[attr-defined]
