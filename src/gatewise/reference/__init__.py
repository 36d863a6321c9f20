"""The equations in NumPy, step by step, with hand-written derivatives: the reference for every engine."""

from gatewise.reference import gru, lstm, rnn, stack
from gatewise.reference.cell import Array, Weights
from gatewise.reference.softmax import cross_entropy

__all__ = ["Array", "Weights", "cross_entropy", "gru", "lstm", "rnn", "stack"]
