"""What surrounds a call: whether tensors are plain memory that an engine may be given, and what cannot be followed."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad

_PLAIN = (Tensor, torch.nn.Parameter)


def is_plain(tensors: Iterable[Tensor | None]) -> bool:
    """Whether an engine may be given these tensors: real memory, and nothing that must see each operation on it.

    It may not within ``torch.func``'s transforms and forward-mode differentiation, below dispatch modes (fake tensors,
    ``make_fx``, counters of operations), or where a tensor is a subclass, on the device meta, or has no storage. What
    is computed there is computed in PyTorch's own operations. The answer takes a microsecond or two.
    """
    if (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    ):
        return False
    for t in tensors:
        if t is not None and (type(t) not in _PLAIN or t.is_meta or not torch._C._has_storage(t)):
            return False
    return True


def refuse_tracing(what: str, instead: str = "") -> None:
    """Refuse to be run under ``torch.jit.trace``, whose graph would hold this call's sizes and numbers as constants.

    Raises:
        RuntimeError: it is.
    """
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError(f"{what} cannot be traced by torch.jit; use torch.export.export or torch.compile{instead}")


def known_numbers(tensor: Tensor | None) -> list[int]:
    """Return the whole numbers that a tensor holds, all rows that ``vmap`` maps over included; none where unknown."""
    while tensor is not None and torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor is None or type(tensor) is not Tensor or tensor.is_meta:
        return []
    return tensor.detach().flatten().tolist()
