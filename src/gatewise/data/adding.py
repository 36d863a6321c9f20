"""The adding problem: sequences that cannot be answered without remembering (Hochreiter and Schmidhuber 1997)."""

import numpy as np

from gatewise.data.arrays import Sequences
from gatewise.errors import UsageError


def draw_adding_problem(count: int, length: int, draw: np.random.Generator) -> Sequences:
    """Draw sequences of two numbers a step, to be answered by the sum of two of them.

    At each step stand ``v``, uniform in [0, 1), and a mark: 1 at one step of the first half and at one of the second,
    else 0. The answer is the sum of the two marked v. Always answering 1, its mean, has the mean squared error 1/6.

    Args:
        count: N sequences.
        length: T, at least 2; the first half are the first T // 2 steps.
        draw: where the numbers come from.

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
