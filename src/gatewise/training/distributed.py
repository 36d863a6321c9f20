"""Several processes as one: what the loop asks of torch.distributed, and the same answers in a single process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from gatewise.errors import UsageError


class Group:
    """The processes that train together; ``rank`` 0 alone writes.

    Args:
        rank: this process's number.
        world_size: how many there are.
        device: where this process computes.
    """

    def __init__(self, rank: int, world_size: int, device: torch.device) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and progress."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """Return this process's share of the B rows.

        Raises:
            UsageError: the processes do not divide the batch.
        """
        share, rest = divmod(batch_size, self.world_size)
        if rest or not share:
            raise UsageError(
                f"batch_size is {batch_size} for {self.world_size} processes; expected a multiple of "
                f"{self.world_size}, as each process owns an equal share of the rows"
            )
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum(self, *values: float) -> list[float]:
        """Add up numbers over all processes."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is raised in any process; the same answer in all of them."""
        return [total > 0 for total in self.sum(*(float(flag) for flag in flags))]

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return every process's tensor of the same shape, in the order of their ranks, on the CPU."""
        if self.world_size == 1:
            return [tensor.cpu()]
        mine = tensor.to(self.device).contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(parts, mine)
        return [part.cpu() for part in parts]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """Join the processes that ``torchrun`` started (gloo on CPUs, NCCL on GPUs); alone, a group of one."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Group(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    # The last test is scored by one process while the others wait: hours for a large model on a slow machine.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    try:
        yield Group(dist.get_rank(), world_size, device)
    finally:
        dist.destroy_process_group()
