"""What a call of a module returns, for type checkers and editors; at run time, these classes are empty."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gatewise.nn.state import LSTMState, RNNState

Trace: TypeAlias = Mapping[str, Tensor]
Lengths: TypeAlias = Tensor | Sequence[int] | None


class LSTMCalls:
    """An LSTM takes a pair of tensors and returns an ``LSTMState``."""

    if TYPE_CHECKING:

        @overload
        def __call__(
            self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, *, lengths: Lengths = None
        ) -> tuple[Tensor, LSTMState]: ...

        @overload
        def __call__(
            self, input: PackedSequence, hx: tuple[Tensor, Tensor] | None = None
        ) -> tuple[PackedSequence, LSTMState]: ...

        @overload
        def __call__(
            self,
            input: Tensor,
            hx: tuple[Tensor, Tensor] | None = None,
            *,
            lengths: Lengths = None,
            trace: Sequence[str],
        ) -> tuple[Tensor, LSTMState, Trace]: ...

        @overload
        def __call__(
            self, input: PackedSequence, hx: tuple[Tensor, Tensor] | None = None, *, trace: Sequence[str]
        ) -> tuple[PackedSequence, LSTMState, Trace]: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Run T steps of each row; see ``Recurrent.forward``."""


class OneStateCalls:
    """A GRU or an RNN takes and returns a tensor, or an ``RNNState`` for an ``RNNState``."""

    if TYPE_CHECKING:

        @overload
        def __call__(
            self, input: Tensor, hx: Tensor | None = None, *, lengths: Lengths = None
        ) -> tuple[Tensor, Tensor]: ...

        @overload
        def __call__(self, input: Tensor, hx: RNNState, *, lengths: Lengths = None) -> tuple[Tensor, RNNState]: ...

        @overload
        def __call__(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...

        @overload
        def __call__(self, input: PackedSequence, hx: RNNState) -> tuple[PackedSequence, RNNState]: ...

        @overload
        def __call__(
            self, input: Tensor, hx: Tensor | None = None, *, lengths: Lengths = None, trace: Sequence[str]
        ) -> tuple[Tensor, Tensor, Trace]: ...

        @overload
        def __call__(
            self, input: Tensor, hx: RNNState, *, lengths: Lengths = None, trace: Sequence[str]
        ) -> tuple[Tensor, RNNState, Trace]: ...

        @overload
        def __call__(
            self, input: PackedSequence, hx: Tensor | None = None, *, trace: Sequence[str]
        ) -> tuple[PackedSequence, Tensor, Trace]: ...

        @overload
        def __call__(
            self, input: PackedSequence, hx: RNNState, *, trace: Sequence[str]
        ) -> tuple[PackedSequence, RNNState, Trace]: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Run T steps of each row; see ``Recurrent.forward``."""
