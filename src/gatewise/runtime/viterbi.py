"""The best sequence of tags of a linear-chain conditional random field."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def viterbi(
    emissions: Floats, lengths: npt.NDArray[np.integer], transitions: Floats, start: Floats, end: Floats
) -> npt.NDArray[np.int64]:
    """Return the best sequence of tags for each row (Viterbi 1967), 0 past its length.

    ``δₜ[c] = eₜ[c] + max_c' (δₜ₋₁[c'] + transitions[c', c])``, in float64; the best c' is stored, and the path is
    traced back from the end of the row, where ``end`` is added. Ties are resolved to the lowest tag.

    Args:
        emissions: (T, B, C), the scores of each tag at each step; those past the length of a row are not read.
        lengths: (B,), 0 to T.
        transitions: (C, C), the scores of a tag, in rows, followed by another.
        start: (C,), the scores of a first tag.
        end: (C,), the scores of a last tag.

    Returns:
        (T, B).
    """
    T, B, C = emissions.shape
    path = np.zeros((T, B), np.int64)
    if not T:
        return path
    rows = np.arange(B)
    # Longest first: the rows within a step are the first n.
    order = np.argsort(-np.asarray(lengths), kind="stable")
    steps, into = np.asarray(lengths)[order], np.ascontiguousarray(transitions.T, np.float64)
    best = np.where((steps > 0)[:, None], emissions[0, order], 0) + np.asarray(start, np.float64)
    came_from = np.empty((T, B, C), np.intp)
    for t in range(1, int(steps[0])):
        n = int(np.searchsorted(-steps, -t))
        score = best[:n, None, :] + into  # (n, c, c')
        came_from[t, :n] = before = score.argmax(2)
        best[:n] = np.take_along_axis(score, before[..., None], 2)[..., 0] + emissions[t, order[:n]]
    tag = (best + np.asarray(end, np.float64)).argmax(1)
    for t in range(int(steps[0]) - 1, -1, -1):
        n = int(np.searchsorted(-steps, -t))
        path[t, order[:n]] = tag[:n]
        if t:
            tag[:n] = came_from[t, rows[:n], tag[:n]]
    return path
