"""The state of a recurrent stack as a value: kept, moved, reset, saved; nothing changes it in place."""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from typing_extensions import Self

from gatewise.artifact.atomic import write_atomically


class _Value:
    """What a state can do, whatever it is made of. Each part is (L·D, B, size), or (L·D, size) of unbatched input."""

    __slots__ = ()

    def detach(self: Self) -> Self:
        """Return the same values, cut off from the graph that made them; the memory is shared."""
        return type(self)(*(part.detach() for part in self))  # type: ignore[attr-defined]

    def to(self: Self, *args: object, **kwargs: object) -> Self:
        """Return the state on another device or in another dtype; the arguments are those of ``Tensor.to``."""
        return type(self)(*(part.to(*args, **kwargs) for part in self))  # type: ignore[attr-defined]

    def reset(self: Self, mask: Tensor) -> Self:
        """Return the state with some rows at zero, where a new sequence begins in them.

        Args:
            mask: (B,) bool, true where the row begins anew.

        Raises:
            ValueError: the mask is not of that shape and dtype.
        """
        rows = self[0].shape[-2]  # type: ignore[index]
        if mask.dtype != torch.bool or mask.shape != (rows,):
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected torch.bool of shape ({rows},), a row each"
            )
        return type(self)(*(part.masked_fill(mask.to(part.device)[:, None], 0) for part in self))  # type: ignore[attr-defined]

    def save(self, path: str | Path) -> None:
        """Write the state as a safetensors file, whole or not at all."""
        parts = zip(self._fields, self, strict=True)  # type: ignore[attr-defined,call-overload]
        write_atomically(Path(path), save_tensors({name: part.detach().contiguous() for name, part in parts}))

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is no safetensors file, or holds something else.
            OSError: it cannot be read.
        """
        names = set(cls._fields)  # type: ignore[attr-defined]
        try:
            found = load_tensors(Path(path).read_bytes())
        except SafetensorError as problem:
            raise ValueError(f"{path}: this is no safetensors file ({problem}); expected a saved state") from None
        if set(found) != names:
            raise ValueError(f"{path}: holds {sorted(found)}; expected {sorted(names)}, the parts of a {cls.__name__}")
        return cls(*(found[name].to(device) for name in cls._fields))  # type: ignore[attr-defined]


class _LSTMParts(NamedTuple):
    h: Tensor
    c: Tensor


class LSTMState(_LSTMParts, _Value):
    """``(h, c)`` of an LSTM: it unpacks as PyTorch's ``(h_n, c_n)`` does."""

    __slots__ = ()


class _RNNParts(NamedTuple):
    h: Tensor


class RNNState(_RNNParts, _Value):
    """``(h,)`` of a GRU or a plain RNN. PyTorch's modules take and return the bare tensor, and so do ours given one."""

    __slots__ = ()
