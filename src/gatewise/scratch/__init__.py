"""A one-layer LSTM language model trained with nothing but NumPy, every gradient by hand, made to be quick."""

from gatewise.scratch.model import ScratchModel, initial_weights, weight_shapes

__all__ = ["ScratchModel", "initial_weights", "weight_shapes"]
