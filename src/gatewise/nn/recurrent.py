"""The recurrent stacks: PyTorch's modules, and the reduced-precision pass that keeps the cell state in fp32."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Tensor, ...]
"""The carried state: ``(h, c)`` of an LSTM, ``(h,)`` of a GRU or plain RNN; each (L, B, H)."""


class LSTM(nn.LSTM):
    """``torch.nn.LSTM``, but under autocast the products take the reduced precision and the cell state stays in fp32.

    ``i, f, g, o = σ, σ, tanh, σ (W_ih x + b_ih + W_hh h + b_hh)``, ``c = f·c + i·g``, ``h = o·tanh(c)``
    (Zaremba et al. 2014, arXiv 1409.2329, section 3). PyTorch's own module would round ``c`` to 16 bits each step.
    """

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "T B I"], hx: tuple[Tensor, Tensor]
    ) -> tuple[Float[Tensor, "T B H"], tuple[Tensor, Tensor]]:
        """Read T steps from state ``hx``; return the last layer's outputs and the new state."""
        if not torch.is_autocast_enabled(x.device.type):
            result: tuple[Tensor, tuple[Tensor, Tensor]] = super().forward(x, hx)
            return result
        h_n, c_n = [], []
        for layer, (h, c) in enumerate(zip(*hx, strict=True)):
            w_ih, w_hh, b_ih, b_hh = (
                getattr(self, f"{n}_l{layer}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            from_input = F.linear(x, w_ih) + (b_ih + b_hh)
            outputs = []
            for step in from_input:
                i, f, g, o = (step + F.linear(h, w_hh)).float().chunk(4, dim=-1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                outputs.append(h)
            x = torch.stack(outputs)
            h_n.append(h)
            c_n.append(c)
        return x, (torch.stack(h_n), torch.stack(c_n))


class GRU(nn.GRU):
    """``torch.nn.GRU`` with its state in a tuple, as an LSTM's is."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "T B I"], hx: tuple[Tensor]
    ) -> tuple[Float[Tensor, "T B H"], tuple[Tensor]]:
        """Read T steps from state ``hx``; return the last layer's outputs and the new state."""
        y, h_n = super().forward(x, hx[0])
        return y, (h_n,)


class RNN(nn.RNN):
    """``torch.nn.RNN`` with its state in a tuple, as an LSTM's is."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "T B I"], hx: tuple[Tensor]
    ) -> tuple[Float[Tensor, "T B H"], tuple[Tensor]]:
        """Read T steps from state ``hx``; return the last layer's outputs and the new state."""
        y, h_n = super().forward(x, hx[0])
        return y, (h_n,)


STACKS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": LSTM,
    "gru": GRU,
    "rnn_tanh": partial(RNN, nonlinearity="tanh"),
    "rnn_relu": partial(RNN, nonlinearity="relu"),
}
"""From ``model.cell`` to what makes the stack, called as ``(input_size, hidden_size, num_layers, dropout=…)``."""
