"""The base of classifiers and regressors: a recurrent stack, pooling, and a linear decoder."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gatewise.config import ModelConfig
from gatewise.data.ragged import pad
from gatewise.models.stack import configured_stack, pooled
from gatewise.nn import draw_weights
from gatewise.nn.dropout import dropout
from gatewise.runtime.arguments import PIXEL, check_sequences, check_steps, listed, not_representable

Numbers = Tensor | npt.NDArray[np.generic] | Sequence[npt.NDArray[np.generic]]
"""Sequences as a model accepts them: (N, T, I), or a list of N arrays (T_n, I) of any length."""

BATCH = 1000
"""The default batch size of predictions."""


class SequenceReader(nn.Module):
    """Compute one output vector per sequence.

    ``y, (h_n, …) = rnn(x)``; ``p = h_n`` of the last layer (the state after the last step of each row, or after its
    first step for the reverse direction), or the mean or maximum of y over the steps of the row;
    ``z = decoder(dropout(p))``. Dropout applies between layers and to p, never to the input.

    Args:
        config: the ``[model]`` section of a recipe.
        input_size: I, the number of features per step.
        outputs: C, the size of the output.
        engine: the engine of the recurrent layers.
    """

    def __init__(self, config: ModelConfig, input_size: int, outputs: int, engine: str = "auto") -> None:
        super().__init__()
        self.config = config
        self.rnn = configured_stack(config, input_size, engine)
        self.decoder = nn.Linear(self.rnn.spec.num_directions * config.hidden_size, outputs)
        draw_weights(self, config.init_scale, config.forget_bias, config.decoder_std, config.decoder_bias)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.decoder.weight.device

    def read(self, x: Float[Tensor, "T N I"], lengths: Tensor | None = None) -> Float[Tensor, "N C"]:
        """Return the outputs for sequences, time first; ``lengths`` are the steps of each, T by default."""
        outputs = pooled(self.rnn, x, lengths, self.config.pooling)
        answers: Tensor = self.decoder(dropout(outputs, self.config.dropout, self.training))
        return answers

    def read_over_time(self, x: Float[Tensor, "T N I"]) -> Float[Tensor, "T N C"]:
        """Return the output for the first t+1 steps only, for each t."""
        if self.config.bidirectional:  # the reverse direction must read each prefix separately
            return torch.stack([self.read(x[: t + 1]) for t in range(len(x))])
        y, _ = self.rnn(x)
        if self.config.pooling == "mean":
            y = y.cumsum(0) / torch.arange(1, len(x) + 1, device=y.device)[:, None, None]
        elif self.config.pooling == "max":
            y = y.cummax(0).values
        answers: Tensor = self.decoder(dropout(y, self.config.dropout, self.training))
        return answers

    def standardised(self, x: Float[Tensor, "N T I"]) -> Float[Tensor, "N T I"]:
        """Return sequences in the user's units, standardized for the layers; here, unchanged."""
        return x

    def as_input(
        self, x: Numbers, lengths: Tensor | npt.ArrayLike | None = None
    ) -> tuple[Float[Tensor, "N T I"], Int[Tensor, " N"] | None]:
        """Return sequences, standardized, in the dtype and on the device of this model, and the steps of each.

        Args:
            x: the sequences.
            lengths: (N,) steps of each; T by default.

        Returns:
            The sequences with zeros after the end of each, (N, T, I), and their steps, or None if all have T.

        As in files, uint8 numbers are pixels and are scaled by 1/255.

        Raises:
            UsageError: x is empty, the shape is not (N, T, I) with at least one step, the lengths do not fit, or a
                value is not finite or not representable in the dtype of the model.
        """
        steps = None if lengths is None else torch.as_tensor(np.asarray(lengths), device="cpu")
        if isinstance(x, list | tuple):
            x, padded_steps = listed(x, lambda each: pad(each, "x"))
            steps = torch.from_numpy(padded_steps)
        check_sequences(tuple(np.shape(x)), self.rnn.input_size)
        given = x if isinstance(x, Tensor) else torch.from_numpy(np.require(x, requirements=("C", "W")))
        if given.dtype == torch.uint8:
            given = given.float() * PIXEL
        elif not given.is_floating_point():
            given = given.double()
        if steps is not None:
            given = _without_padding(given, steps)
        ready = self.standardised(given).to(self.device, self.decoder.weight.dtype)
        if not bool(ready.isfinite().all()):
            raise not_representable(bool(given.isfinite().all()), str(ready.dtype).removeprefix("torch."))
        return ready, steps

    def outputs_of(self, x: Numbers, lengths: Tensor | npt.ArrayLike | None, batch_size: int) -> Iterator[Tensor]:
        """Yield the outputs for sequences, ``batch_size`` at a time, (n, C)."""
        ready, steps = self.as_input(x, lengths)
        for start in range(0, len(ready), batch_size):
            rows = slice(start, start + batch_size)
            yield self.read(ready[rows].transpose(0, 1), None if steps is None else steps[rows])


def _without_padding(x: Tensor, steps: Tensor) -> Tensor:
    """Return sequences (N, T, I) with zeros after the end of each: whatever stands there has no meaning."""
    check_steps(steps.numpy(), tuple(x.shape))
    inside = torch.arange(x.shape[1], device="cpu") < steps[:, None]
    return x.masked_fill(~inside.to(x.device)[..., None], 0)
