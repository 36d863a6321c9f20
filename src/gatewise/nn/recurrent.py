"""LSTM, GRU and RNN: PyTorch's constructors, shapes, parameters and results, with additional options."""

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gatewise.engines import cannot_run, engine_for, engine_named, layer, stack
from gatewise.engines.contexts import USE_INSTEAD, is_plain, refuse_tracing
from gatewise.engines.contract import LayerInputs, LayerOptions, StackInputs
from gatewise.engines.switches import switches
from gatewise.nn.calls import LSTMCalls, OneStateCalls, Trace
from gatewise.nn.checks import autocast_dtype, check_input, check_lengths, check_state, check_trace
from gatewise.nn.dropout import dropout, dropout_mask
from gatewise.nn.peer import HasPeer
from gatewise.nn.state import LSTMState, RNNState, state_kind
from gatewise.spec import RecurrentSpec

State = LSTMState | RNNState


class Recurrent(HasPeer):
    """Base class of the three modules: L layers, each in one or two directions. Use LSTM, GRU or RNN instead.

    The parameters, their names, order and initialization (uniform in ±1/√H) are those of PyTorch: either module loads
    the other's ``state_dict``, and the same seed gives the same weights.

    The modules work with ``torch.compile``, ``torch.export``, ``torch.func``, ``make_fx``, checkpointing,
    parametrizations, and fake and meta tensors. Within a transform or a dispatch mode, a pass is computed in PyTorch's
    operations, whatever the engine. ``torch.jit.trace``, ``torch.jit.script`` and ``torch.onnx.export`` are not
    supported and raise a ``RuntimeError``; ``torch.fx.symbolic_trace`` needs a tracer that treats the module as a leaf.
    To load a program that ``torch.export.save`` wrote, import ``gatewise.nn`` first.

    Args:
        cell: a name in ``gatewise.spec.CELLS``.
        input_size: I, the size of the input at each step.
        hidden_size: H, the number of units.
        num_layers: L, the number of layers.
        bias: whether the layers have biases.
        batch_first: input and output are (B, T, …) instead of (T, B, …); this does not apply to states.
        dropout: dropout probability between layers, with a new mask at each step; in training mode only.
        bidirectional: adds a second direction, which reads each row from its end.
        proj_size: P, the output size of an LSTM with a projection.
        forget_bias: added to the forget gate's bias at initialization; LSTM only.
        variational_dropout: dropout probability for each layer's input and for h' in the recurrent product, with one
            mask for all steps of a sequence (Gal and Ghahramani 2016, arXiv 1512.05287); a pair sets the two
            probabilities separately. In training mode only.
        engine: ``auto``, ``native``, ``torch`` or ``reference``. ``auto`` uses ``native`` where it supports the pass
            and falls back to ``torch``; ``native`` raises an error instead.
        device: the device of the parameters.
        dtype: the dtype of the parameters.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        forget_bias: float = 0.0,
        variational_dropout: float | tuple[float, float] = 0.0,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        for name, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise ValueError(f"{name} is {flag!r}; expected True or False")
        self.spec = RecurrentSpec(cell, input_size, hidden_size, num_layers, bias, bool(bidirectional), proj_size)
        self._kinds, self._state_kind = self.spec.kinds(), state_kind(self.spec.about)
        pair = variational_dropout if isinstance(variational_dropout, tuple) else (variational_dropout,) * 2
        if len(pair) != 2:
            raise ValueError(f"variational_dropout is {pair}; expected a probability, or a pair (input, h')")
        for name, p in (("dropout", dropout), ("variational_dropout", pair[0]), ("variational_dropout", pair[1])):
            if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
                raise ValueError(f"{name} is {p!r}; expected a probability, 0 to 1")
        if dropout and num_layers == 1:
            warnings.warn(
                f"dropout is {dropout} but there is only one layer; it applies between layers: use num_layers=2 or "
                "more, or variational_dropout",
                stacklevel=3,
            )
        if forget_bias and not ("f" in self.spec.gates and bias):
            raise ValueError(
                f"forget_bias is {forget_bias}; expected a cell with a forget gate and biases, found {cell}, "
                f"bias={bias}: omit it"
            )
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"dtype is {dtype}; expected a floating-point dtype, such as torch.float32")
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, float(dropout), bidirectional
        self.proj_size, self.forget_bias, self.variational_dropout = proj_size, forget_bias, variational_dropout
        if engine != "auto" and (reason := engine_named(engine).why_not_cell(cell, bool(proj_size))):
            raise ValueError(cannot_run(engine, reason))
        engine_named(engine)
        self.engine = engine
        for name, shape in self.spec.parameters().items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    @property
    def mode(self) -> str:
        """PyTorch's name of the cell."""
        return self.spec.cell.upper()

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction, in PyTorch's order."""
        return [self._weights(suffix) for _, _, suffix in self.spec.passes()]

    def flatten_parameters(self) -> None:
        """Do nothing; exists for programs that call it for cuDNN."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Reinitialize all parameters, uniform in ±1/√H, and add ``forget_bias``."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            parameter.uniform_(-bound, bound)
        if self.forget_bias:
            for _, _, suffix in self.spec.passes():
                forget = self.get_parameter(f"bias_ih_{suffix}").chunk(len(self.spec.gates))[self.spec.gates.index("f")]
                forget.add_(self.forget_bias)

    def initial_state(self, batch_size: int = 1) -> State:
        """Return a zero state (L·D, B, …) with the device and dtype of the parameters."""
        return self._zeros(batch_size, self._weights("l0")[1])

    def _zeros(self, batch_size: int, like: Tensor) -> State:
        passes = self.num_layers * self.spec.num_directions
        zeros: State = self._state_kind(*[like.new_zeros(passes, batch_size, size) for size in self.spec.state_sizes])
        return zeros

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        trace: Sequence[str] = (),
    ) -> Any:
        """Run T steps of each row.

        Args:
            input: (T, B, I), (B, T, I) with ``batch_first``, (T, I) without a batch, or a ``PackedSequence``.
            hx: the initial state; zeros by default. An LSTM takes ``(h_0, c_0)``, the others ``h_0`` or an
                ``RNNState``; each (L·D, B, …), without a batch (L·D, …).
            lengths: (B,) integers from 0 to T, in any order: the number of steps of each row. Input past them is
                ignored.
            trace: names of i f g o c h (LSTM), r z n h (GRU) or h (RNN) to return for every step.

        Returns:
            The outputs of the last layer, shaped like the input with D·H (or D·P) features per step, zero past the
            length of a row; and the state after the last step of each row: an ``LSTMState``, which unpacks as
            ``(h_n, c_n)``; else a tensor, or an ``RNNState`` if one was given. With ``trace``, a third value: a mapping
            from each name to a tensor (L, D, T, B, H), time before batch even with ``batch_first``, zero past the
            length of a row, and not differentiable.

        Raises:
            ValueError: a shape, dtype, device, length or option is invalid.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, lengths, trace)
        if not isinstance(input, Tensor):
            raise ValueError(f"input is a {type(input).__name__}; expected a tensor or a PackedSequence")
        weights = self.all_weights  # read once: a parametrization recomputes them at each access
        like = weights[0][1]
        check_input(input, self.input_size, self.batch_first, like)
        unbatched = input.dim() == 2
        x = input.unsqueeze(1) if unbatched else input.transpose(0, 1) if self.batch_first else input
        names = check_trace(trace, self.spec.cell)
        if lengths is not None:
            lengths = check_lengths(lengths, x.shape[1], unbatched)
        state = self._given_state(hx, x.shape[1], unbatched, like)
        y, state, traced = self._run(x, state, lengths, names, weights)
        if unbatched:
            y, state = y.squeeze(1), type(state)(*(part.squeeze(1) for part in state))
        elif self.batch_first:
            y = y.transpose(0, 1)
        bare = len(state) == 1 and (hx is None or isinstance(hx, Tensor))
        result = state[0] if bare else state
        return (y, result, traced) if names else (y, result)

    def _run(
        self, x: Tensor, state: State, lengths: Tensor | None, names: tuple[str, ...], weights: list[list[Tensor]]
    ) -> tuple[Tensor, State, Trace]:
        """Run the stack on (T, B, I)."""
        spec, wants_gates = self.spec, any(name != "h" for name in names)
        needs_gradient = torch.is_grad_enabled() and (
            x.requires_grad or any(p.requires_grad for p in (*state, *itertools.chain(*weights)))
        )
        products = autocast_dtype(x.device)
        compiling, (threads, high) = torch.compiler.is_compiling(), switches()
        options = LayerOptions(spec.cell, False, products, high, threads, needs_gradient, wants_gates, compiling)
        params = [self._with_gaps(own) for own in weights]
        if len(params) > 1 and not (names or compiling or self._draws_masks):
            whole = StackInputs(x, tuple(state), tuple(params), lengths, spec.bidirectional)
            engine = engine_named(self.engine, x.device)
            if engine.why_not_stack(whole, options) is None and is_plain((lengths, *whole.floating)):
                out = stack(whole, options, engine.name)
                return out.y, self._state_kind(*out.state), {}
        traced: dict[str, list[Tensor]] = {name: [] for name in names}
        after, y = [], [x]
        for k, (which, reverse, _) in enumerate(spec.passes()):
            if not reverse:
                x, y = self._with_dropout(torch.cat(y, -1) if len(y) > 1 else y[0], which), []
            h_mask = self._mask(state[0][k], self._variational[1])
            given = LayerInputs(x, tuple([part[k] for part in state]), params[k], h_mask, lengths)
            out = layer(given, options._replace(reverse=reverse), self._engine_for(given, options))
            y.append(out.y)
            after.append(out.state)
            for name in names:
                traced[name].append(self._traced(name, out.y, out.trace))
        grid = (self.num_layers, spec.num_directions)
        # Nothing else refers to what was traced, except that h is y: a single part need not be copied.
        stacked = {
            name: parts[0] if len(parts) == 1 and name != "h" else torch.stack(parts) for name, parts in traced.items()
        }
        return (
            torch.cat(y, -1) if len(y) > 1 else y[0],
            self._state_kind(*(torch.stack(parts) for parts in zip(*after, strict=True))),
            {name: t.view(*grid, *y[0].shape[:2], -1) for name, t in stacked.items()},
        )

    def _engine_for(self, given: LayerInputs, options: LayerOptions) -> str:
        return engine_for(self.engine, given.x.device, lambda each: each.why_not_layer(given, options)).name

    def _traced(self, name: str, y: Tensor, trace: Sequence[Tensor]) -> Tensor:
        """Return the part of an engine's trace with the given name, (T, B, H)."""
        if name == "h":
            return y.detach()
        which, part = next((k, part) for k, part in enumerate(self.spec.about.trace_parts) if name in part)
        return trace[which].detach().chunk(len(part), -1)[part.index(name)]

    @property
    def _variational(self) -> tuple[float, float]:
        p = self.variational_dropout
        return p if isinstance(p, tuple) else (p, p)

    @property
    def _draws_masks(self) -> bool:
        return self.training and any((*self._variational, self.dropout if self.num_layers > 1 else 0.0))

    def _with_dropout(self, x: Tensor, which: int) -> Tensor:
        """Apply dropout to the input of a layer."""
        if which:
            x = dropout(x, self.dropout, self.training)
        mask = self._mask(x[:1], self._variational[0])
        return x if mask is None else x * mask

    def _mask(self, like: Tensor, p: float) -> Tensor | None:
        return dropout_mask(like, p) if p and self.training else None

    def _weights(self, suffix: str) -> list[Tensor]:
        """Return the parameters of one layer and direction, in order; plain tensors may replace them."""
        kinds = [kind for kind in self._kinds if kind]
        weights = [getattr(self, f"{kind}_{suffix}") for kind in kinds]
        if not all(isinstance(w, Tensor) for w in weights):
            kind, found = next((k, w) for k, w in zip(kinds, weights, strict=True) if not isinstance(w, Tensor))
            without = "; or make the module with bias=False" if kind.startswith("bias") else ""
            raise ValueError(f"{kind}_{suffix} is {found!r:.40}; expected a tensor{without}")
        return weights

    def _with_gaps(self, weights: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Return the parameters of one layer and direction with None for those that it does not have."""
        own = iter(weights)
        return tuple([next(own) if kind else None for kind in self._kinds])

    def _forward_packed(self, packed: PackedSequence, hx: Any, lengths: Any, trace: Sequence[str]) -> Any:
        """Run a ``PackedSequence`` with its own lengths, and pack the outputs in the same way."""
        if lengths is not None:
            raise ValueError("lengths was given with a PackedSequence, which has its own lengths; omit it")
        padded, own = pad_packed_sequence(packed, self.batch_first)
        y, *others = self.forward(padded, hx, lengths=own, trace=trace)
        # As in PyTorch: the rows in the order in which they were packed.
        if packed.sorted_indices is not None:
            y = y.index_select(0 if self.batch_first else 1, packed.sorted_indices)
            own = own[packed.sorted_indices.cpu()]
        data = pack_padded_sequence(y, own, self.batch_first).data
        return (PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices), *others)

    def _given_state(self, hx: Any, rows: int, unbatched: bool, like: Tensor) -> State:
        """Return the given state in (L·D, B, …), or zeros."""
        if hx is None:
            return self._zeros(rows, like)
        parts = check_state(hx, self.spec, None if unbatched else rows, like)
        parts = [part.unsqueeze(1) if unbatched else part for part in parts]
        state: State = self._state_kind(*parts)
        return state

    def _slow_forward(self, *input: Any, **kwargs: Any) -> Any:
        """Reject ``torch.jit`` tracing before anything else runs: PyTorch calls this in place of ``forward`` then."""
        refuse_tracing(type(self).__name__)
        return self.forward(*input, **kwargs)

    def __prepare_scriptable__(self) -> Any:
        raise RuntimeError(f"{type(self).__name__} cannot be scripted by torch.jit; {USE_INSTEAD}")

    def extra_repr(self) -> str:
        """Return the sizes and all non-default options, as PyTorch's modules do."""
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "forget_bias": 0.0,
            "variational_dropout": 0.0,
            "engine": "auto",
        }
        return text + "".join(f", {k}={getattr(self, k)}" for k, usual in defaults.items() if getattr(self, k) != usual)


class LSTM(LSTMCalls, Recurrent):
    """A drop-in replacement for ``torch.nn.LSTM``. See ``Recurrent`` for the arguments and ``forward`` for the call.

    ``i, f, g, o = σ, σ, tanh, σ (W_ih x + b_ih + W_hh h' + b_hh)``, ``c = f·c' + i·g``, ``h = o·tanh(c)``
    (Zaremba et al. 2014, arXiv 1409.2329, section 3).

    >>> lstm = LSTM(10, 20, num_layers=2, bidirectional=True)
    >>> y, (h_n, c_n) = lstm(torch.randn(5, 3, 10), lengths=[5, 0, 2])
    >>> y.shape, h_n.shape
    (torch.Size([5, 3, 40]), torch.Size([4, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("lstm", *args, **kwargs)


class GRU(OneStateCalls, Recurrent):
    """A drop-in replacement for ``torch.nn.GRU``. See ``Recurrent`` for the arguments and ``forward`` for the call.

    ``r, z = σ (W_ih x + b_ih + W_hh h' + b_hh)``, ``n = tanh(W_in x + b_in + r·(W_hn h' + b_hn))``,
    ``h = (1 − z)·n + z·h'`` (Cho et al. 2014, arXiv 1406.1078, the reset gate after the product).

    >>> y, h_n = GRU(10, 20)(torch.randn(5, 3, 10))
    >>> y.shape, h_n.shape
    (torch.Size([5, 3, 20]), torch.Size([1, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size was given; only an LSTM supports a projection: omit it")
        super().__init__("gru", *args, **kwargs)


class RNN(OneStateCalls, Recurrent):
    """A drop-in replacement for ``torch.nn.RNN``. See ``Recurrent`` for the arguments and ``forward`` for the call.

    ``h = tanh(W_ih x + b_ih + W_hh h' + b_hh)``, or with relu (Elman 1990). ``nonlinearity`` is ``tanh`` or ``relu``,
    by keyword or, as in PyTorch, the fourth argument.

    >>> y, h_n = RNN(10, 20, nonlinearity="relu")(torch.randn(5, 3, 10))
    >>> y.shape, h_n.shape
    (torch.Size([5, 3, 20]), torch.Size([1, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size was given; only an LSTM supports a projection: omit it")
        if len(args) > 3:
            *first, nonlinearity = args[:4]
            args = (*first, *args[4:])
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is {nonlinearity!r}; expected 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity
        super().__init__(f"rnn_{nonlinearity}", *args, **kwargs)


def make_stack(cell: str, *args: Any, **kwargs: Any) -> Recurrent:
    """Return the module for a cell's name in ``gatewise.spec.CELLS``, made with the other arguments."""
    if cell.startswith("rnn_"):
        return RNN(*args, nonlinearity=cell.removeprefix("rnn_"), **kwargs)
    kinds: dict[str, Callable[..., Recurrent]] = {"lstm": LSTM, "gru": GRU}
    return kinds.get(cell, partial(Recurrent, cell))(*args, **kwargs)
