"""The state of a recurrent stack as an immutable value, which can be moved, reset and saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.utils import _pytree as pytree

from gatewise.artifact.atomic import write_atomically
from gatewise.spec import CellSpec

S = TypeVar("S", bound="_Value")


class _Value:
    """The methods of every state. Each part is (L·D, B, size)."""

    __slots__ = ()

    def _each(self: S, change: Callable[[Tensor], Tensor]) -> S:
        return type(self)(*map(change, cast(tuple[Tensor, ...], self)))

    def detach(self: S) -> S:
        """Return the state detached from the autograd graph; the memory is shared."""
        return self._each(Tensor.detach)

    def to(self: S, *args: Any, **kwargs: Any) -> S:
        """Return the state on another device or in another dtype; the arguments are those of ``Tensor.to``."""
        return self._each(lambda part: part.to(*args, **kwargs))

    def reset(self: S, mask: Tensor) -> S:
        """Return the state with the rows zeroed in which a new sequence begins.

        Args:
            mask: (B,) bool, true for the rows to reset.

        Raises:
            ValueError: the mask has another shape or dtype.
        """
        rows = cast(tuple[Tensor, ...], self)[0].shape[1]
        if mask.dtype != torch.bool or mask.shape != (rows,):
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected torch.bool of shape ({rows},), "
                "one value per row"
            )
        return self._each(lambda part: part.masked_fill(mask.to(part.device)[:, None], 0))

    def save(self, path: str | Path) -> None:
        """Write the state to a safetensors file, atomically."""
        parts = cast(NamedTuple, self)._asdict()
        # Copies, because safetensors rejects parts that share memory, as in LSTMState(zeros, zeros).
        own = {name: part.detach().clone(memory_format=torch.contiguous_format) for name, part in parts.items()}
        write_atomically(Path(path), save_tensors(own))

    @classmethod
    def load(cls: type[S], path: str | Path, device: str | torch.device = "cpu") -> S:
        """Read a state that ``save`` wrote.

        Raises:
            ValueError: the path is not a regular file, the file is not a safetensors file, or it holds anything but the
                parts of a state: finite numbers of one dtype and, except for the last axis, one shape.
            OSError: the file cannot be read.
        """
        names, place = cast(type[NamedTuple], cls)._fields, Path(path)
        if place.exists() and not place.is_file():  # reading a pipe would block
            raise ValueError(f"{path}: not a regular file; expected a saved state")
        try:
            found = load_tensors(place.read_bytes())
        except SafetensorError as problem:
            raise ValueError(f"{path}: not a safetensors file ({problem}); expected a saved state") from None
        if set(found) != set(names):
            raise ValueError(f"{path}: holds {sorted(found)}; expected {sorted(names)}, the parts of a {cls.__name__}")
        parts = [found[name] for name in names]
        if any(
            part.dim() != 3 or not part.is_floating_point() or part.dtype != parts[0].dtype or not part.isfinite().all()
            for part in parts
        ) or any(part.shape[:2] != parts[0].shape[:2] for part in parts):
            shapes = ", ".join(f"{name} {part.dtype} {tuple(part.shape)}" for name, part in found.items())
            raise ValueError(f"{path}: holds {shapes}; expected finite numbers (L·D, B, size), all of one dtype")
        return cls(*(part.to(device) for part in parts))


class _LSTMParts(NamedTuple):
    h: Tensor
    c: Tensor


class LSTMState(_LSTMParts, _Value):
    """The state ``(h, c)`` of an LSTM. It unpacks like PyTorch's ``(h_n, c_n)``."""

    __slots__ = ()


class _RNNParts(NamedTuple):
    h: Tensor


class RNNState(_RNNParts, _Value):
    """The state ``(h,)`` of a GRU or RNN. Given a bare tensor, as in PyTorch, the modules return a bare tensor."""

    __slots__ = ()


KINDS: dict[tuple[str, ...], type[Any]] = {("h", "c"): LSTMState, ("h",): RNNState}
"""The class of the state of a cell by the names of its states."""


def state_kind(cell: CellSpec) -> type[Any]:
    """Return the class of the state of a cell; a cell with other states than these gets its own."""
    if cell.states not in KINDS:
        own = NamedTuple("_Parts", [(name, Tensor) for name in cell.states])  # type: ignore[misc]
        KINDS[cell.states] = type("State", (own, _Value), {"__slots__": ()})
    return KINDS[cell.states]


# Lets torch.load(weights_only=True) read a state that torch.save wrote, and torch.export.save write a program that
# returns one.
torch.serialization.add_safe_globals([LSTMState, RNNState])
for _kind in (LSTMState, RNNState):
    pytree._register_namedtuple(_kind, serialized_type_name=f"{_kind.__module__}.{_kind.__qualname__}")
