"""The fused layers of PyTorch: oneDNN's LSTM on the CPU, cuDNN's cells on a GPU."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.engines.checks import check_saved
from gatewise.engines.contract import LayerGradients, LayerInputs, LayerOptions, LayerOutputs


def autograd_is_there() -> Any:
    """Return a context in which autograd records operations even under a dispatch mode, such as a FLOP counter."""
    return torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False)


def fits_onednn(inputs: LayerInputs, options: LayerOptions) -> bool:
    """Return whether oneDNN's layer supports exactly this pass. Only oneDNN knows the size of its workspace."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(
        available and torch.backends.mkldnn.enabled and _onednn_could(_without_needless_lengths(inputs), options)
    )


def onednn_forward(inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
    """Run one pass."""
    with torch.set_grad_enabled(options.save):  # without it there is no workspace
        y, h_n, c_n, workspace = torch.ops.aten.mkldnn_rnn_layer(
            *_onednn_inputs(inputs), options.reverse, [], _LSTM, inputs.units, 1, True, False, False, options.save
        )
    if options.save:
        if len(_WORKSPACES) >= 4096:
            _WORKSPACES.clear()
        _WORKSPACES[_workspace_key(inputs, options)] = workspace.numel()
    return LayerOutputs(y, (h_n[0], c_n[0]), [workspace] if options.save else [], [])


def onednn_backward(
    inputs: LayerInputs, outputs: LayerOutputs, dy: Tensor, dstate: Sequence[Tensor], options: LayerOptions
) -> LayerGradients:
    """Return the gradients of the inputs."""
    inputs = _without_needless_lengths(inputs)
    if not _onednn_could(inputs, options):
        raise ValueError(
            "saved[0] is a oneDNN workspace, but oneDNN does not support this pass; expected what it saved"
        )
    if (key := _workspace_key(inputs, options)) not in _WORKSPACES:
        onednn_forward(inputs, options._replace(save=True))
    check_saved(outputs.saved, [(_WORKSPACES[key],)], torch.uint8)
    # All contiguous: oneDNN reads raw addresses.
    h_n, c_n, dh_n, dc_n = (t[None].contiguous() for t in (*outputs.state, *dstate))
    y, dy, workspace = (t.contiguous() for t in (outputs.y, dy, outputs.saved[0]))
    how: tuple[Any, ...] = (options.reverse, _LSTM, inputs.units, 1, True, True, False, [], False)
    dx, dw_ih, dw_hh, db_ih, db_hh, dh_0, dc_0 = torch.ops.aten.mkldnn_rnn_layer_backward(
        *_onednn_inputs(inputs), y, h_n, c_n, dy, dh_n, dc_n, *how, workspace
    )
    biases = (None, None) if inputs.params[2] is None else (db_ih, db_hh)
    return LayerGradients(dx, (dh_0[0], dc_0[0]), (dw_ih, dw_hh, *biases, None))


def fits_cudnn(inputs: LayerInputs, options: LayerOptions) -> bool:
    """Return whether cuDNN supports exactly this pass; in 16 bits it would round the cell state."""
    x = inputs.x
    wide = x.dtype in (torch.float32, torch.float64)
    return x.device.type == "cuda" and wide and _is_pytorchs(inputs, options) and x.numel() > 0


def cudnn_forward(inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
    """Run PyTorch's layer for this cell."""
    state, weights = [part[None] for part in inputs.state], [p for p in inputs.params if p is not None]
    how = (inputs.params[2] is not None, 1, 0.0, torch.is_grad_enabled(), False, False)
    x = inputs.x.flip(0) if options.reverse else inputs.x
    with warnings.catch_warnings():  # cuDNN copies the weights into one piece and says so
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        given = state if len(state) > 1 else state[0]
        y, *last = getattr(torch, options.cell)(x, given, weights, *how)
    return LayerOutputs(
        y.flip(0) if options.reverse else y.contiguous(), tuple(part[0].clone() for part in last), [], []
    )


def cudnn_backward(inputs: LayerInputs, upstream: Sequence[Tensor], options: LayerOptions) -> LayerGradients:
    """Rerun PyTorch's layer and differentiate it: what its forward pass saved cannot be passed on."""
    x = inputs.x.detach().requires_grad_()
    state = tuple(part.detach().requires_grad_() for part in inputs.state)
    params = tuple(None if p is None else p.detach().requires_grad_() for p in inputs.params)
    leaves = inputs._replace(x=x, state=state, params=params)
    with torch.enable_grad(), autograd_is_there():
        outputs = cudnn_forward(leaves, options)
    pairs = [(o, d) for o, d in zip((outputs.y, *outputs.state), upstream, strict=True) if o.requires_grad]
    found = iter(torch.autograd.grad([o for o, _ in pairs], leaves.floating, [d for _, d in pairs]))
    return LayerGradients(
        next(found), tuple(next(found) for _ in state), tuple(None if p is None else next(found) for p in params)
    )


def _is_pytorchs(inputs: LayerInputs, options: LayerOptions) -> bool:
    """Return whether PyTorch has a layer that computes exactly this pass."""
    extras = (inputs.h_mask, inputs.lengths, options.products)
    usual = options.cell in ("lstm", "gru", "rnn_tanh", "rnn_relu") and inputs.state[0].shape[-1] == inputs.units
    return usual and extras == (None,) * 3 and not options.trace


def _without_needless_lengths(inputs: LayerInputs) -> LayerInputs:
    """Omit the lengths if all rows have all steps, as in most batches of sentences sorted by length."""
    lengths = inputs.lengths
    full = lengths is not None and len(lengths) > 0 and int(lengths.min()) == len(inputs.x)
    return inputs._replace(lengths=None) if full else inputs


def _onednn_could(inputs: LayerInputs, options: LayerOptions) -> bool:
    return bool(
        options.cell == "lstm"
        and _is_pytorchs(inputs, options)
        and not (options.save and options.known_shapes)
        and inputs.x.device.type == "cpu"
        and all(t.dtype == torch.float32 for t in inputs.floating)
        and inputs.x.numel() > 0
    )


_LSTM = 2  # PyTorch's code for it
_WORKSPACES: dict[tuple[int, ...], int] = {}
"""Bytes of oneDNN's workspace by pass: its backward pass trusts that the given workspace has this size."""


def _workspace_key(inputs: LayerInputs, options: LayerOptions) -> tuple[int, ...]:
    return (*inputs.x.shape, inputs.units, options.reverse, torch.get_num_threads())


def _onednn_inputs(inputs: LayerInputs) -> list[Tensor]:
    """Return x, the four weights, h_0 and c_0 of one layer in the form that PyTorch's operator takes."""
    w_ih, w_hh, b_ih, b_hh, _ = inputs.params
    assert w_ih is not None and w_hh is not None
    if b_ih is None or b_hh is None:
        b_ih = b_hh = w_ih.new_zeros(len(w_ih))
    h_0, c_0 = inputs.state
    return [t.contiguous() for t in (inputs.x, w_ih, w_hh, b_ih, b_hh, h_0[None], c_0[None])]
