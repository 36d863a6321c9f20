"""Batches of sequences of similar length."""

from collections.abc import Iterator, Sequence

BATCH_ROWS, BATCH_WORDS = 128, 8192
"""The maximum numbers of sentences and of words (with padding) in a batch without gradients; results do not depend on
them."""


def batches_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of sequences, grouped by similar length; empty sequences are skipped."""
    rows: list[int] = []
    for row in sorted((row for row, length in enumerate(lengths) if length), key=lengths.__getitem__):
        if rows and (len(rows) == BATCH_ROWS or lengths[row] * (len(rows) + 1) > BATCH_WORDS):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
