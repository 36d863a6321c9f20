"""A whole model between frameworks: a recurrent stack with the layers around it."""

from dataclasses import dataclass

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
        tied: whether the embedding and the decoder are one matrix.
    """

    stack: StackWeights
    embedding: Array | None = None
    decoder_weight: Array | None = None
    decoder_bias: Array | None = None
    tied: bool = False
