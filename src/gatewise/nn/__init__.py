"""PyTorch modules and functions from which models are built."""

from gatewise.nn.eval_mode import in_eval_mode
from gatewise.nn.initial import draw_weights
from gatewise.nn.loss import linear_cross_entropy
from gatewise.nn.pooling import pool
from gatewise.nn.recurrent import GRU, LSTM, RNN, Recurrent, make_stack
from gatewise.nn.state import LSTMState, RNNState

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "LSTMState",
    "RNNState",
    "Recurrent",
    "draw_weights",
    "in_eval_mode",
    "linear_cross_entropy",
    "make_stack",
    "pool",
]
