"""Shared by the cells: the weights of a layer, the logistic function, and the product with the input."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Weights(NamedTuple):
    """The weights of one direction of one layer, under PyTorch's names, or their gradients in the same shapes."""

    w_ih: Array
    """(gates·H, I)"""
    w_hh: Array
    """(gates·H, H), or (gates·H, P) for a projected LSTM"""
    b_ih: Array
    """(gates·H,)"""
    b_hh: Array
    """(gates·H,)"""
    w_hr: Array | None = None
    """(P, H), for a projected LSTM"""


def sigmoid(a: Array) -> Array:
    """Return ``σ(a) = 1 / (1 + exp(−a))``, without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * a)


def input_product(x: Array, w_ih: Array) -> Array:
    """Return ``W_ih x`` of every step; integers (T, B) stand for one-hot vectors, whose products are columns."""
    if np.issubdtype(x.dtype, np.integer):
        columns: Array = w_ih.T[x]
        return columns
    product: Array = x @ w_ih.T
    return product


def input_gradients(da: Array, x: Array, w_ih: Array) -> tuple[Array | None, Array]:
    """Return ``dx = W_ihᵀ da`` (one-hot vectors have none) and ``dW_ih = Σ da xᵀ``."""
    if np.issubdtype(x.dtype, np.integer):
        dw_ih = np.zeros_like(w_ih)
        np.add.at(dw_ih.T, x, da)
        return None, dw_ih
    return da @ w_ih, outer(da, x)


def outer(da: Array, x: Array) -> Array:
    """Return ``Σ da xᵀ`` over steps and rows."""
    total: Array = da.reshape(-1, da.shape[-1]).T @ x.reshape(-1, x.shape[-1])
    return total
