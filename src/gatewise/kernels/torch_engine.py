"""The engine that PyTorch's tensor operations make: any device, any floating dtype."""

import warnings
from typing import Any

import torch
from torch import Tensor

from gatewise.kernels import torch_cells as cells
from gatewise.kernels.contract import (
    LayerGradients,
    LayerInputs,
    LayerOptions,
    LayerOutputs,
    check_saved,
    packed_rows,
    state_size,
    work_dtype,
)
from gatewise.kernels.packing import Packing


class TorchEngine:
    """Loops over the steps in tensor operations.

    Two kinds of plain pass (no lengths, mask, projection or trace) go to a layer that PyTorch has: an LSTM in float32
    on the CPU to oneDNN's, also where lengths are given and each is T; any cell on a GPU to cuDNN's.
    """

    def forward(self, inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
        """Run one pass."""
        if _fits_onednn(_without_needless_lengths(inputs), options):
            return _onednn_forward(inputs, options)
        if _fits_cudnn(inputs, options):
            return LayerOutputs(*_fused_forward(inputs, options), [], [])
        x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, w_hr, h_mask, lengths = inputs
        (T, B), dtype, factors = x.shape[:2], work_dtype(inputs), options.products or h_0.dtype
        rows = Packing.plan(T, B, lengths, options.reverse, x.device)
        h = rows.sort(h_0.to(dtype))
        mask = None if h_mask is None else rows.sort(h_mask.to(dtype))
        w_hh = w_hh.to(factors)
        b = None
        if b_ih is not None and b_hh is not None:
            b = (b_ih if options.cell == "gru" else b_ih + b_hh).to(dtype)
        a = _input_product(rows.pack(x).to(factors), w_ih.to(factors), b, dtype)
        keep, saved, trace = options.save or options.trace, list[Tensor](), list[Tensor]()
        if options.cell == "lstm":
            assert c_0 is not None
            c = rows.sort(c_0.to(dtype))
            w_hr = None if w_hr is None else w_hr.to(factors)
            y, c_kept, saved = cells.lstm_forward(a, h, c, w_hh, w_hr, mask, rows, keep)
            c_n = rows.unsort(rows.at_end(c_kept, c) if keep else c_kept)
            trace = [a, c_kept]
        else:
            c_n = h.new_empty(0)
            if options.cell == "gru":
                b_hh = None if b_hh is None else b_hh.to(dtype)
                y, saved = cells.gru_forward(a, h, w_hh, b_hh, mask, rows, keep)
                trace = [a]
            else:
                y = cells.rnn_forward(a, h, w_hh, mask, rows, options.cell.removeprefix("rnn_"))
        h_n = rows.unsort(rows.at_end(y, h))
        traced = [rows.unpack(t, T, B) for t in trace] if options.trace else []
        if options.save and rows.gather is None:  # the trace would share its memory with what is saved
            traced = [t.clone() for t in traced]
        if options.known_shapes:
            saved = [_with_rows(t, T * B) for t in saved]
        out = h_0.dtype
        return LayerOutputs(
            rows.unpack(y, T, B).to(out),
            h_n.to(out),
            c_n.to(out),
            saved if options.save else [],
            [t.to(out) for t in traced],
        )

    def backward(
        self,
        inputs: LayerInputs,
        outputs: LayerOutputs,
        dy: Tensor,
        dh_n: Tensor,
        dc_n: Tensor,
        options: LayerOptions,
        needs_dx: bool,
    ) -> LayerGradients:
        """Return the gradients of the inputs."""
        if len(outputs.saved) == 1 and outputs.saved[0].dtype == torch.uint8:
            return _onednn_backward(_without_needless_lengths(inputs), outputs, dy, dh_n, dc_n, options)
        if _fits_cudnn(inputs, options):
            return _fused_backward(inputs, [dy, dh_n, dc_n], options)
        x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, w_hr, h_mask, lengths = inputs
        (T, B), dtype, factors = x.shape[:2], work_dtype(inputs), options.products or h_0.dtype
        kept = packed_rows(inputs, options)
        check_saved(outputs.saved, [(kept, width) for _, width in self.saved_shapes(inputs, options)], dtype)
        rows = Packing.plan(T, B, lengths, options.reverse, x.device)
        y, dy, dh = rows.pack(outputs.y).to(dtype), rows.pack(dy).to(dtype), rows.sort(dh_n.to(dtype))
        mask = None if h_mask is None else rows.sort(h_mask.to(dtype))
        h_before = rows.step_before(y, rows.sort(h_0.to(dtype)))
        saved, w_hh_ = [t[: rows.total] for t in outputs.saved], w_hh.to(factors)
        dc, dw_hr = None, None
        if options.cell == "lstm":
            assert c_0 is not None
            dc, c = rows.sort(dc_n.to(dtype)), rows.sort(c_0.to(dtype))
            w_hr_ = None if w_hr is None else w_hr.to(factors)
            da, dh_kept = cells.lstm_backward(dy, dh, dc, c, saved, w_hh_, w_hr_, mask, rows)
            du, dc = da, rows.unsort(dc).to(c_0.dtype)
            if w_hr is not None and dh_kept is not None:
                dw_hr = _transposed_product(dh_kept, saved[2], factors).to(w_hr.dtype)  # (8)
        elif options.cell == "gru":
            da, du = cells.gru_backward(dy, dh, h_before, saved, w_hh_, mask, rows)
        else:
            da = du = cells.rnn_backward(dy, dh, y, w_hh_, mask, rows, options.cell.removeprefix("rnn_"))
        if mask is not None:  # (1), of the GRU (2)
            h_before = h_before * _repeated(mask, rows)
        dx = None
        if needs_dx:
            dx = rows.unpack((da.to(factors) @ w_ih.to(factors)).to(x.dtype), T, B)  # (1)
        db_ih = None if b_ih is None else da.sum(0).to(b_ih.dtype)  # (1)
        db_hh = None if b_hh is None else du.sum(0).to(b_hh.dtype)  # (1), of the GRU (2)
        return LayerGradients(
            dx,
            rows.unsort(dh).to(h_0.dtype),
            dc,
            _transposed_product(da, rows.pack(x), factors).to(w_ih.dtype),  # (1)
            _transposed_product(du, h_before, factors).to(w_hh.dtype),  # (1), of the GRU (2)
            db_ih,
            db_hh,
            dw_hr,
        )

    def saved_shapes(self, inputs: LayerInputs, options: LayerOptions) -> list[tuple[int, ...]]:
        """Return the shapes of what the loops keep; cuDNN's layers are run once more instead."""
        if _fits_cudnn(inputs, options):
            return []
        rows, H = inputs.x.shape[0] * inputs.x.shape[1], state_size(inputs)
        widths = {"lstm": [4 * H, H] + ([H] if inputs.w_hr is not None else []), "gru": [3 * H, H]}
        return [(rows, width) for width in widths.get(options.cell, [])]


def _input_product(x: Tensor, w_ih: Tensor, b: Tensor | None, dtype: torch.dtype) -> Tensor:
    """``W_ih x + b`` of all rows, (N, gates·H)."""
    if x.dtype == dtype:
        return torch.mm(x, w_ih.t()) if b is None else torch.addmm(b, x, w_ih.t())
    a = torch.mm(x, w_ih.t()).to(dtype)
    return a if b is None else a.add_(b)


def _transposed_product(da: Tensor, x: Tensor, factors: torch.dtype) -> Tensor:
    """``Σ da xᵀ`` over all rows."""
    return da.to(factors).t() @ x.to(factors)


def _repeated(mask: Tensor, rows: Packing) -> Tensor:
    """The mask of every packed place: (N, P) from the sorted (B, P)."""
    return torch.cat([mask[:n] for n in rows.counts]) if rows.counts else mask[:0]


def _with_rows(kept: Tensor, rows: int) -> Tensor:
    """The same with rows of zeros behind, which nobody reads."""
    return torch.nn.functional.pad(kept, (0, 0, 0, rows - len(kept))) if len(kept) < rows else kept


def _is_plain(inputs: LayerInputs, options: LayerOptions) -> bool:
    """Whether the pass is what a layer of PyTorch's own computes."""
    extras = (inputs.w_hr, inputs.h_mask, inputs.lengths, options.products)
    return extras == (None,) * 4 and not options.trace


def _without_needless_lengths(inputs: LayerInputs) -> LayerInputs:
    """Leave the lengths out where each row has all the steps, as in most batches of sentences sorted by length."""
    lengths = inputs.lengths
    full = lengths is not None and len(lengths) > 0 and int(lengths.min()) == len(inputs.x)
    return inputs._replace(lengths=None) if full else inputs


def _fits_onednn(inputs: LayerInputs, options: LayerOptions) -> bool:
    """Whether PyTorch's own LSTM layer computes just this pass. Its workspace has a size that only it knows."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.backends.mkldnn.enabled and _onednn_could(inputs, options))


def _onednn_could(inputs: LayerInputs, options: LayerOptions) -> bool:
    x = inputs.x
    return bool(
        options.cell == "lstm"
        and _is_plain(inputs, options)
        and not (options.save and options.known_shapes)
        and x.device.type == "cpu"
        and all(t.dtype == torch.float32 for t in inputs[:7] if t is not None)
        and x.numel() > 0
    )


_LSTM = 2  # PyTorch's number for it
_WORKSPACES: dict[tuple[int, ...], int] = {}
"""Bytes of oneDNN's workspace by the pass's sizes: its backward pass believes that what it is given has as many."""


def _workspace_key(inputs: LayerInputs, options: LayerOptions) -> tuple[int, ...]:
    return (*inputs.x.shape, state_size(inputs), options.reverse, torch.get_num_threads())


def _onednn_forward(inputs: LayerInputs, options: LayerOptions) -> LayerOutputs:
    H = state_size(inputs)
    with torch.set_grad_enabled(options.save):  # without it there is no workspace
        y, h_n, c_n, workspace = torch.ops.aten.mkldnn_rnn_layer(
            *_onednn_inputs(inputs), options.reverse, [], _LSTM, H, 1, True, False, False, options.save
        )
    if options.save:
        if len(_WORKSPACES) >= 4096:
            _WORKSPACES.clear()
        _WORKSPACES[_workspace_key(inputs, options)] = workspace.numel()
    return LayerOutputs(y, h_n[0], c_n[0], [workspace] if options.save else [], [])


def _onednn_backward(
    inputs: LayerInputs, outputs: LayerOutputs, dy: Tensor, dh_n: Tensor, dc_n: Tensor, options: LayerOptions
) -> LayerGradients:
    if not _onednn_could(inputs, options):
        raise ValueError(
            "saved[0] is oneDNN's workspace, but oneDNN does not compute this pass; expected what it saved"
        )
    if (key := _workspace_key(inputs, options)) not in _WORKSPACES:
        _onednn_forward(inputs, options._replace(save=True))
    check_saved(outputs.saved, [(_WORKSPACES[key],)], torch.uint8)
    # Without gaps, all of them: oneDNN reads addresses.
    y, workspace, *after = (
        t.contiguous()
        for t in (outputs.y, outputs.saved[0], outputs.h_n[None], outputs.c_n[None], dy, dh_n[None], dc_n[None])
    )
    how: tuple[Any, ...] = (options.reverse, _LSTM, state_size(inputs), 1, True, True, False, [], False)
    dx, dw_ih, dw_hh, db_ih, db_hh, dh_0, dc_0 = torch.ops.aten.mkldnn_rnn_layer_backward(
        *_onednn_inputs(inputs), y, *after, *how, workspace
    )
    if inputs.b_ih is None:
        db_ih = db_hh = None
    return LayerGradients(dx, dh_0[0], dc_0[0], dw_ih, dw_hh, db_ih, db_hh, None)


def _onednn_inputs(inputs: LayerInputs) -> list[Tensor]:
    """x, the four weights, h_0 and c_0 of one layer, as PyTorch's operator wants them."""
    x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, _, _, _ = inputs
    assert c_0 is not None
    if b_ih is None or b_hh is None:
        b_ih = b_hh = w_ih.new_zeros(len(w_ih))
    return [t.contiguous() for t in (x, w_ih, w_hh, b_ih, b_hh, h_0[None], c_0[None])]


def _fits_cudnn(inputs: LayerInputs, options: LayerOptions) -> bool:
    """Whether cuDNN computes just this pass; in 16 bits it would round the cell state."""
    x = inputs.x
    wide = x.dtype in (torch.float32, torch.float64)
    return x.device.type == "cuda" and wide and _is_plain(inputs, options) and x.numel() > 0


def _fused_forward(inputs: LayerInputs, options: LayerOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Run PyTorch's layer of this cell; on a GPU that is cuDNN's."""
    x, h_0, c_0, w_ih, w_hh, b_ih, b_hh, _, _, _ = inputs
    weights = [w for w in (w_ih, w_hh, b_ih, b_hh) if w is not None]
    how = (b_ih is not None, 1, 0.0, torch.is_grad_enabled(), False, False)
    x = x.flip(0) if options.reverse else x
    with warnings.catch_warnings():  # cuDNN copies the weights into one piece and says so
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        if c_0 is not None:
            y, h_n, c_n = torch.lstm(x, (h_0[None], c_0[None]), weights, *how)
        else:
            y, h_n = getattr(torch, options.cell)(x, h_0[None], weights, *how)
            c_n = h_0.new_empty(1, 0)
    return y.flip(0) if options.reverse else y.contiguous(), h_n[0].clone(), c_n[0].clone()


def _fused_backward(inputs: LayerInputs, upstream: list[Tensor], options: LayerOptions) -> LayerGradients:
    """Differentiate PyTorch's layer, run once more: what its forward pass kept cannot be handed over."""
    leaves = LayerInputs(*(None if t is None else t.detach().requires_grad_() for t in inputs))  # type: ignore[arg-type]
    with torch.enable_grad(), _AUTOGRAD_IS_LEFT_OUT(torch._C.DispatchKey.AutogradFunctionality, False):
        outputs = _fused_forward(leaves, options)
    pairs = [(o, d) for o, d in zip(outputs, upstream, strict=True) if o.requires_grad]
    found = iter(
        torch.autograd.grad([o for o, _ in pairs], [t for t in leaves if t is not None], [d for _, d in pairs])
    )
    return LayerGradients(*(None if t is None else next(found) for t in leaves[:8]))  # type: ignore[arg-type]


# Below a dispatch mode, such as a FLOP counter, an operator runs without autograd, and nothing would be recorded.
_AUTOGRAD_IS_LEFT_OUT: Any = torch._C._SetExcludeDispatchKeyGuard
