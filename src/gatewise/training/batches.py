"""Workload for independent sequences: shuffled batches, with no state carried from one to the next."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import Config
from gatewise.errors import DataError
from gatewise.models.loading import save_weights
from gatewise.training.distributed import Group

Indices = npt.NDArray[np.int64]


class BatchWorkload(ABC):
    """Batches of ``data.batch_size`` examples in an order determined by seed and epoch only.

    The incomplete last batch of an epoch is dropped. With ``lengths``, each batch holds examples of similar length, and
    the batches are shuffled.

    Args:
        config: the run's configuration.
        model: the model to train.
        run: the folder for the best weights.
        group: the processes; each takes its share of every batch.
        count: N, the number of examples.
        lengths: (N,) number of steps of each example; None if all are equal.
    """

    token_name = "sequences"

    def __init__(
        self,
        config: Config,
        model: nn.Module,
        run: RunFolder,
        group: Group,
        count: int,
        lengths: Sequence[int] | Indices | None = None,
    ) -> None:
        self.config, self._model, self.run, self.group = config, model, run, group
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.count, self.batch_size = count, min(config.data.batch_size, count)
        if self.batch_size < group.world_size:
            raise DataError(
                f"{count} training examples for {group.world_size} processes; expected at least one per process"
            )
        self.steps_per_epoch = count // self.batch_size
        self.forward: nn.Module = DistributedDataParallel(model) if group.world_size > 1 else model
        self.begin_epoch(1)

    @property
    def model(self) -> nn.Module:
        """The model to train."""
        return self._model

    def begin_epoch(self, epoch: int) -> None:
        """Shuffle the examples for an epoch."""
        draw = np.random.default_rng([self.config.training.seed, epoch])
        order = draw.permutation(self.count)[: self.steps_per_epoch * self.batch_size]
        if self.lengths is not None:
            order = order[np.argsort(self.lengths[order], kind="stable")]
        self._batches = order.reshape(self.steps_per_epoch, self.batch_size)
        if self.lengths is not None:
            self._batches = draw.permutation(self._batches)

    def chosen(self, step: int) -> Indices:
        """Return the indices of a step's examples, over all processes."""
        indices: Indices = self._batches[step]
        return indices

    def share(self, indices: Indices) -> Indices:
        """Return this process's share of the examples."""
        return indices[self.group.rank :: self.group.world_size]

    def tokens_in(self, step: int) -> int:
        """Return the number of tokens in a step; by default, the number of sequences."""
        return self.batch_size

    @abstractmethod
    def inputs(self, step: int) -> Any:
        """Return this process's share of a step's batch, on the CPU."""

    @abstractmethod
    def cost(self, inputs: Any) -> tuple[Tensor, float]:
        """Return this process's cost, scaled so that the mean over the processes is the total cost, and 1."""

    @abstractmethod
    def validate(self) -> tuple[Metrics, float]:
        """Return the validation metrics, and the value to minimize."""

    def carry_on(self, made: Tensor | None = None) -> None:  # noqa: B027
        """Do nothing, since no state is carried."""

    def carried(self) -> Mapping[str, Tensor]:
        """Return an empty mapping, since no state is carried."""
        return {}

    def restore(self, carried: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Do nothing, since the order is determined by the epoch."""

    def describe(self, loss: float) -> tuple[str, float]:
        """Return the name ``loss`` and the mean loss."""
        return "loss", loss

    def save_best(self, facts: Mapping[str, int]) -> None:
        """Write ``model.safetensors``."""
        save_weights(self.model, self.run, self.config, facts)
