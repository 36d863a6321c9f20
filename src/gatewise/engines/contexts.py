"""What surrounds a call: whether tensors are plain memory that an engine may be given, and what cannot be followed."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad

USE_INSTEAD = "use torch.export.export or torch.compile, or give its weights to PyTorch's own module"
"""What to do where a graph of another kind is refused."""

_PLAIN = (Tensor, torch.nn.Parameter)


def is_plain(tensors: Iterable[Tensor | None]) -> bool:
    """Whether an engine may be given these tensors: real memory, and nothing that must see each operation on it.

    It may not within ``torch.func``'s transforms and forward-mode differentiation, below dispatch modes (fake tensors,
    ``make_fx``, counters of operations), or where a tensor is a subclass, on the device meta, or has no storage. What
    is computed there is computed in PyTorch's own operations. The answer takes a microsecond or two.
    """
    if is_transformed() or torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None:
        return False
    for t in tensors:
        if t is not None and (type(t) not in _PLAIN or t.is_meta or not torch._C._has_storage(t)):
            return False
    return True


def is_transformed() -> bool:
    """Whether one of ``torch.func``'s transforms, or forward-mode differentiation, is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def refuse_tracing(what: str) -> None:
    """Refuse to be run under ``torch.jit.trace``, whose graph would hold this call's sizes and numbers as constants.

    Raises:
        RuntimeError: it is.
    """
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError(f"{what} cannot be traced by torch.jit; {USE_INSTEAD}")


def refuse_onnx(what: str) -> None:
    """Refuse to be exported to ONNX, which has no such operator.

    Raises:
        RuntimeError: it is.
    """
    if _in_onnx_export():
        raise RuntimeError(f"{what} cannot be exported to ONNX; {USE_INSTEAD}")


def _in_onnx_export() -> bool:
    return torch.onnx.is_in_onnx_export()


# A compiler would take PyTorch's answers to these for constants, wrong ones. It asks them while it makes a graph, as
# torch.compiler.assume_constant_result would have it, which imports the compiler.
for _question in (is_transformed, _in_onnx_export):
    _question._dynamo_marked_constant = True  # type: ignore[attr-defined]


def known_numbers(tensor: Tensor | None) -> list[int]:
    """Return the whole numbers that a tensor holds, all rows that ``vmap`` maps over included; none where unknown."""
    if torch.compiler.is_compiling():
        return []
    while tensor is not None and torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor is None or type(tensor) is not Tensor or tensor.is_meta:
        return []
    return tensor.detach().flatten().tolist()
