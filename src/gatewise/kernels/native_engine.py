"""The engine in C++ (``csrc/``): whole layer passes on the CPU, without a tensor operation in between.

What it does not compute, ``why_not`` says in words for a pass, ``NOT_COMPUTED`` for all; it goes to the torch engine.
"""

import shutil
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import UsageError
from gatewise.kernels.contract import (
    LayerGradients,
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    state_size,
    work_dtype,
)
from gatewise.kernels.torch_engine import TorchEngine
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
    """
    numbers = {"fp32": "float32", "high": "high", "bf16": "bfloat16"}[precision]
    return max(float(_native.product_rate(threads, getattr(_native.Numbers, numbers))) for _ in range(5)) / 1e9


def why_not(inputs: LayerInputs, options: LayerOptions) -> str | None:
    """Say why a pass goes to the torch engine; None where it is computed here."""
    dtypes = {t.dtype for t in inputs[:8] if t is not None}
    if inputs.w_hr is not None:
        return "the output is projected"
    if inputs.x.device.type != "cpu":
        return f"the tensors are on {inputs.x.device}"
    if not dtypes <= {torch.float32, torch.bfloat16} and dtypes != {torch.float64}:
        return f"the tensors are {', '.join(sorted(str(d).removeprefix('torch.') for d in dtypes))}"
    if options.products not in (None, torch.bfloat16, inputs.h_0.dtype) or (
        options.products == torch.bfloat16 and torch.float64 in dtypes
    ):
        return f"products in {str(options.products).removeprefix('torch.')} are asked for"
    return None


class NativeEngine:
    """Hands addresses to ``gatewise.kernels._native``; ``csrc/passes.hpp`` says what stands behind each."""

    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass."""
        if why_not(inputs, options):
            return _NEXT.forward(inputs, options)
        dtype, out = work_dtype(inputs), inputs.h_0.dtype
        given = _in_memory(inputs, dtype)
        (T, B), H = inputs.x.shape[:2], state_size(inputs)
        gates, lstm = len(GATES[options.cell]), options.cell == "lstm"

        def new(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=dtype)

        saved = [new(*shape) for shape in self._kept(inputs, options)] if options.save else []
        if options.known_shapes and inputs.lengths is not None:  # rows that no length reaches: equal at every call
            saved = [t.zero_() for t in saved]
        y, h_n, c_n = new(T, B, H), new(B, H), new(B, H) if lstm else new(0)
        trace = [new(T, B, gates * H)] if options.trace and gates > 1 else []
        trace += [new(T, B, H)] if options.trace and lstm else []
        _native.forward(
            _describe(given, options, out),
            torch.get_num_threads(),
            *addresses(y, h_n, c_n if lstm else None, *(saved or (None, None)), *trace, *(None,) * (2 - len(trace))),
        )
        return LayerOutputs(y.to(out), h_n.to(out), c_n.to(out), saved, [t.to(out) for t in trace])

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
        if why_not(inputs, options):
            return _NEXT.backward(inputs, outputs, dy, dh_n, dc_n, options, needs_dx)
        dtype, lstm = work_dtype(inputs), inputs.c_0 is not None
        given = _in_memory(inputs, dtype)
        y, dy, dh_n, dc_n = (t.to(dtype).contiguous() for t in (outputs.y, dy, dh_n, dc_n))
        # In the order of LayerGradients.
        found = [
            torch.empty(t.shape, dtype=dtype) if t is not None and (k or needs_dx) else None
            for k, t in enumerate(given[:7])
        ]
        _native.backward(
            _describe(given, options, inputs.h_0.dtype),
            torch.get_num_threads(),
            *addresses(y, *(outputs.saved or (None, None)), dy, dh_n, dc_n if lstm else None, *found),
        )
        typed = [None if d is None or t is None else d.to(t.dtype) for d, t in zip(found, inputs, strict=False)]
        return LayerGradients._make((*typed, None))

    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return the shapes of what is kept: the gates of all packed rows, and c or ``W_hn h' + b_hn``."""
        if why_not(inputs, options):
            return _NEXT.saved_shapes(inputs, options)
        return self._kept(inputs._replace(lengths=None), options)

    def _kept(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        (T, B), H, gates = inputs.x.shape[:2], state_size(inputs), len(GATES[options.cell])
        rows = T * B if inputs.lengths is None or options.known_shapes else int(inputs.lengths.sum())
        return [(rows, gates * H), (rows, H)] if gates > 1 else []


_NEXT = TorchEngine()


def _in_memory(inputs: LayerInputs, dtype: torch.dtype) -> LayerInputs:
    """The same in one dtype and without gaps: to be kept while their addresses are used."""
    *numbers, lengths = inputs
    given = (*(None if t is None else t.detach().to(dtype) for t in numbers), lengths)
    return LayerInputs._make(None if t is None else t.contiguous() for t in given)


def _describe(given: LayerInputs, options: LayerOptions, out: torch.dtype) -> Any:
    x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, _, h_mask, lengths = given
    T, B, width = x.shape
    return _native.Given(
        _native.Cell[options.cell],
        numbers_for(x.dtype, options.products, out),
        *(T, B, width, h_0.shape[-1]),
        options.reverse,
        *addresses(lengths, x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, h_mask),
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
    except (
        RuntimeError
    ):  # a program has set the devices' own switches (PyTorch 2.9) unlike each other; the CPU's counts
        return torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")  # type: ignore[attr-defined]


def addresses(*tensors: Tensor | None) -> list[int]:
    """Where tensors lie, who must live as long as the addresses are used; 0 for None."""
    return [0 if t is None else t.data_ptr() for t in tensors]
