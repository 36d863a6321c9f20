"""TensorBoard scalars of a run: training loss, learning rate, metrics."""

from pathlib import Path

from gatewise.artifact.run_folder import Metrics


class Scalars:
    """Writes TensorBoard event files.

    Args:
        folder: the folder for event files; None writes nothing.
        every: number of steps between two points of the training loss.
        from_step: hide points at or after this step that were left by an interrupted run.
    """

    def __init__(self, folder: Path | None, every: int = 1, from_step: int = 0) -> None:
        self._every = every
        self._writer = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=from_step or None)

    def step(self, step: int, loss: float) -> None:
        """Add a point of the training loss, in nats per token."""
        if self._writer is not None and step % self._every == 0:
            self._writer.add_scalar("train/loss", loss, step)

    def epoch(self, step: int, metrics: Metrics) -> None:
        """Add the metrics of an evaluation."""
        if self._writer is not None:
            for name, value in metrics.items():
                if name not in ("epoch", "seconds") and not isinstance(value, str):
                    self._writer.add_scalar(f"epoch/{name}", value, step)
            self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()
