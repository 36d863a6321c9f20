"""A whole model between frameworks: a recurrent stack with the layers around it."""

from dataclasses import dataclass

import numpy as np

from gatewise.errors import DataError
from gatewise.interchange.layouts import Array
from gatewise.interchange.stack import StackWeights


@dataclass(frozen=True)
class ModelWeights:
    """A stack, and what a file has before and after it.

    Attributes:
        stack: the recurrent layers.
        embedding: (V, E), the vectors that the stack reads, or None.
        decoder_weight: (outputs, D·H), a linear layer after the stack, or None.
        decoder_bias: (outputs,), its bias, or None.
    """

    stack: StackWeights
    embedding: Array | None = None
    decoder_weight: Array | None = None
    decoder_bias: Array | None = None

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
        for name, array in (("the embedding", self.embedding), ("the decoder", weight), ("the decoder's bias", bias)):
            if array is not None and (array.dtype != np.float32 or not np.isfinite(array).all()):
                what = "contains numbers that are not finite" if array.dtype == np.float32 else f"is {array.dtype}"
                raise DataError(f"{source}: {name} {what}; expected finite float32")
