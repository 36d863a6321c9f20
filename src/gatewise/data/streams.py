"""A token stream cut into contiguous rows, read window by window: the batches of truncated backpropagation."""

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError


class TokenStream:
    """B contiguous rows of one text, read T steps at a time, the target one token ahead.

    Row b holds tokens ``b·n … (b+1)·n - 1`` with ``n = len // batch_size``; the state after window k is the state
    before window k+1, since each row goes on where it stopped. There are ``(n - 1) // T`` windows.

    Args:
        ids: (N,) token ids; a memory map is read piece by piece.
        batch_size: B, the rows of the whole text.
        tbptt_length: T.
        rows: the rows that this process reads, as a slice of the B; all where not given.
        name: what to call the text in an error.

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
                f"{batch_size * (tbptt_length + 1)}; give more text or a smaller batch_size or tbptt_length"
            )
        self.tbptt_length = tbptt_length
        self._rows = ids[: batch_size * length].reshape(batch_size, length)[rows]
        self.batch_size = len(self._rows)

    def __len__(self) -> int:
        return self.windows

    def __getitem__(self, window: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return input and target of one window, each (T, B) int64."""
        if not 0 <= window < self.windows:
            raise IndexError(window)
        start = window * self.tbptt_length
        piece = self._rows[:, start : start + self.tbptt_length + 1].astype(np.int64).T
        return np.ascontiguousarray(piece[:-1]), np.ascontiguousarray(piece[1:])
