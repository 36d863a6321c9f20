"""Packing of rows of unequal length: longest first, so that the active rows are always the first n."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Packing(NamedTuple):
    """The positions of all rows when sorted by length and packed step by step.

    Step k of the loop is the k-th step that a row reads; in a reverse pass, its k-th last.
    """

    counts: Sequence[int]
    """The number of active rows in each step of the loop."""
    gather: Tensor | None
    """(N,): for each packed position, its index in (T·B); None if they are the same."""
    order: Tensor | None
    """(B,): the rows, longest first; None if they keep their order."""
    last: Tensor | None
    """(B,): for each sorted row, the packed position of its last step, −1 if none. None: the last B positions."""

    @classmethod
    def plan(cls, T: int, B: int, lengths: Tensor | None, reverse: bool, device: torch.device) -> "Packing":
        """Plan a pass over (T, B)."""
        if lengths is None:
            if not reverse:
                return cls([B] * T, None, None, None)
            gather = torch.arange(T * B, device=device).view(T, B).flip(0).flatten()
            return cls([B] * T, gather, None, None)
        ordered, order = lengths.sort(descending=True, stable=True)
        steps = torch.arange(int(ordered[0]) if B else 0, device=ordered.device)
        at_work = steps[:, None] < ordered  # (steps, B)
        counts = at_work.sum(1)
        time = ordered - 1 - steps[:, None] if reverse else steps[:, None].expand(-1, B)
        gather = (time * B + order)[at_work]
        start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        place = start[(ordered - 1).clamp(min=0)] + torch.arange(B, device=ordered.device)
        last = torch.where(ordered > 0, place, -1)
        return cls(counts.tolist(), *(_sent(part, device) for part in (gather, order, last)))

    @property
    def total(self) -> int:
        """N."""
        return sum(self.counts)

    def pack(self, x: Tensor) -> Tensor:
        """Convert (T, B, K) to (N, K)."""
        rows = x.reshape(-1, x.shape[-1])
        return rows if self.gather is None else rows.index_select(0, self.gather)

    def unpack(self, rows: Tensor, T: int, B: int) -> Tensor:
        """Convert (N, K) to (T, B, K), with zeros past the length of a row."""
        if self.gather is None:
            return rows.view(T, B, rows.shape[-1])
        out = rows.new_zeros(T * B, rows.shape[-1])
        return out.index_copy_(0, self.gather, rows).view(T, B, rows.shape[-1])

    def sort(self, state: Tensor) -> Tensor:
        """Return a copy of (B, K) in the order of the loop."""
        return state.clone() if self.order is None else state.index_select(0, self.order)

    def unsort(self, state: Tensor) -> Tensor:
        """Return (B, K) in the order of the batch."""
        return state if self.order is None else torch.empty_like(state).index_copy_(0, self.order, state)

    def at_end(self, rows: Tensor, before: Tensor) -> Tensor:
        """Return a copy of the last step of each row of (N, K); of ``before`` (sorted) for rows without steps."""
        if not self.counts:
            return before.clone()
        if self.last is None:
            return rows[-self.counts[-1] :].clone() if self.counts[-1] else before.clone()
        picked = rows.index_select(0, self.last.clamp(min=0))
        return torch.where((self.last < 0)[:, None], before, picked)

    def step_before(self, rows: Tensor, before: Tensor) -> Tensor:
        """Return, for each packed row, its value one step earlier: (N, K) from (N, K) and the sorted (B, K)."""
        if not self.counts:
            return rows
        first, N = self.counts[0], self.total
        if self.last is None:
            return torch.cat([before, rows[: N - first]])
        counts = torch.tensor(self.counts, device=rows.device)
        place = torch.arange(first, N, device=rows.device)
        return torch.cat([before[:first], rows.index_select(0, place - counts[:-1].repeat_interleave(counts[1:]))])


def _sent(indices: Tensor, device: torch.device) -> Tensor:
    """Copy indices to a device, without waiting for it if they are on the CPU."""
    if device.type == "cuda" and not indices.is_cuda:
        return indices.pin_memory().to(device, non_blocking=True)
    return indices.to(device)
