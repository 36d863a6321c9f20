"""The adding problem, a synthetic task that requires long-term memory (Hochreiter and Schmidhuber 1997)."""

import numpy as np

from gatewise.data.arrays import Sequences
from gatewise.errors import UsageError


def draw_adding_problem(count: int, length: int, draw: np.random.Generator) -> Sequences:
    """Generate sequences of two numbers per step, whose target is the sum of two of these numbers.

    Each step holds a value ``v``, uniform in [0, 1), and a marker: 1 at one step of the first half and at one step of
    the second half, 0 elsewhere. The target is the sum of the two marked values. Always predicting its mean, 1, gives
    a mean squared error of 1/6.

    Args:
        count: N, the number of sequences.
        length: T, at least 2; the first half is the first T // 2 steps.
        draw: the random generator.

    Returns:
        x (N, T, 2) and y (N,), float32.

    Raises:
        UsageError: the length is below 2.
    """
    if length < 2:
        raise UsageError(f"data.length is {length}; expected at least 2, a marked step in each half")
    x = np.zeros((count, length, 2), np.float32)
    x[:, :, 0] = draw.random((count, length), np.float32)
    rows, half = np.arange(count), length // 2
    marked = draw.integers(0, half, count), draw.integers(half, length, count)
    for steps in marked:
        x[rows, steps, 1] = 1
    return Sequences(x, x[rows, marked[0], 0] + x[rows, marked[1], 0])
