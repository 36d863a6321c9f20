"""The loop's work where sequences stand alone: shuffled batches, with nothing carried from one to the next."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

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
    """Batches of ``data.batch_size`` examples in an order that follows from seed and epoch alone.

    What is left over after the last full batch sits out that epoch. Where lengths are given, a batch holds examples of
    nearly the same length, and the order of the batches is drawn.

    Args:
        config: the run's configuration.
        model: what is trained.
        run: where the best weights go.
        group: the processes; each takes its share of every batch.
        count: N, the examples.
        lengths: (N,) steps of each; None where all have the same.
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
                f"{count} examples to train on for {group.world_size} processes; expected one for each at least"
            )
        self.steps_per_epoch = count // self.batch_size
        self.forward: nn.Module = DistributedDataParallel(model) if group.world_size > 1 else model
        self.begin_epoch(1)

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self._model

    def begin_epoch(self, epoch: int) -> None:
        """Draw the epoch's order."""
        draw = np.random.default_rng([self.config.training.seed, epoch])
        order = draw.permutation(self.count)[: self.steps_per_epoch * self.batch_size]
        if self.lengths is not None:
            order = order[np.argsort(self.lengths[order], kind="stable")]
        self._batches = order.reshape(self.steps_per_epoch, self.batch_size)
        if self.lengths is not None:
            self._batches = draw.permutation(self._batches)

    def batch(self, step: int) -> Indices:
        """Return the examples of a step, of all processes together."""
        indices: Indices = self._batches[step]
        return indices

    def share(self, indices: Indices) -> Indices:
        """Return this process's part of some examples."""
        return indices[self.group.rank :: self.group.world_size]

    def tokens_in(self, step: int) -> int:
        """Return how many tokens a step has: its sequences, where nothing else is said."""
        return self.batch_size

    @abstractmethod
    def cost(self, step: int) -> tuple[Tensor, float]:
        """Return this process's share of the cost, such that the mean over the processes is the cost; and 1."""

    @abstractmethod
    def validate(self) -> tuple[Metrics, float]:
        """Return the validation figures, and the one that must fall."""

    def carry_on(self) -> None:  # noqa: B027
        """Do nothing: no state is carried."""

    def carried(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def restore(self, carried: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Do nothing: the order follows from the epoch."""

    def describe(self, loss: float) -> tuple[str, float]:
        """The mean loss of a step."""
        return "loss", loss

    def save_best(self, facts: Mapping[str, int]) -> None:
        """Write ``model.safetensors``."""
        save_weights(self.model, self.run, self.config, facts)
