"""A whole model between frameworks: a recurrent stack with the layers around it."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gatewise.errors import DataError
from gatewise.interchange.layouts import Array
from gatewise.interchange.stack import StackWeights
from gatewise.runtime.parts import Scaling


@dataclass(frozen=True)
class ModelWeights:
    """A stack, and what a file has before and after it.

    Attributes:
        stack: the recurrent layers.
        embedding: (V, E), the vectors that the stack reads, or None.
        decoder_weight: (outputs, D·H), a linear layer after the stack, or None.
        decoder_bias: (outputs,), its bias, or None.
        per_step: whether the decoder reads the output of each step, not one vector for each sequence.
        pooling: what it reads of a sequence: ``last``, ``mean`` or ``max``.
        output: what follows the decoder; empty if the file does not say.
        scaling: the standardization of numeric input and of the output.
    """

    stack: StackWeights
    embedding: Array | None = None
    decoder_weight: Array | None = None
    decoder_bias: Array | None = None
    per_step: bool = True
    pooling: Literal["last", "mean", "max"] = "last"
    output: Literal["", "linear", "softmax"] = ""
    scaling: Scaling = field(default_factory=Scaling)

    @property
    def tied(self) -> bool:
        """Whether the embedding and the decoder are the same matrix."""
        embedding, decoder = self.embedding, self.decoder_weight
        return embedding is not None and decoder is not None and np.array_equal(embedding, decoder)

    def check(self, source: str) -> None:
        """Check that the layers fit together, and that their numbers are finite float32.

        Args:
            source: what they were read from; this starts the message of an error.

        Raises:
            DataError: they do not.
        """
        spec = self.stack.spec
        for name, array, width, reads in (
            ("the embedding", self.embedding, spec.input_size, "the stack reads"),
            ("the decoder", self.decoder_weight, spec.num_directions * spec.output_size, "the stack gives"),
        ):
            if array is not None and (array.ndim != 2 or array.shape[1] != width or not len(array)):
                raise DataError(f"{source}: {name} has shape {array.shape}; expected (…, {width}), which {reads}")
        weight, bias = self.decoder_weight, self.decoder_bias
        if bias is not None and (weight is None or bias.shape != weight.shape[:1]):
            expected = "none without a decoder" if weight is None else f"({len(weight)},)"
            raise DataError(f"{source}: the decoder's bias has shape {bias.shape}; expected {expected}")
        if len(self.scaling.x_mean) not in (0, spec.input_size):
            found = len(self.scaling.x_mean)
            raise DataError(f"{source}: means of {found} features; expected {spec.input_size}, which the stack reads")
        for name, array in (("the embedding", self.embedding), ("the decoder", weight), ("the decoder's bias", bias)):
            if array is not None and (array.dtype != np.float32 or not np.isfinite(array).all()):
                what = "contains numbers that are not finite" if array.dtype == np.float32 else f"is {array.dtype}"
                raise DataError(f"{source}: {name} {what}; expected finite float32")
