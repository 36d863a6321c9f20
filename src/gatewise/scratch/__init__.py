"""A fast one-layer LSTM language model that trains using only NumPy, with hand-derived gradients."""

from gatewise.scratch.model import ScratchModel, initial_weights, weight_shapes

__all__ = ["ScratchModel", "initial_weights", "weight_shapes"]
