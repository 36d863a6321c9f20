"""TensorBoard's curves of one run: training loss, learning rate, perplexities."""

from pathlib import Path

from gatewise.artifact.run_folder import Metrics


class Scalars:
    """Writes event files under a folder; without a folder it writes nothing.

    Args:
        folder: where; None for no curves.
        every: steps between two points of the training loss.
        from_step: points at or after this step, left by a run that was cut off, are hidden.
    """

    def __init__(self, folder: Path | None, every: int = 1, from_step: int = 0) -> None:
        self._every = every
        self._writer = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=from_step or None)

    def step(self, step: int, loss: float) -> None:
        """Add a point of the training loss, in nats a token."""
        if self._writer is not None and step % self._every == 0:
            self._writer.add_scalar("train/loss", loss, step)

    def epoch(self, step: int, metrics: Metrics) -> None:
        """Add an epoch's figures."""
        if self._writer is not None:
            for name, value in metrics.items():
                if name not in ("epoch", "seconds"):
                    self._writer.add_scalar(f"epoch/{name}", value, step)
            self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
