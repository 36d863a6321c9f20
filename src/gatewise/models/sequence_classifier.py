"""The sequence classifier, for images read row by row or any numeric sequence."""

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from gatewise.config import ModelConfig
from gatewise.models.finite import check_finite
from gatewise.models.sequence_reader import BATCH, Numbers, SequenceReader
from gatewise.nn import in_eval_mode

Array = TypeVar("Array", Tensor, npt.NDArray[np.generic])


class SequenceClassifier(SequenceReader):
    """Classify each sequence into C labels: ``p = softmax(z)`` with z of ``SequenceReader``.

    Sequences are (N, T, I), in the units that the model was trained on (pixels in 0..1), with the steps of each in
    ``lengths`` (N,) if they differ; or a list of arrays (T_n, I). Tensors give tensors, all else NumPy arrays.

    Args:
        config: the ``[model]`` section of a recipe.
        input_size: I.
        labels: the C labels, numbers or names.
        engine: the engine of the recurrent layers.
        steps: T of the training data if all sequences have the same length; used in error messages.
    """

    def __init__(
        self,
        config: ModelConfig,
        input_size: int,
        labels: Sequence[int | str],
        engine: str = "auto",
        steps: int | None = None,
    ) -> None:
        super().__init__(config, input_size, len(labels), engine)
        self.input_size, self.labels, self.steps = input_size, list(labels), steps

    def forward(
        self, x: Float[Tensor, "N T I"], targets: Int[Tensor, " N"] | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Return the logits (N, C); with targets, the mean negative log-likelihood in nats, a scalar."""
        logits = self.read(x.transpose(0, 1), lengths)
        return logits if targets is None else F.cross_entropy(logits, targets)

    @overload
    def predict_proba(
        self, x: Tensor, batch_size: int = ..., *, lengths: Tensor | npt.ArrayLike | None = ...
    ) -> Tensor: ...

    @overload
    def predict_proba(
        self,
        x: npt.NDArray[np.generic] | Sequence[npt.NDArray[np.generic]],
        batch_size: int = ...,
        *,
        lengths: Tensor | npt.ArrayLike | None = ...,
    ) -> npt.NDArray[np.floating]: ...

    def predict_proba(
        self, x: Numbers, batch_size: int = BATCH, *, lengths: Tensor | npt.ArrayLike | None = None
    ) -> Tensor | npt.NDArray[np.floating]:
        """Return the probability of each label, (N, C), reading ``batch_size`` sequences at a time."""
        with in_eval_mode(self):
            parts = [outputs.softmax(-1) for outputs in self.outputs_of(x, lengths, batch_size)]
        found: Tensor | npt.NDArray[np.floating] = _like(x, check_finite(torch.cat(parts), "the probabilities"))
        return found

    def predict_proba_over_time(self, x: Array, batch_size: int = BATCH) -> Array:
        """Return (N, T, C): row t holds the probabilities after the first t+1 steps only."""
        given, _ = self.as_input(x)
        with in_eval_mode(self):
            parts = [self.read_over_time(part.transpose(0, 1)).softmax(-1) for part in torch.split(given, batch_size)]
        found: Array = _like(x, check_finite(torch.cat(parts, 1).transpose(0, 1), "the probabilities"))
        return found

    def predict(
        self, x: Numbers, batch_size: int = BATCH, *, lengths: Tensor | npt.ArrayLike | None = None
    ) -> npt.NDArray[np.generic]:
        """Return the most probable label of each sequence, (N,), from ``labels``."""
        p = self.predict_proba(x, batch_size, lengths=lengths)
        best = np.asarray(p.argmax(-1).cpu() if isinstance(p, Tensor) else p.argmax(-1))
        labels: npt.NDArray[np.generic] = np.asarray(self.labels)[best]
        return labels


def _like(x: Numbers, answer: Tensor) -> Any:
    """Return a tensor if ``x`` is one, else a NumPy array."""
    return answer if isinstance(x, Tensor) else answer.cpu().numpy()
