"""torch modules and functions that models are assembled from."""

from gatewise.nn.loss import linear_cross_entropy
from gatewise.nn.recurrent import STACKS, State

__all__ = ["STACKS", "State", "linear_cross_entropy"]
