"""The softmax cross-entropy and its gradient."""

import numpy as np

from gatewise.reference.cell import Array


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Sum the negative log-likelihood of the targets, in nats, and give its derivative by the logits.

    ``nll = Σₙ (log Σᵥ exp zₙᵥ − zₙ,targetₙ)`` and ``dz = softmax(z) − onehot(target)``.

    Args:
        logits: z, (N, V).
        targets: (N,) whole numbers.

    Returns:
        nll, and dz (N, V).
    """
    rows = np.arange(len(targets))
    largest = logits.max(1, keepdims=True)  # subtracted, it changes nothing and keeps exp from overflowing
    dz = np.exp(logits - largest)
    total = dz.sum(1, keepdims=True)
    nll = np.log(total).sum() - (logits[rows, targets] - largest[:, 0]).sum()
    dz /= total
    dz[rows, targets] -= 1
    return float(nll), dz
