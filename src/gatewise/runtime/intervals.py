"""Prediction intervals of a forecaster by split conformal prediction: ``intervals.json``."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gatewise.errors import NotFinite, UsageError
from gatewise.runtime.parts import is_finite_number, is_size, read_object, wrong_part

LEVEL = 0.9
"""The level of the intervals that evaluations and figures use."""
_KEYS = {"weights", "count", "radii"}


@dataclass(frozen=True)
class Intervals:
    """``y_k ∈ [ŷ_k − r_k, ŷ_k + r_k]`` for each step k of the horizon, with probability of at least the level.

    Of the n absolute errors at step k on the validation split, r_k is the ⌈(n + 1) · level⌉-th smallest (Vovk,
    Gammerman and Shafer 2005; Lei et al. 2018). The probability holds if these errors and those to come are
    exchangeable, which those of a series are at best nearly: the coverage is measured on the test split.

    Attributes:
        weights: SHA-256 of the weight file whose errors these are.
        count: n, of the step with the fewest.
        radii: r_1 … r_H for each level in percent for which n is large enough.
    """

    weights: str
    count: int
    radii: dict[int, list[float]]

    @classmethod
    def of(cls, errors: npt.NDArray[np.float64], weights: str) -> "Intervals":
        """Return the intervals of errors (n, H), NaN where the true value is not known.

        Raises:
            NotFinite: an error is infinite.
        """
        if np.isinf(errors).any():
            raise NotFinite.of("the errors of the validation split")
        steps = [np.sort(np.abs(column[~np.isnan(column)])) for column in errors.T]
        count = min(map(len, steps))
        radii = {
            percent: [float(each[_rank(len(each), percent) - 1]) for each in steps]
            for percent in range(1, 100)
            if _rank(count, percent) <= count
        }
        return cls(weights, count, radii)

    @classmethod
    def read(cls, path: Path, horizon: int) -> "Intervals":
        """Read the file of a model that predicts H values.

        Raises:
            RunError: the file is missing or invalid.
        """
        found = read_object(path, _KEYS, _KEYS)
        count, radii = found["count"], found["radii"]
        if not is_size(count) or not isinstance(radii, dict):
            raise wrong_part(path, "'count' is not a positive integer, or 'radii' not an object")
        for percent, each in radii.items():
            if not re.fullmatch(r"[1-9][0-9]?", percent):
                raise wrong_part(path, f"'radii' has the level {percent!r:.100}, not a percentage from 1 to 99")
            if (
                not isinstance(each, list)
                or len(each) != horizon
                or not all(map(is_finite_number, each))
                or min(each) < 0
            ):
                raise wrong_part(path, f"'radii' of {percent}% are not {horizon} numbers of 0 or more")
        return cls(
            str(found["weights"]),
            count,
            {int(percent): [float(one) for one in each] for percent, each in radii.items()},
        )

    def to_json(self) -> str:
        """Return the content of the file."""
        return json.dumps({"weights": self.weights, "count": self.count, "radii": self.radii}) + "\n"

    def has(self, level: float) -> bool:
        """Return whether the validation split is large enough for a level."""
        return round(100 * level) in self.radii

    def radius(self, level: float) -> list[float]:
        """Return r_1 … r_H.

        Raises:
            UsageError: the level is not 0.01, 0.02, … 0.99, or the validation split is too small for it.
        """
        percent = round(100 * level) if 0 < level < 1 else 0
        if abs(100 * level - percent) > 1e-6 or not 1 <= percent <= 99:
            raise UsageError(f"an interval of {level:g}; expected a level from 0.01 to 0.99, in whole hundredths")
        if percent not in self.radii:
            least = -(-percent // (100 - percent))
            raise UsageError(
                f"an interval of {level:g} needs {least} validation forecasts, and the run has {self.count}; give a "
                f"level of at most {max(self.radii, default=0) / 100:g}, or train with a larger data.valid_size"
            )
        return self.radii[percent]


def _rank(count: int, percent: int) -> int:
    """Return ⌈(n + 1) · level⌉."""
    return -(-(count + 1) * percent // 100)
