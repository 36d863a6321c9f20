"""The peers' gate orders, and our weights brought into them."""

import numpy as np
import numpy.typing as npt

from gatewise.nn import Recurrent

Array = npt.NDArray[np.float32]

KERAS = {"lstm": "ifgo", "gru": "zrn", "rnn_tanh": "h", "rnn_relu": "h"}
"""Keras writes i, f, c, o and z, r, h."""

ONNX = {"lstm": "iofg", "gru": "zrn", "rnn_tanh": "h", "rnn_relu": "h"}
"""ONNX writes i, o, f, c and z, r, h."""


def reordered(module: Recurrent, name: str, order: str) -> Array:
    """Return a weight or bias with its blocks of H rows in another order."""
    blocks = module.get_parameter(name).detach().chunk(len(module.spec.gates))
    return np.concatenate([blocks[module.spec.gates.index(gate)].numpy() for gate in order])
