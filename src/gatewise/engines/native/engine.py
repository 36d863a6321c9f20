"""The engine in C++; the other modules in this package implement its capabilities."""

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
    """Checks that a request is supported and passes addresses to ``gatewise._native``."""

    name = "native"
    opaque_loss = True
    has_fp16, row_gradients = False, True

    def why_not(self, device: torch.device) -> str | None:
        """Return the reason why the engine is not available, or None: it must be built and runs on the CPU only."""
        if device.type != "cpu":
            return f"it runs on the CPU only, but the tensors are on {device}"
        return why_not_built()

    def hardware(self, device: torch.device) -> str:
        """Return the name of the instruction set."""
        return instructions()[0]

    def has_high(self, device: torch.device) -> bool:
        """Return True: every processor computes it."""
        return True

    def fast_high(self, device: torch.device) -> bool:
        """Return whether the processor has AMX tiles, where ``high`` is three bf16 products; elsewhere it is fp32."""
        return instructions()[0] == "amx"

    def why_not_cell(self, cell: str, projected: bool) -> str | None:
        """Return the reason why a cell is not supported, or None."""
        return why_not_built() or layer.why_not_cell(cell, projected)

    def why_not_layer(self, inputs: LayerInputs, options: LayerOptions) -> str | None:
        """Return the reason why a pass is not supported, or None."""
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
        """Return the shapes of the gates of all rows and of c or ``W_hn h' + b_hn``."""
        return layer.kept_shapes(inputs._replace(lengths=None), options)

    def why_not_loss(self, inputs: LossInputs, products: torch.dtype) -> str | None:
        """Return the reason why a loss is not supported, or None."""
        return why_not_built() or loss.why_not(inputs, products)

    def loss(self, inputs: LossInputs, options: LossOptions) -> LossOutputs:
        """Compute the loss and the requested gradients."""
        if reason := self.why_not_loss(inputs, options.products):
            refuse(reason)
        return loss.compute(inputs, options)

    def why_not_mask(self, like: Tensor) -> str | None:
        """Return the reason why a mask is not supported, or None."""
        return why_not_built() or dropout.why_not(like)

    def mask(self, like: Tensor, seed: Tensor, kept: int, scale: float, threads: int) -> Tensor:
        """Draw a mask."""
        return dropout.draw(like, int(seed), kept, scale, threads)

    def masked(self, x: Tensor, seed: Tensor, kept: int, scale: float, threads: int) -> Tensor:
        """Multiply a tensor by a mask that is never held in memory."""
        return dropout.draw(x, int(seed), kept, scale, threads, product=True)

    def why_not_update(self, optimizer: torch.optim.Optimizer, scaled: bool) -> str | None:
        """Return the reason why a step is left to the optimizer itself, or None."""
        return why_not_built() or ("the loss is scaled" if scaled else update.why_not(optimizer))

    def gradient_norm(self, parameters: Iterable[Tensor], threads: int) -> float:
        """Return the norm, summed in double precision."""
        return update.gradient_norm(parameters, threads)

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        norm: float,
        max_norm: float,
        threads: int,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Perform a step; the gradients are clipped as they are read."""
        update.step(optimizer, min(1.0, max_norm / (norm + 1e-6)) if 0 < max_norm < norm else 1.0, threads)

    def why_not_stream(self, spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
        """Return the reason why a stack cannot be streamed, or None."""
        return stream.why_not(spec, device, dtype)

    def stream(self, spec: RecurrentSpec, parameters: Mapping[str, Tensor], **options: Any) -> stream.Stream[Any]:
        """Pack the weights of a stack."""
        return stream.Stream(spec, parameters, **options)


def refuse(reason: str) -> NoReturn:
    """Raise the error for a request that this engine does not support."""
    raise ValueError(cannot_run("native", reason))
