"""The softmax cross-entropy and its gradient."""

import numpy as np

from gatewise.reference.cell import Array


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Return the summed negative log-likelihood of the targets, in nats, and its derivative with respect to the logits.

    ``nll = Σₙ (log Σᵥ exp zₙᵥ − zₙ,targetₙ)`` and ``dz = softmax(z) − onehot(target)``.

    Args:
        logits: z, (N, V).
        targets: (N,) integers.

    Returns:
        nll, and dz (N, V).
    """
    rows = np.arange(len(targets))
    largest = logits.max(1, keepdims=True)  # subtracting it leaves the result unchanged and prevents overflow
    dz = np.exp(logits - largest)
    total = dz.sum(1, keepdims=True)
    nll = np.log(total).sum() - (logits[rows, targets] - largest[:, 0]).sum()
    dz /= total
    dz[rows, targets] -= 1
    return float(nll), dz
