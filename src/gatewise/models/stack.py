"""The recurrent layers of a model, as its configuration describes them."""

from torch import Tensor

from gatewise.config import ModelConfig
from gatewise.nn import Recurrent, make_stack, pool


def configured_stack(config: ModelConfig, input_size: int, engine: str) -> Recurrent:
    """Create the layers for an input size, with dropout between them."""
    return make_stack(
        config.cell,
        input_size,
        config.hidden_size,
        config.num_layers,
        dropout=config.dropout if config.num_layers > 1 else 0.0,
        bidirectional=config.bidirectional,
        engine=engine,
    )


def pooled(rnn: Recurrent, x: Tensor, lengths: Tensor | None, pooling: str) -> Tensor:
    """Return what the decoder sees of sequences (T, N, I): the outputs of the last layer, pooled over time, (N, K)."""
    y, state = rnn(x, lengths=lengths)
    h_n = state if isinstance(state, Tensor) else state[0]
    return pool(pooling, y, h_n, rnn.spec.num_directions, lengths)
