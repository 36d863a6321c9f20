"""A recurrent stack between frameworks: its description, and its weights as NumPy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gatewise.errors import DataError, UsageError
from gatewise.interchange.layouts import PassWeights
from gatewise.nn import Recurrent, make_stack
from gatewise.spec import CELLS, RecurrentSpec


@dataclass(frozen=True)
class StackWeights:
    """A stack of recurrent layers and its weights, as every format reads and writes them.

    Attributes:
        spec: the cell, the sizes, the numbers of layers and directions; whether there are biases or a projection.
        passes: the weights of each layer and direction, in the order of ``spec.passes()``.
    """

    spec: RecurrentSpec
    passes: tuple[PassWeights, ...]

    @classmethod
    def of(cls, cell: str, passes: Sequence[PassWeights], *, bidirectional: bool, source: str) -> "StackWeights":
        """Infer the description of a stack from its weights, and check them.

        Args:
            cell: a name in ``gatewise.spec.CELLS``.
            passes: the weights of each layer and direction: l0, l0_reverse, l1, …
            bidirectional: whether every layer has two directions.
            source: what the weights were read from, such as the path; this starts the message of an error.

        Raises:
            DataError: sizes do not fit together, or a number is not float32 or not finite.
        """
        first, directions = passes[0], 2 if bidirectional else 1
        if len(passes) % directions:
            raise DataError(f"{source}: {len(passes)} passes; expected two for each layer of a bidirectional stack")
        projection = first.weight_hr
        if first.weight_ih.ndim != 2 or first.weight_hh.ndim != 2 or (projection is not None and projection.ndim != 2):
            raise DataError(f"{source}: the weights of the first layer are not matrices; expected (gates·H, …)")
        rows, gates = len(first.weight_hh), len(CELLS[cell].gates)
        try:
            if rows % gates:
                raise ValueError(f"weight_hh has {rows} rows; expected {gates} gates of equal size")
            spec = RecurrentSpec(
                cell,
                first.weight_ih.shape[1],
                rows // gates,
                len(passes) // directions,
                first.bias_ih is not None,
                bidirectional,
                0 if projection is None else len(projection),
            )
        except ValueError as problem:
            raise DataError(f"{source}: {problem}") from None
        found = cls(spec, tuple(passes))
        found._check(source)
        return found

    def _check(self, source: str) -> None:
        expected, kinds = self.spec.parameters(), self.spec.kinds()
        for own, (layer, _, suffix) in zip(self.passes, self.spec.passes(), strict=True):
            for kind in PassWeights._fields:
                name, array = f"{kind}_{suffix}", getattr(own, kind)
                if (array is not None) != (kind in kinds):
                    what, other = ("has no", "has one") if array is None else ("has a", "has none")
                    raise DataError(f"{source}: layer {layer} {what} {name}, while the first layer {other}")
                if array is None:
                    continue
                if array.dtype != np.float32:
                    raise DataError(f"{source}: {name} is {array.dtype}; expected float32")
                if array.shape != expected[name]:
                    raise DataError(
                        f"{source}: {name} has shape {array.shape}; expected {expected[name]}: the layers of a stack "
                        "must have the same width, and each must read the output of the one below"
                    )
                if not np.isfinite(array).all():
                    raise DataError(f"{source}: {name} contains numbers that are not finite; expected trained weights")

    @classmethod
    def from_module(cls, module: Recurrent) -> "StackWeights":
        """Return the description and copies of the weights of a module, as float32.

        Raises:
            UsageError: the weights are float64, which float32 would round, or a module on meta has none.
        """
        like = module.all_weights[0][0]
        if like.dtype == torch.float64 or like.is_meta:
            found = "on meta, without values" if like.is_meta else "float64"
            raise UsageError(f"the weights are {found}; expected float32, convert the module with .float()")
        passes = [
            PassWeights(
                **{
                    kind: module.get_parameter(f"{kind}_{suffix}").detach().to("cpu", torch.float32, copy=True).numpy()
                    for kind in module.spec.kinds()
                    if kind
                }
            )
            for _, _, suffix in module.spec.passes()
        ]
        return cls(module.spec, tuple(passes))

    def arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """Return the weights by the names of PyTorch's ``state_dict``, in its order."""
        return {
            f"{kind}_{suffix}": getattr(own, kind)
            for own, (_, _, suffix) in zip(self.passes, self.spec.passes(), strict=True)
            for kind in self.spec.kinds()
            if kind
        }

    def to_module(self) -> Recurrent:
        """Return an LSTM, GRU or RNN with copies of the weights: in eval mode, time first."""
        spec = self.spec
        options = {"proj_size": spec.proj_size} if spec.proj_size else {}
        module = make_stack(
            spec.cell,
            spec.input_size,
            spec.hidden_size,
            spec.num_layers,
            bias=spec.bias,
            bidirectional=spec.bidirectional,
            device="meta",
            **options,
        )
        weights = {name: torch.from_numpy(array.copy()) for name, array in self.arrays().items()}
        module.load_state_dict(weights, assign=True)
        return module.eval()
