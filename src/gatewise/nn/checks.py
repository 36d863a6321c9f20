"""Checks of the inputs of a recurrent stack; a one-line error says what was found, what was expected, what to do."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.spec import CELLS, RecurrentSpec


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype that autocast sets for products on a device; None if it is off, as always on meta."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if kind != "meta" and torch.is_autocast_enabled(kind) else None


def check_input(x: Tensor, input_size: int, batch_first: bool, like: Tensor) -> None:
    """Check that the input has the right shape, and the dtype and device of the parameters.

    Raises:
        ValueError: it does not.
    """
    order = "(B, T, I)" if batch_first else "(T, B, I)"
    if x.dim() not in (2, 3):
        raise ValueError(
            f"input has {x.dim()} dimensions, {tuple(x.shape)}; expected 3, {order}, or 2 without a batch, (T, I)"
        )
    if x.shape[-1] != input_size:
        raise ValueError(
            f"input has {x.shape[-1]} features per step, {tuple(x.shape)}; expected input_size = {input_size} in "
            f"the last dimension of {order if x.dim() == 3 else '(T, I)'}"
        )
    if x.device != like.device:
        raise ValueError(f"input is on {x.device}, the parameters on {like.device}; move one with .to(...)")
    if x.dtype != like.dtype and not (x.is_floating_point() and autocast_dtype(x.device)):
        raise ValueError(f"input is {x.dtype}, the parameters {like.dtype}; convert one with .to(...)")


def check_lengths(lengths: Any, rows: int, unbatched: bool) -> Tensor:
    """Return lengths as an int64 tensor; their range is checked where they are used.

    Raises:
        ValueError: they are not integers, or there is not one for each row.
    """
    if unbatched:
        raise ValueError("lengths was given with unbatched input; slice the input instead: x[:length]")
    if not isinstance(lengths, Tensor):
        try:
            lengths = torch.tensor(lengths, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            found = type(lengths).__name__
            raise ValueError(f"lengths is a {found}; expected integers, one for each row of the batch") from None
    whole = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool)
    if lengths.numel() and not whole:
        raise ValueError(f"lengths holds {lengths.dtype}; expected integers, one for each row")
    if lengths.shape != (rows,):
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}; expected ({rows},), one for each row of the batch")
    checked: Tensor = lengths.long()
    return checked


def check_trace(trace: Sequence[str], cell: str) -> tuple[str, ...]:
    """Return the names to trace; a single name may be given as a string.

    Raises:
        ValueError: the cell has no such gate or state.
    """
    names = (trace,) if isinstance(trace, str) else tuple(trace)
    for name in names:
        if name not in CELLS[cell].traced:
            raise ValueError(f"trace contains {name!r}; expected names from {', '.join(CELLS[cell].traced)}")
    return names


def check_state(hx: Any, spec: RecurrentSpec, rows: int | None, like: Tensor) -> Sequence[Tensor]:
    """Return the parts of a given state: h_0 and, for an LSTM, c_0. ``rows`` is None without a batch.

    Raises:
        ValueError: a part is missing or has the wrong shape, dtype or device.
    """
    names = [f"{name}_0" for name in spec.about.states]
    if len(names) == 1 and isinstance(hx, Tensor):
        hx = (hx,)
    if not isinstance(hx, tuple | list) or len(hx) != len(names) or not all(isinstance(p, Tensor) for p in hx):
        found = f"a sequence of length {len(hx)}" if isinstance(hx, tuple | list) else f"a {type(hx).__name__}"
        count = {2: "two", 3: "three"}.get(len(names), len(names))
        wanted = "h_0, a tensor" if len(names) == 1 else f"({', '.join(names)}), {count} tensors"
        raise ValueError(f"hx is {found}; expected {wanted}")
    passes = spec.num_layers * spec.num_directions
    for name, part, size in zip(names, hx, spec.state_sizes, strict=True):
        expected = (passes, size) if rows is None else (passes, rows, size)
        if part.shape != expected:
            raise ValueError(
                f"{name} has shape {tuple(part.shape)}; expected {expected}: "
                f"(num_layers·{spec.num_directions}, {'' if rows is None else 'batch, '}size)"
            )
        if part.device != like.device or part.dtype != like.dtype:
            raise ValueError(
                f"{name} is {part.dtype} on {part.device}, the parameters {like.dtype} on {like.device}; "
                "convert one with .to(...)"
            )
    return hx
