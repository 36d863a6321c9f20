"""The sequence regressor: a sequence of numbers, or a series' recent values, to one number."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gatewise.artifact.parts import Scaling as Scaling
from gatewise.config import ModelConfig
from gatewise.models.sequence_reader import BATCH, SequenceReader
from gatewise.nn import in_eval_mode


class SequenceRegressor(SequenceReader):
    """Answer each sequence with one number: ``y = y_std · z + y_mean`` with z of ``SequenceReader``.

    Sequences and answers are in the user's units; the standardisation is the model's own.

    Args:
        config: the ``[model]`` section of a recipe.
        input_size: I.
        scaling: the standardisation; none where not given.
        engine: computes the recurrent layers.
    """

    def __init__(
        self, config: ModelConfig, input_size: int, scaling: Scaling | None = None, engine: str = "auto"
    ) -> None:
        super().__init__(config, input_size, 1, engine)
        self.input_size, self.scaling = input_size, scaling or Scaling()

    def forward(self, x: Float[Tensor, "N T I"], targets: Float[Tensor, " N"] | None = None) -> Tensor:
        """Return the answers (N,) in the user's units; with targets the mean squared error of z, a scalar."""
        z = self.read(self._standardised(x).transpose(0, 1))[:, 0]
        if targets is None:
            return z * self.scaling.y_std + self.scaling.y_mean
        return F.mse_loss(z, (targets - self.scaling.y_mean) / self.scaling.y_std)

    def predict(
        self, x: Tensor | npt.NDArray[np.generic], batch_size: int = BATCH
    ) -> npt.NDArray[np.float32] | Float[Tensor, " N"]:
        """Return the answer to each sequence, (N,): a tensor for a tensor, a NumPy array for any other."""
        given = self.as_input(x)
        with in_eval_mode(self):
            answers = torch.cat([self(part) for part in torch.split(given, batch_size)])
        return answers if isinstance(x, Tensor) else answers.cpu().numpy()

    def _standardised(self, x: Tensor) -> Tensor:
        scaling = self.scaling
        return x if not scaling.x_mean else (x - x.new_tensor(scaling.x_mean)) / x.new_tensor(scaling.x_std)


def scaling_of(
    inputs: npt.NDArray[np.floating], targets: npt.NDArray[np.floating], columns: Sequence[str] = (), target: str = ""
) -> Scaling:
    """Return the standardisation of a training part: inputs (…, I) over all steps, targets (N,).

    A column that never changes is only moved to 0.
    """
    flat = np.asarray(inputs, np.float64).reshape(-1, np.shape(inputs)[-1])
    x_std, y_std = flat.std(0), float(np.std(targets))
    return Scaling(
        flat.mean(0).tolist(),
        np.where(x_std > 0, x_std, 1.0).tolist(),
        float(np.mean(targets)),
        y_std if y_std > 0 else 1.0,
        list(columns),
        target,
    )
