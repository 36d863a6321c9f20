"""The engine in C++: see the files beside this one for each capability."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from gatewise.engines.contract import (
    Engine,
    LayerGradients,
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    LossInputs,
    LossOptions,
    LossOutputs,
    cannot_run,
)
from gatewise.engines.native import dropout, layer, loss, stream, update
from gatewise.engines.native.module import instructions, why_not_built
from gatewise.spec import RecurrentSpec


class NativeEngine(Engine):
    """Checks that it computes what is asked for, and hands addresses to ``gatewise._native``."""

    name = "native"
    opaque_loss = True
    has_high, has_fp16, row_gradients = True, False, True

    def why_not(self, device: torch.device) -> str | None:
        """Say that it was not built, or computes on the CPU alone."""
        if device.type != "cpu":
            return f"it computes on the CPU, but the tensors are on {device}"
        return why_not_built()

    def hardware(self, device: torch.device) -> str:
        """Name the instruction set."""
        return instructions()[0]

    def fast_high(self) -> bool:
        """Whether there are tiles, on which ``high`` is three products of bf16; elsewhere it is fp32."""
        return instructions()[0] == "amx"

    def why_not_cell(self, cell: str, projected: bool) -> str | None:
        """Say why a cell is left to torch."""
        return why_not_built() or layer.why_not_cell(cell, projected)

    def why_not_layer(self, inputs: LayerInputs, options: LayerOptions) -> str | None:
        """Say why a pass is left to torch."""
        return why_not_built() or layer.why_not(inputs, options)

    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass."""
        if reason := self.why_not_layer(inputs, options):
            refuse(reason)
        return layer.forward(inputs, options)

    def backward(
        self,
        inputs: LayerInputs,
        outputs: LayerOutputs,
        dy: Tensor,
        dstate: Sequence[Tensor],
        options: LayerOptions,
        needs_dx: bool,
    ) -> LayerGradients:
        """Return the gradients of the inputs."""
        if reason := self.why_not_layer(inputs, options):
            refuse(reason)
        return layer.backward(inputs, outputs, dy, dstate, options, needs_dx)

    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return the shapes of the gates of all rows, and of c or ``W_hn h' + b_hn``."""
        return layer.kept_shapes(inputs._replace(lengths=None), options)

    def why_not_loss(self, inputs: LossInputs, products: torch.dtype) -> str | None:
        """Say why a loss is left to torch."""
        return why_not_built() or loss.why_not(inputs, products)

    def loss(self, inputs: LossInputs, options: LossOptions) -> LossOutputs:
        """Compute the loss, and the gradients that are wanted."""
        if reason := self.why_not_loss(inputs, options.products):
            refuse(reason)
        return loss.compute(inputs, options)

    def why_not_mask(self, like: Tensor) -> str | None:
        """Say why a mask is left to torch."""
        return why_not_built() or dropout.why_not(like)

    def mask(self, like: Tensor, seed: Tensor, kept: int, scale: float, threads: int) -> Tensor:
        """Draw a mask."""
        return dropout.draw(like, int(seed), kept, scale, threads)

    def why_not_update(self, optimizer: torch.optim.Optimizer, scaled: bool) -> str | None:
        """Say why a step is left to the optimiser itself."""
        return why_not_built() or ("the loss is scaled" if scaled else update.why_not(optimizer))

    def gradient_norm(self, parameters: Iterable[Tensor], threads: int) -> float:
        """Return the norm, summed in double."""
        return update.gradient_norm(parameters, threads)

    def update(self, optimizer: torch.optim.Optimizer, clip: float, threads: int) -> None:
        """Do a step."""
        update.step(optimizer, clip, threads)

    def why_not_stream(self, spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
        """Say why a stack cannot be streamed."""
        return stream.why_not(spec, device, dtype)

    def stream(self, spec: RecurrentSpec, parameters: Mapping[str, Tensor], **options: Any) -> stream.Stream[Any]:
        """Pack a stack's weights."""
        return stream.Stream(spec, parameters, **options)


def refuse(reason: str) -> NoReturn:
    """Raise the error of what was asked of this engine and is not computed."""
    raise ValueError(cannot_run("native", reason))
