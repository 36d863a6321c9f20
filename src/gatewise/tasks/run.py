"""A finished run: its metrics, its model, its evaluation, its training curves."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.data.in_memory import about_data, as_files, is_path
from gatewise.data.text import SPLITS
from gatewise.errors import InputError, RunError
from gatewise.models.language_model import LanguageModel
from gatewise.models.loading import load
from gatewise.predict.forecast import Forecast, forecast
from gatewise.tasks.evaluate import evaluate
from gatewise.wording import train_again

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Run:
    """A finished run.

    Args:
        path: the run folder.

    Attributes:
        path: the run folder.
        metrics: the last line of ``metrics.jsonl``: test metrics, baselines and the best epoch. A
            scratch-language-model has no test text, so its metrics are those of the training text.

    Raises:
        RunError: the folder contains no run, or one that is not finished.
    """

    def __init__(self, path: str | Path) -> None:
        folder = RunFolder.existing(path)
        final = folder.read_history(folder.read_config().task.name).final
        if final is None:
            raise RunError(f"{path}: this run is not finished; continue it with {train_again(str(path))}")
        self.path, self.metrics = folder.path, final

    @classmethod
    def of_another_process(cls, path: Path) -> "Run":
        """Return a run of several processes in one that did not write it; its metrics are empty."""
        run = cls.__new__(cls)
        run.path, run.metrics = path, Metrics()
        return run

    @property
    def history(self) -> list[Metrics]:
        """The metrics of each evaluation during training, in order: a list of mappings, as a data frame takes it."""
        return list(RunFolder(self.path).read_history().evaluations)

    @cached_property
    def model(self) -> Any:
        """The best model, in eval mode, as returned by ``gatewise.load``; loaded once."""
        return load(self.path)

    def evaluate(self, data: Any = None, *, split: str | None = None, device: str = "auto") -> dict[str, Any]:
        """Evaluate the best model on a split, in fp32.

        Args:
            data: other data than the run's own: a path, or data in memory as for ``gatewise.train``.
            split: ``train``, ``valid`` or ``test``. Defaults to ``test``, or to ``train`` on the own data of a run
                trained without a test text. Other data that is not split is read as a whole.
            device: the device to compute on; ``auto`` selects a GPU if there is one.

        Returns:
            The metrics that ``gatewise evaluate --json`` prints.

        Raises:
            InputError: ``split`` is none of these.
            DataError: the data is invalid.
            NotFinite: a metric is not finite.
        """
        if split not in (None, *SPLITS):
            raise InputError(f"split is {split!r}; expected 'train', 'valid' or 'test'")
        with self._as_path(data) as path:
            return evaluate(self.path, data=path, split=split, device=device)

    def forecast(self, data: Any = None, steps: int | str | None = None, interval: float | None = None) -> Forecast:
        """Forecast the values that follow the end of a series, as ``gatewise forecast`` does; gaps are filled likewise.

        Args:
            data: another series than the run's own: a path, or data in memory as for ``gatewise.train``.
            steps: the number of values, or a span of time such as ``"3 days"``; the horizon by default.
            interval: the level of the prediction intervals, such as 0.9; None for none.

        Returns:
            The forecasts: ``positions``, ``values`` and, with an interval, ``low`` and ``high``.

        Raises:
            UsageError: the run does not forecast a series, or not that many steps, or has no interval of this level.
            DataError: the series is invalid, or shorter than a window, or lacks columns known in advance.
            NotFinite: a forecast is not finite.
        """
        with self._as_path(data) as path:
            return forecast(self.path, path, steps, interval)

    @contextmanager
    def _as_path(self, data: Any) -> Iterator[Any]:
        """Write data from memory to a temporary file; a path, or None, stays as it is.

        Raises:
            InputError: data from memory is invalid.
        """
        if data is None or is_path(data):
            yield data
            return
        config = RunFolder(self.path).read_config()
        files = as_files(data, config.task.name, config.data)
        with tempfile.TemporaryDirectory(prefix="gatewise-") as folder:
            for name, content in files.content.items():
                (Path(folder) / name).write_bytes(content)
            path = Path(folder) / files.name
            with about_data(path):
                yield path

    def plot(self) -> "Figure":
        """Draw the training curves, as ``gatewise inspect training`` does; save them with ``savefig``.

        Raises:
            MissingPackage: Matplotlib is not installed.
        """
        from gatewise.extras import import_extra
        from gatewise.inspection.runs import open_runs
        from gatewise.inspection.style import make_figure
        from gatewise.inspection.training import draw_training, measure_training

        import_extra("matplotlib.figure", "Matplotlib", "drawing a figure")
        return make_figure(draw_training, measure_training(open_runs([self.path], "training")))

    @property
    def sample(self) -> str | None:
        """Text sampled from a language model with the run's seed; None for any other model."""
        if not isinstance(self.model, LanguageModel):
            return None
        config = RunFolder(self.path).read_config()
        length = 300 if config.data.level == "character" else 60
        return self.model.generate(max_tokens=length, temperature=0.8, seed=config.training.seed).strip()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}{_shown(self.metrics)})"


def _shown(metrics: Mapping[str, Any]) -> str:
    """Return the metrics that a reader compares, without counts and hashes."""
    kept = {key: value for key, value in metrics.items() if isinstance(value, float) and not key.endswith("_oov_rate")}
    kept |= {key: value for key, value in metrics.items() if key in ("best_epoch", "best_step")}
    return "".join(f", {key}={value:.4g}" for key, value in kept.items())
