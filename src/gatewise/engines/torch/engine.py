"""The engine in PyTorch's tensor operations: any device, any floating-point dtype."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.engines.checks import check_saved
from gatewise.engines.contract import (
    Engine,
    LayerGradients,
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    LossInputs,
    LossOptions,
    LossOutputs,
    StackGradients,
    StackInputs,
    packed_rows,
    work_dtype,
)
from gatewise.engines.differentiable import differentiable_forward, layer_gradients_again
from gatewise.engines.torch import cudnn, dropout, loss, onednn
from gatewise.engines.torch.cells import LOOPS, Params
from gatewise.engines.torch.packing import Packing
from gatewise.spec import RecurrentSpec


class TorchEngine(Engine):
    """Loops over the steps in tensor operations.

    Passes without a mask, a projection or a trace use fused layers where possible: on the CPU oneDNN's, for a float32
    LSTM whose rows all have T steps; on a GPU cuDNN's, for any cell, any lengths, and whole stacks. A cell without a
    loop runs by its step function, and is rerun to be differentiated.
    """

    name = "torch"

    def why_not(self, device: torch.device) -> str | None:
        """Return None: the engine is available wherever PyTorch is."""
        return None

    def hardware(self, device: torch.device) -> str:
        """Return the name of the GPU, or of the instruction set that PyTorch's kernels use."""
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        return torch.backends.cpu.get_cpu_capability().lower()

    def has_high(self, device: torch.device) -> bool:
        """Return whether the device is a GPU, where ``high`` is TF32."""
        return device.type == "cuda"

    def fast_high(self, device: torch.device) -> bool:
        """Return whether the device is a GPU with TF32: NVIDIA's since Ampere."""
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)

    def why_not_cell(self, cell: str, projected: bool) -> str | None:
        """Return None: every cell is supported."""
        return None

    def why_not_layer(self, inputs: LayerInputs, options: LayerOptions) -> str | None:
        """Return None: every pass is supported."""
        return None

    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass."""
        if onednn.fits(inputs, options):
            return onednn.forward(inputs, options)
        if cudnn.fits(inputs, options):
            return cudnn.forward(inputs, options)
        if options.cell not in LOOPS:
            with torch.no_grad():
                return differentiable_forward(inputs, options)
        (T, B), dtype, out = inputs.x.shape[:2], work_dtype(inputs), inputs.state[0].dtype
        rows = Packing.plan(T, B, inputs.lengths, options.reverse, inputs.x.device)
        params = _params(inputs, options, dtype)
        state = [rows.sort(part.to(dtype)) for part in inputs.state]
        a = _input_product(rows.pack(inputs.x), params, options, dtype)
        y, others, saved, trace = LOOPS[options.cell].forward(
            a, state, params, _mask(inputs, rows, dtype), rows, options.save or options.trace
        )
        last = [rows.at_end(y, state[0]), *others]
        traced = [rows.unpack(t, T, B) for t in trace] if options.trace else []
        if options.save and rows.gather is None:  # the trace would share memory with the saved tensors
            traced = [t.clone() for t in traced]
        if options.known_shapes:
            saved = [_with_rows(t, T * B) for t in saved]
        return LayerOutputs(
            rows.unpack(y, T, B).to(out),
            tuple(rows.unsort(part).to(out) for part in last),
            saved if options.save else [],
            [t.to(out) for t in traced],
        )

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
        if len(outputs.saved) == 1 and outputs.saved[0].dtype == torch.uint8:
            return onednn.backward(inputs, outputs, dy, dstate, options)
        if cudnn.fits(inputs, options):
            return cudnn.backward(inputs, outputs, dy, dstate, options, needs_dx)
        if options.cell not in LOOPS:
            return _backward_by_steps(inputs, dy, dstate, options, needs_dx)
        x, (T, B), dtype = inputs.x, inputs.x.shape[:2], work_dtype(inputs)
        kept = packed_rows(inputs, options)
        check_saved(outputs.saved, [(kept, width) for _, width in self.saved_shapes(inputs, options)], dtype)
        rows, params = Packing.plan(T, B, inputs.lengths, options.reverse, x.device), _params(inputs, options, dtype)
        y, mask = rows.pack(outputs.y).to(dtype), _mask(inputs, rows, dtype)
        state, found = ([rows.sort(t.to(dtype)) for t in given] for given in (inputs.state, dstate))
        saved = [t[: rows.total] for t in outputs.saved]
        h_before = rows.step_before(y, state[0])
        da, du, outer = LOOPS[options.cell].backward(
            rows.pack(dy).to(dtype), found, state, y, h_before, saved, params, mask, rows
        )
        if mask is not None:  # (1); for the GRU, (2)
            h_before = h_before * _repeated(mask, rows)
        dx, w_ih, factors = None, params["weight_ih"], options.products or inputs.state[0].dtype
        if needs_dx and w_ih is not None:
            dx = rows.unpack((da.to(factors) @ w_ih).to(x.dtype), T, B)  # (1)
        outer |= {"weight_ih": (da, rows.pack(x)), "weight_hh": (du, h_before)}  # (1); for the GRU, (2)
        sums = {"bias_ih": da, "bias_hh": du}
        return LayerGradients(
            dx,
            tuple(rows.unsort(d).to(s.dtype) for d, s in zip(found, inputs.state, strict=True)),
            tuple(
                None
                if p is None
                else (sums[name].sum(0) if name in sums else _transposed_product(*outer[name], factors)).to(p.dtype)
                for name, p in zip(options.about.parameters, inputs.params, strict=True)
            ),
        )

    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return the shapes of what the loops save; what cuDNN keeps has no known shape, so that it is rerun."""
        if cudnn.fits(inputs, options) or options.cell not in LOOPS:
            return []
        rows, H = inputs.x.shape[0] * inputs.x.shape[1], inputs.units
        return [(rows, width) for width in LOOPS[options.cell].kept(H, inputs.state[0].shape[-1] != H)]

    def why_not_stack(self, inputs: StackInputs, options: LayerOptions) -> str | None:
        """Return None if cuDNN supports the whole stack."""
        return None if cudnn.fits_stack(inputs, options) else "cuDNN does not support this stack"

    def stack(self, inputs: StackInputs, options: LayerOptions) -> LayerOutputs:
        """Run a whole stack."""
        return cudnn.stack_forward(inputs, options)

    def stack_backward(
        self,
        inputs: StackInputs,
        outputs: LayerOutputs,
        dy: Tensor,
        dstate: Sequence[Tensor],
        options: LayerOptions,
        needs_dx: bool,
    ) -> StackGradients:
        """Return the gradients of the inputs of a stack."""
        return cudnn.stack_backward(inputs, outputs, dy, dstate, options, needs_dx)

    def why_not_loss(self, inputs: LossInputs, products: torch.dtype) -> str | None:
        """Return None: every loss is supported."""
        return None

    def loss(self, inputs: LossInputs, options: LossOptions) -> LossOutputs:
        """Compute the loss and the requested gradients, chunk by chunk."""
        return loss.compute(inputs, options)

    def why_not_mask(self, like: Tensor) -> str | None:
        """Return None: every mask is supported."""
        return None

    def mask(self, like: Tensor, seed: Tensor, kept: int, scale: float, threads: int) -> Tensor:
        """Draw a mask."""
        return dropout.draw(like, seed, kept, scale)

    def why_not_update(self, optimizer: torch.optim.Optimizer, scaled: bool) -> str | None:
        """Return None: the optimizer itself performs the step."""
        return None

    def gradient_norm(self, parameters: Iterable[Tensor], threads: int) -> float:
        """Return the norm of all gradients."""
        return float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        norm: float,
        max_norm: float,
        threads: int,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Clip the gradients in place and perform the optimizer's own step."""
        if 0 < max_norm < norm:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grads_with_norm_(parameters, max_norm, torch.tensor(norm))
        scaler.step(optimizer)

    def why_not_stream(self, spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
        """Return the reason why streaming is not supported."""
        return "streaming is not supported"

    def stream(self, spec: RecurrentSpec, parameters: Any, **options: Any) -> Any:
        """Raise an error: streaming is not supported.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"engine {self.name!r} does not support streaming; use engine='native'")


def _params(inputs: LayerInputs, options: LayerOptions, dtype: torch.dtype) -> Params:
    """Return the parameters by name: weights in the dtype of products, biases in that of the gates."""
    factors = options.products or inputs.state[0].dtype
    return {
        name: None if p is None else p.to(dtype if name.startswith("bias") else factors)
        for name, p in zip(options.about.parameters, inputs.params, strict=True)
    }


def _mask(inputs: LayerInputs, rows: Packing, dtype: torch.dtype) -> Tensor | None:
    return None if inputs.h_mask is None else rows.sort(inputs.h_mask.to(dtype))


def _input_product(x: Tensor, params: Params, options: LayerOptions, dtype: torch.dtype) -> Tensor:
    """Return ``W_ih x + b`` of all rows, (N, G); includes both biases unless the cell needs them separate."""
    w_ih, b, b_hh = params["weight_ih"], params["bias_ih"], params["bias_hh"]
    assert w_ih is not None
    if b is not None and b_hh is not None and not options.about.input_bias_apart:
        b = b + b_hh
    x = x.to(w_ih.dtype)
    if x.dtype == dtype:
        return torch.mm(x, w_ih.t()) if b is None else torch.addmm(b, x, w_ih.t())
    a = torch.mm(x, w_ih.t()).to(dtype)
    return a if b is None else a.add_(b)


def _backward_by_steps(
    inputs: LayerInputs, dy: Tensor, dstate: Sequence[Tensor], options: LayerOptions, needs_dx: bool
) -> LayerGradients:
    """Rerun the steps of the cell and differentiate them."""
    leaves = LayerInputs(
        inputs.x.detach().requires_grad_(),
        tuple(part.detach().requires_grad_() for part in inputs.state),
        tuple(None if p is None else p.detach().requires_grad_() for p in inputs.params),
        inputs.h_mask,
        inputs.lengths,
    )
    states, given = len(inputs.state), (inputs.x, *inputs.state, *inputs.params)
    with _autograd_is_there():
        found = layer_gradients_again(leaves, options, [needs_dx, *[True] * (len(given) - 1)], [dy, *dstate])
    dx, *others = found
    known = [torch.zeros_like(t) if d is None and t is not None else d for d, t in zip(others, given[1:], strict=True)]
    return LayerGradients(dx, tuple(known[:states]), tuple(known[states:]))  # type: ignore[arg-type]


def _autograd_is_there() -> Any:
    """Return a context in which autograd records operations even under a dispatch mode, such as a FLOP counter."""
    return torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False)


def _transposed_product(da: Tensor, x: Tensor, factors: torch.dtype) -> Tensor:
    """Return ``Σ da xᵀ`` over all rows."""
    return da.to(factors).t() @ x.to(factors)


def _repeated(mask: Tensor, rows: Packing) -> Tensor:
    """Return the mask of every packed row, (N, P), from the sorted mask (B, P)."""
    return torch.cat([mask[:n] for n in rows.counts]) if rows.counts else mask[:0]


def _with_rows(kept: Tensor, rows: int) -> Tensor:
    """Return the tensor padded to ``rows`` rows with zeros, which nothing reads."""
    return torch.nn.functional.pad(kept, (0, 0, 0, rows - len(kept))) if len(kept) < rows else kept
