"""The context of a call: whether an engine can take its tensors, and which graph tracers are not supported."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad

USE_INSTEAD = "use torch.export.export or torch.compile, or load its weights into PyTorch's own module"
"""The advice in the error about an unsupported tracer."""

_PLAIN = (Tensor, torch.nn.Parameter)


def is_plain(tensors: Iterable[Tensor | None]) -> bool:
    """Return whether an engine can take these tensors: they own memory, and nothing intercepts operations on them.

    It cannot within a ``torch.func`` transform or forward-mode differentiation, under a dispatch mode (fake tensors,
    ``make_fx``, operation counters), or if a tensor is a subclass, is on the meta device or has no storage. In these
    cases the pass is computed in PyTorch's operations. The check takes a microsecond or two.
    """
    if is_transformed() or torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None:
        return False
    for t in tensors:
        if t is not None and (type(t) not in _PLAIN or t.is_meta or not torch._C._has_storage(t)):
            return False
    return True


def is_transformed() -> bool:
    """Return whether a ``torch.func`` transform or forward-mode differentiation is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def refuse_tracing(what: str) -> None:
    """Reject tracing by ``torch.jit.trace``, whose graph would hold the sizes and values of this call as constants.

    Raises:
        RuntimeError: ``torch.jit`` is tracing.
    """
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError(f"{what} cannot be traced by torch.jit; {USE_INSTEAD}")


def refuse_onnx(what: str) -> None:
    """Reject export to ONNX, which has no such operator.

    Raises:
        RuntimeError: an export to ONNX is in progress.
    """
    if _in_onnx_export():
        raise RuntimeError(f"{what} cannot be exported to ONNX; {USE_INSTEAD}")


def _in_onnx_export() -> bool:
    return torch.onnx.is_in_onnx_export()


# Dynamo would replace the calls inside these functions by wrong constants. Marked like this, they are evaluated while
# the graph is traced, as with torch.compiler.assume_constant_result, which would import the compiler.
for _question in (is_transformed, _in_onnx_export):
    _question._dynamo_marked_constant = True  # type: ignore[attr-defined]


def known_numbers(tensor: Tensor | None) -> list[int]:
    """Return the integers in a tensor, including all rows that ``vmap`` maps over; an empty list if unknown."""
    if torch.compiler.is_compiling():
        return []
    while tensor is not None and torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor is None or type(tensor) is not Tensor or tensor.is_meta:
        return []
    return tensor.detach().flatten().tolist()
