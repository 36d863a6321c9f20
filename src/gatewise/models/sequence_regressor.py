"""The sequence regressor: predicts one number from a numeric sequence, such as the recent values of a time series."""

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gatewise.config import ModelConfig
from gatewise.data.moments import moments
from gatewise.models.sequence_reader import BATCH, Numbers, SequenceReader
from gatewise.nn import in_eval_mode
from gatewise.runtime.parts import Scaling as Scaling


class SequenceRegressor(SequenceReader):
    """Predict one number for each sequence: ``y = y_std · z + y_mean`` with z of ``SequenceReader``.

    Sequences are (N, T, I), with the steps of each in ``lengths`` (N,) if they differ; or a list of arrays (T_n, I).
    They and the predictions are in the user's units, predictions in float64. The model standardizes in float64: values
    that vary slightly around a large number keep their digits, as long as x is float64.

    Args:
        config: the ``[model]`` section of a recipe.
        input_size: I.
        scaling: the standardization; none by default.
        engine: the engine of the recurrent layers.
    """

    def __init__(
        self, config: ModelConfig, input_size: int, scaling: Scaling | None = None, engine: str = "auto"
    ) -> None:
        super().__init__(config, input_size, 1, engine)
        self.input_size, self.scaling = input_size, scaling or Scaling()

    def forward(
        self, x: Float[Tensor, "N T I"], targets: Float[Tensor, " N"] | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Return the predictions (N,) in the user's units; with targets, the mean squared error of z, a scalar."""
        z, dtype = self._read(self.standardised(x), lengths), self.decoder.weight.dtype
        if targets is None:
            return self._in_units(z)
        return F.mse_loss(z, ((targets.double() - self.scaling.y_mean) / self.scaling.y_std).to(dtype))

    def predict(
        self, x: Numbers, batch_size: int = BATCH, *, lengths: Tensor | npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64] | Float[Tensor, " N"]:
        """Return the prediction for each sequence, (N,): a tensor for a tensor, else a NumPy array."""
        with in_eval_mode(self):
            answers = self._in_units(torch.cat([z[:, 0] for z in self.outputs_of(x, lengths, batch_size)]))
        return answers if isinstance(x, Tensor) else answers.cpu().numpy()

    def standardised(self, x: Float[Tensor, "N T I"]) -> Float[Tensor, "N T I"]:
        """Return ``(x − x_mean) / x_std``, computed in float64, in the dtype of the model."""
        if self.scaling.x_mean:
            x = x.double()
            x = (x - x.new_tensor(self.scaling.x_mean)) / x.new_tensor(self.scaling.x_std)
        return x.to(self.decoder.weight.dtype)

    def _read(self, standardised: Tensor, lengths: Tensor | None = None) -> Float[Tensor, " N"]:
        return self.read(standardised.transpose(0, 1), lengths)[:, 0]

    def _in_units(self, z: Tensor) -> Tensor:
        return z.double() * self.scaling.y_std + self.scaling.y_mean


def scaling_of(
    inputs: npt.NDArray[np.floating], targets: npt.NDArray[np.floating], columns: Sequence[str] = (), target: str = ""
) -> Scaling:
    """Return the standardization of the training data: inputs (…, I) over all steps, targets (N,).

    A constant column is only shifted to 0. Constant targets get a tiny standard deviation, so that the model predicts
    that constant.
    """
    x_mean, x_std = moments(np.reshape(inputs, (-1, np.shape(inputs)[-1])))
    y_mean, y_std = (float(one[0]) for one in moments(np.reshape(targets, (-1, 1))))
    return Scaling(
        x_mean.tolist(),
        np.where(x_std > 0, x_std, 1.0).tolist(),
        y_mean,
        y_std or max(abs(y_mean) * 2.0**-80, sys.float_info.min),
        list(columns),
        target,
    )
