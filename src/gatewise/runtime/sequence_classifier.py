"""The sequence classifier, for images read row by row or any numeric sequence."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import UsageError
from gatewise.runtime.answers import Verdict, softmax, verdicts
from gatewise.runtime.library import Inputs
from gatewise.runtime.model import Floats, Model
from gatewise.runtime.model_file import ModelFile
from gatewise.runtime.sequences import Numbers, as_steps


class SequenceClassifier(Model):
    """A classifier of sequences of I numbers, in the units that the model was trained on; uint8 numbers are pixels.

    Sequences are (N, T, I), with the steps of each in ``lengths`` (N,) if they differ; or a list of arrays (T_n, I).

    Attributes:
        labels: the C labels, numbers or names, in the order of their ids.
        input_size: I.
    """

    def __init__(self, file: ModelFile, threads: int) -> None:
        super().__init__(file, threads)
        self.labels: list[int | str] = file.about["labels"]
        self.input_size: int = file.about["inputs"]

    def _inputs(self, inputs: Any) -> Inputs:
        return as_steps(inputs, self.input_size)

    def predict_proba(self, x: Any, *, lengths: npt.ArrayLike | None = None) -> Floats:
        """Return the probability of each label, (N, C) float32.

        Raises:
            UsageError: x is empty or has another shape, or the lengths do not fit.
            InputError: a number is not finite, or not representable as float32.
        """
        return softmax(self._read_all(Numbers(x, lengths, self.input_size)))

    def predict_proba_over_time(self, x: Any) -> Floats:
        """Return (N, T, C): row t holds the probabilities after the first t+1 steps only.

        Raises:
            UsageError: as for ``predict_proba``, or the sequences differ in T; ``classify`` takes those.
        """
        found = self._over_time(x)
        if len({len(one) for one in found}) > 1:
            raise UsageError("the sequences differ in their steps; expected equally many, or classify(over_time=True)")
        return np.stack(found)

    def predict(self, x: Any, *, lengths: npt.ArrayLike | None = None) -> npt.NDArray[np.generic]:
        """Return the most probable label of each sequence, (N,), from ``labels``."""
        labels: npt.NDArray[np.generic] = np.asarray(self.labels)[self.predict_proba(x, lengths=lengths).argmax(-1)]
        return labels

    def classify(self, inputs: Any, over_time: bool = False, *, lengths: npt.ArrayLike | None = None) -> list[Verdict]:
        """Return the verdict on each sequence; with ``over_time``, after each of its steps."""
        if over_time:
            return verdicts(self.labels, self._over_time(inputs, lengths))
        return verdicts(self.labels, list(self.predict_proba(inputs, lengths=lengths)[:, None]))

    def _over_time(self, x: Any, lengths: npt.ArrayLike | None = None) -> list[Floats]:
        return [softmax(logits) for logits in self._read_over_time(Numbers(x, lengths, self.input_size))]
