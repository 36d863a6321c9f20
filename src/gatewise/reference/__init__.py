"""The mathematics in NumPy, step by step, every derivative by hand: the oracle of every engine."""

from gatewise.reference import gru, lstm, rnn, stack
from gatewise.reference.cell import Array, Weights
from gatewise.reference.softmax import cross_entropy

__all__ = ["Array", "Weights", "cross_entropy", "gru", "lstm", "rnn", "stack"]
