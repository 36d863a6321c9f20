"""PyTorch's own recurrent module of a stack, and back."""

from typing import TYPE_CHECKING, Any

from torch import nn
from typing_extensions import Self

if TYPE_CHECKING:
    from gatewise.nn.recurrent import Recurrent


class HasPeer(nn.Module):
    """Conversion from and to ``torch.nn.LSTM``, ``GRU`` and ``RNN``, whose parameters have the same names."""

    @classmethod
    def from_torch(cls, module: nn.RNNBase, **options: Any) -> Self:
        """Return a module with copies of the weights of PyTorch's, its options, mode, dtype and device.

        Args:
            module: the ``torch.nn.LSTM``, ``GRU`` or ``RNN``.
            options: options that PyTorch's module does not have, such as ``engine``.

        Raises:
            ValueError: it is of another kind than this class.

        >>> lstm = LSTM.from_torch(torch.nn.LSTM(10, 20))
        """
        kind = next((_PEERS[base.__name__] for base in cls.__mro__ if base.__name__ in _PEERS), None)
        if kind is None or not isinstance(module, kind):
            expected = f"a torch.nn.{cls.__name__}" if kind else f"from_torch of {', '.join(_PEERS)}"
            raise ValueError(f"module is a {type(module).__name__}; expected {expected}")
        for name, nonlinearity in (("RNN_TANH", "tanh"), ("RNN_RELU", "relu")):
            if module.mode == name:
                options["nonlinearity"] = nonlinearity
        made = cls(**_shared_options(module), device="meta", **options)
        _copy_weights(made, module)
        return made

    def to_torch(self) -> nn.RNNBase:
        """Return PyTorch's module with copies of the weights, the options, mode, dtype and device of this one.

        Raises:
            ValueError: PyTorch has no such module, or none with variational dropout.

        >>> LSTM(10, 20).to_torch()
        LSTM(10, 20)
        """
        own: Recurrent = self  # type: ignore[assignment]
        kind = _PEERS.get("RNN" if own.mode in ("RNN_TANH", "RNN_RELU") else own.mode)
        if kind is None:
            raise ValueError(f"the cell is {own.spec.cell}; expected one of torch.nn: {', '.join(_PEERS)}")
        if any(own._variational):
            raise ValueError(
                f"variational_dropout is {own.variational_dropout}; torch.nn.{kind.__name__} has none: set it to 0.0"
            )
        options: dict[str, Any] = {"nonlinearity": own.spec.cell.removeprefix("rnn_")} if kind is nn.RNN else {}
        made: nn.RNNBase = kind(**_shared_options(own), device="meta", **options)
        _copy_weights(made, self)
        made.flatten_parameters()
        return made


_PEERS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
_SHARED = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


def _shared_options(module: Any) -> dict[str, Any]:
    """Return the options that both sides' modules have; ``proj_size``, which only an LSTM takes, if it has one."""
    options = {name: getattr(module, name) for name in _SHARED}
    return {**options, "proj_size": module.proj_size} if module.proj_size else options


def _copy_weights(made: nn.Module, module: nn.Module) -> None:
    """Give a module on meta copies of another's weights, and its mode."""
    weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    made.load_state_dict(weights, assign=True)
    for name, parameter in module.named_parameters():
        made.get_parameter(name).requires_grad_(parameter.requires_grad)
    made.train(module.training)
