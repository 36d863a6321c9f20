"""The forecasts that a series allows: what each reads and predicts, and their split by time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gatewise.data.arrays import Sequences
from gatewise.data.series import Series
from gatewise.data.splitting import sizes_of
from gatewise.data.text import SPLITS
from gatewise.errors import DataError

Origins = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Forecasts from each origin t, the last step whose values are known.

    ``x_s = (v_{t−W+s}, u_{t−W+s+H})`` for s = 1 … W, and ``y_k = v^{target}_{t+k}`` for k = 1 … H: v are the K columns,
    u the J columns known in advance, whose values up to t + H so enter the last H steps of the window.

    Attributes:
        series: the series.
        window: W, the number of steps read.
        horizon: H, the number of steps predicted.
        target: the place of the target in the columns.
        known: the J places of the columns known in advance.
        fill: how gaps were filled.
        name: name of the series in error messages.
    """

    series: Series
    window: int
    horizon: int
    target: int
    known: list[int]
    fill: str
    name: str

    def origins(self) -> Origins:
        """Return the origins of all forecasts with at least one true value to compare with.

        A forecast does not start in a gap filled with ``linear``: the filled values depend on the one after the gap.

        Raises:
            DataError: the series is shorter than one window plus the horizon, or has no such origin.
        """
        count = len(self.series.values) - self.window - self.horizon + 1
        if count < 1:
            raise self._too_short(self.window + self.horizon)
        origins = np.arange(count, dtype=np.int64) + self.window - 1
        missing = self.series.missing
        if missing.any():
            others = [place for place in range(missing.shape[1]) if place not in self.known]
            starts = ~missing[origins][:, others].any(1) if self.fill == "linear" else np.ones(count, np.bool_)
            origins = origins[starts & ~missing[self._ahead(origins), self.target].all(1)]
            if not len(origins):
                raise DataError(f"{self.name}: every forecast would start or end in a gap; provide a series with fewer")
        return origins

    def examples(self, origins: Origins) -> Sequences:
        """Return x (M, W, K + J) and y: (M,) for a horizon of 1, else (M, H); NaN where the true value is missing."""
        read = origins[:, None] + np.arange(1 - self.window, 1)
        x = self.series.values[read]
        if self.known:
            x = np.concatenate([x, self.series.values[read + self.horizon][:, :, self.known]], 2)
        ahead = self._ahead(origins)
        y = self.series.values[ahead, self.target]
        y[self.series.missing[ahead, self.target]] = np.nan
        return Sequences(x, y[:, 0] if self.horizon == 1 else y)

    def split(self, valid_size: int, test_size: int) -> dict[str, Origins]:
        """Return the origins of each split: the last ones for testing, those before them for validation.

        No value that one split predicts is predicted in an earlier one: H − 1 origins between two splits are left out.

        Args:
            valid_size: the number of validation forecasts; 0 takes a tenth.
            test_size: the number of test forecasts; 0 takes a tenth.

        Raises:
            DataError: the series is too short.
        """
        rest, lost = self.origins(), 2 * (self.horizon - 1)
        if self.horizon > 1 and len(rest) < lost + 3:
            raise self._too_short(self.window + 3 * self.horizon)
        sizes = dict(zip(SPLITS[1:], sizes_of(len(rest) - lost, valid_size, test_size, self.name), strict=True))
        parts = dict[str, Origins]()
        for split in ("test", "valid"):
            parts[split] = rest[len(rest) - sizes[split] :]
            rest = rest[rest + self.horizon <= parts[split][0]]
            if not len(rest):
                raise self._too_short(self.window + self.horizon + sum(sizes.values()) + lost)
        return {"train": rest, "valid": parts["valid"], "test": parts["test"]}

    def _ahead(self, origins: Origins) -> Origins:
        return origins[:, None] + np.arange(1, self.horizon + 1)

    def _too_short(self, least: int) -> DataError:
        return DataError(
            f"{self.name}: {len(self.series.values)} values are too few for a window of {self.window} and a horizon of "
            f"{self.horizon}; expected at least {least}, provide more or set a smaller data.window"
        )
