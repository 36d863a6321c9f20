"""Wrapper of torch.distributed for the training loop, which also works in a single process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from gatewise.errors import UsageError


class Group:
    """The processes that train together; only rank 0 writes files.

    Args:
        rank: index of this process.
        world_size: number of processes.
        device: device of this process.
    """

    def __init__(self, rank: int, world_size: int, device: torch.device) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and progress."""
        return self.rank == 0

    @property
    def runs_ahead(self) -> bool:
        """Whether steps are queued on a device without waiting for their results: by a single process."""
        return self.device.type != "cpu" and self.world_size == 1

    def rows(self, batch_size: int) -> slice:
        """Return the slice of the B rows that belongs to this process.

        Raises:
            UsageError: the batch size is not a multiple of the number of processes.
        """
        share, rest = divmod(batch_size, self.world_size)
        if rest or not share:
            raise UsageError(
                f"batch_size is {batch_size} for {self.world_size} processes; expected a multiple of "
                f"{self.world_size}, so that each process gets an equal share of the rows"
            )
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum(self, *values: float) -> list[float]:
        """Return the sum of each value over all processes."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in any process; the result is the same in all of them."""
        return [total > 0 for total in self.sum(*(float(flag) for flag in flags))]

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which must have the same shape, in rank order on the CPU."""
        if self.world_size == 1:
            return [tensor.cpu()]
        mine = tensor.to(self.device).contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(parts, mine)
        return [part.cpu() for part in parts]

    def wait(self) -> None:
        """Wait until every process has called this method."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """Join the processes started by ``torchrun`` (gloo on CPUs, NCCL on GPUs); otherwise, a group of one."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Group(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    # The final test runs in one process while the others wait: hours for a large model on a slow machine.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    try:
        yield Group(dist.get_rank(), world_size, device)
    finally:
        dist.destroy_process_group()
