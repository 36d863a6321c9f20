"""A token stream split into contiguous rows and windows: batches for truncated backpropagation through time."""

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError


class TokenStream:
    """B contiguous rows of one text, read in windows of T steps, with targets shifted by one token.

    Row b holds tokens ``b·n … (b+1)·n - 1`` with ``n = len // batch_size``. Window k + 1 of a row continues where
    window k ends, so the final state of one window is the initial state of the next. There are ``(n - 1) // T``
    windows.

    Args:
        ids: (N,) token ids; a memory map is read lazily.
        batch_size: B, the number of rows over all processes.
        tbptt_length: T, the number of steps per window.
        rows: the slice of the B rows that this process reads; all by default.
        name: name of the text in error messages.

    Raises:
        DataError: the text is shorter than one window.
    """

    def __init__(
        self,
        ids: npt.NDArray[np.unsignedinteger],
        batch_size: int,
        tbptt_length: int,
        rows: slice = slice(None),
        name: str = "the text",
    ) -> None:
        length = len(ids) // batch_size
        self.windows = (length - 1) // tbptt_length if length else 0
        if self.windows < 1:
            raise DataError(
                f"{name}: {len(ids)} tokens are shorter than one window; expected at least "
                f"batch_size x (tbptt_length + 1) = {batch_size} x {tbptt_length + 1} = "
                f"{batch_size * (tbptt_length + 1)}; provide more text or set a smaller batch_size or tbptt_length"
            )
        self.tbptt_length = tbptt_length
        self._rows = ids[: batch_size * length].reshape(batch_size, length)[rows]
        self.batch_size = len(self._rows)

    def __len__(self) -> int:
        return self.windows

    def __getitem__(self, window: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the inputs and targets of one window, each (T, B) int64."""
        if not 0 <= window < self.windows:
            raise IndexError(window)
        start = window * self.tbptt_length
        piece = self._rows[:, start : start + self.tbptt_length + 1].astype(np.int64).T
        return np.ascontiguousarray(piece[:-1]), np.ascontiguousarray(piece[1:])
