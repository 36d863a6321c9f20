"""The internals of a model's recurrent stack: its input, and every gate and state of one layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatewise.errors import UsageError
from gatewise.nn.recurrent import Recurrent
from gatewise.spec import CELLS
from gatewise.wording import option


def stack_input(rnn: Recurrent, call: Callable[[], object]) -> Tensor:
    """Run ``call`` and return the stack's input during it, (T, B, I), or (B, T, I) if the stack is batch-first.

    Raises:
        RuntimeError: the stack was not run.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0].detach())

    hook = rnn.register_forward_pre_hook(keep)
    try:
        with torch.no_grad():
            call()
    finally:
        hook.remove()
    if not seen:
        raise RuntimeError("the recurrent stack was not run")
    return seen[0]


@dataclass(frozen=True)
class LayerTrace:
    """One layer and direction over the T steps of one sequence, its H units sorted by how long they remember.

    Attributes:
        cell: a name in ``gatewise.spec.CELLS``.
        layer: the layer, counted from 1.
        backward: whether this is the backward direction.
        values: each gate and state by name, (T, H), with sorted units.
        units: the original unit indices in sorted order, (H,).
        memory: how long each unit remembers, (H,), descending: in steps (LSTM, GRU), or as the correlation of its
            state with the state one step before (plain RNNs, which have no gate).
    """

    cell: str
    layer: int
    backward: bool
    values: dict[str, npt.NDArray[np.floating]]
    units: npt.NDArray[np.integer]
    memory: npt.NDArray[np.floating]


@torch.no_grad()
def trace_layer(rnn: Recurrent, x: Tensor, layer: int = 0, backward: bool = False) -> LayerTrace:
    """Trace one layer over one sequence.

    A gate that keeps the share f of a value at every step leaves ``f^t = e^(−t/τ)`` of it after t steps, with the time
    scale ``τ = −1 / ln f``. Here f is the mean over the sequence of an LSTM's forget gate, or of a GRU's update gate z,
    which keeps the share z of h'.

    Args:
        rnn: the stack.
        x: its input, a batch of one sequence.
        layer: the layer, counted from 1; 0 is the top layer.
        backward: trace the backward direction.

    Raises:
        UsageError: the layer or direction does not exist.
    """
    spec = rnn.spec
    if not 0 <= layer <= spec.num_layers:
        raise UsageError(
            f"{option('layer', layer)}: this model has {spec.num_layers} recurrent layer(s); give a number from 1 to "
            "that"
        )
    if backward and not spec.bidirectional:
        raise UsageError(f"{option('direction', 'backward')}: this model has no backward direction; omit it")
    layer = layer or spec.num_layers
    *_, traced = rnn(x, trace=CELLS[spec.cell].traced)
    values = {name: t[layer - 1, int(backward), :, 0].double().cpu().numpy() for name, t in traced.items()}
    memory = _memory(spec.cell, values)
    order = np.argsort(-memory, kind="stable")
    return LayerTrace(
        spec.cell, layer, backward, {name: v[:, order] for name, v in values.items()}, order, memory[order]
    )


def _memory(cell: str, values: dict[str, npt.NDArray[np.floating]]) -> npt.NDArray[np.floating]:
    """Return how long each unit remembers."""
    if cell in ("lstm", "gru"):
        kept = values["f" if cell == "lstm" else "z"].mean(0)
        return np.asarray(-1 / np.log(kept.clip(1e-12, 1 - 1e-9)))
    h = values["h"] - values["h"].mean(0)
    return np.asarray((h[1:] * h[:-1]).sum(0) / np.maximum((h**2).sum(0), 1e-12))
