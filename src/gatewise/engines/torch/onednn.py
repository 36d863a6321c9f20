"""oneDNN's LSTM on the CPU."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.engines.checks import check_saved
from gatewise.engines.contract import LayerGradients, LayerInputs, LayerOptions, LayerOutputs


def fits(inputs: LayerInputs, options: LayerOptions) -> bool:
    """Return whether oneDNN's layer supports exactly this pass. Only oneDNN knows the size of its workspace."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.backends.mkldnn.enabled and _could(_without_needless_lengths(inputs), options))


def forward(inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
    """Run one pass."""
    with torch.set_grad_enabled(options.save):  # without it there is no workspace
        y, h_n, c_n, workspace = torch.ops.aten.mkldnn_rnn_layer(
            *_arguments(inputs), options.reverse, [], _LSTM, inputs.units, 1, True, False, False, options.save
        )
    if options.save:
        if len(_WORKSPACES) >= 4096:
            _WORKSPACES.clear()
        _WORKSPACES[_workspace_key(inputs, options)] = workspace.numel()
    return LayerOutputs(y, (h_n[0], c_n[0]), [workspace] if options.save else [], [])


def backward(
    inputs: LayerInputs, outputs: LayerOutputs, dy: Tensor, dstate: Sequence[Tensor], options: LayerOptions
) -> LayerGradients:
    """Return the gradients of the inputs."""
    inputs = _without_needless_lengths(inputs)
    if not _could(inputs, options):
        raise ValueError(
            "saved[0] is a oneDNN workspace, but oneDNN does not support this pass; expected what it saved"
        )
    if (key := _workspace_key(inputs, options)) not in _WORKSPACES:
        forward(inputs, options._replace(save=True))
    check_saved(outputs.saved, [(_WORKSPACES[key],)], torch.uint8)
    # All contiguous: oneDNN reads raw addresses.
    h_n, c_n, dh_n, dc_n = (t[None].contiguous() for t in (*outputs.state, *dstate))
    y, dy, workspace = (t.contiguous() for t in (outputs.y, dy, outputs.saved[0]))
    how: tuple[Any, ...] = (options.reverse, _LSTM, inputs.units, 1, True, True, False, [], False)
    dx, dw_ih, dw_hh, db_ih, db_hh, dh_0, dc_0 = torch.ops.aten.mkldnn_rnn_layer_backward(
        *_arguments(inputs), y, h_n, c_n, dy, dh_n, dc_n, *how, workspace
    )
    biases = (None, None) if inputs.params[2] is None else (db_ih, db_hh)
    return LayerGradients(dx, (dh_0[0], dc_0[0]), (dw_ih, dw_hh, *biases, None))


def _without_needless_lengths(inputs: LayerInputs) -> LayerInputs:
    """Omit the lengths if all rows have all steps, as in most batches of sentences sorted by length."""
    lengths = inputs.lengths
    full = lengths is not None and len(lengths) > 0 and int(lengths.min()) == len(inputs.x)
    return inputs._replace(lengths=None) if full else inputs


def _could(inputs: LayerInputs, options: LayerOptions) -> bool:
    return bool(
        options.cell == "lstm"
        and (inputs.h_mask, inputs.lengths, options.products, options.trace) == (None, None, None, False)
        and inputs.state[0].shape[-1] == inputs.units
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


def _arguments(inputs: LayerInputs) -> list[Tensor]:
    """Return x, the four weights, h_0 and c_0 of one layer in the form that PyTorch's operator takes."""
    w_ih, w_hh, b_ih, b_hh, _ = inputs.params
    assert w_ih is not None and w_hh is not None
    if b_ih is None or b_hh is None:
        b_ih = b_hh = w_ih.new_zeros(len(w_ih))
    h_0, c_0 = inputs.state
    return [t.contiguous() for t in (inputs.x, w_ih, w_hh, b_ih, b_hh, h_0[None], c_0[None])]
