"""Ours beside PyTorch's: the same module twice, and every result of a call under its name."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gatewise.nn import Recurrent, make_stack
from tests.tolerances import differ


def without_type_checks() -> ModuleType:
    """Load ``gatewise.nn.recurrent`` once more as users have it.

    The tests' checks of types would be first to refuse a wrong argument, and a compiler cannot see through them.
    """
    recurrent, state = (loaded_anew(f"gatewise.nn.{name}") for name in ("recurrent", "state"))
    vars(recurrent).update(LSTMState=state.LSTMState, RNNState=state.RNNState, state_kind=state.state_kind)
    return recurrent


def loaded_anew(name: str) -> ModuleType:
    """Load a module once more, without the tests' checks of types."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    fresh = importlib.util.spec_from_file_location(f"as_users_have_it_{name.rpartition('.')[2]}", spec.origin)
    assert fresh is not None
    assert fresh.loader is not None
    module = importlib.util.module_from_spec(fresh)
    sys.modules[fresh.name] = module
    fresh.loader.exec_module(module)
    return module


def pytorchs(cell: str, *args: Any, **kwargs: Any) -> nn.RNNBase:
    """Make PyTorch's module of one of our cells."""
    if cell.startswith("rnn_"):
        return nn.RNN(*args, nonlinearity=cell.removeprefix("rnn_"), **kwargs)
    return {"lstm": nn.LSTM, "gru": nn.GRU}[cell](*args, **kwargs)


def both(cell: str, *args: Any, seed: int = 0, **kwargs: Any) -> tuple[Recurrent, nn.RNNBase]:
    """Make ours and PyTorch's from the same seed."""
    torch.manual_seed(seed)
    ours = make_stack(cell, *args, **kwargs)
    torch.manual_seed(seed)
    return ours, pytorchs(cell, *args, **kwargs)


def parts(state: Any) -> tuple[Tensor, ...]:
    """The tensors of a state, whatever its form."""
    return (state,) if isinstance(state, Tensor) else tuple(state)


def drawn_state(module: nn.Module, *batch: int, seed: int = 1) -> Any:
    """Draw a state as PyTorch's module takes it."""
    generator, like = torch.Generator().manual_seed(seed), module.weight_hh_l0
    passes = module.num_layers * (1 + module.bidirectional)

    def normal(size: int) -> Tensor:
        return torch.randn(passes, *batch, size, generator=generator).to(like.dtype)

    h = normal(module.proj_size or module.hidden_size)
    return (h, normal(module.hidden_size)) if module.mode == "LSTM" else h


def results(module: nn.Module, x: Any, hx: Any = None, seed: int = 5, **kwargs: Any) -> dict[str, Tensor]:
    """Call a module on leaves, send independent gradients back, and return outputs and gradients by name."""
    module.zero_grad()
    if isinstance(x, PackedSequence):
        leaf = x.data.detach().requires_grad_()
        x = PackedSequence(leaf, x.batch_sizes, x.sorted_indices, x.unsorted_indices)
    else:
        x = leaf = x.detach().requires_grad_()
    before = None if hx is None else tuple(part.detach().requires_grad_() for part in parts(hx))
    torch.manual_seed(seed)  # of the dropout masks
    y, after, *_ = module(x, before if before is None or len(before) > 1 else before[0], **kwargs)
    found = {"y": y.data if isinstance(y, PackedSequence) else y}
    found |= dict(zip(("h_n", "c_n"), parts(after), strict=False))
    generator = torch.Generator().manual_seed(seed)
    upstream = [torch.randn(t.shape, generator=generator).to(t.dtype) for t in found.values()]
    torch.autograd.backward(list(found.values()), upstream)
    found["dx"] = leaf.grad
    found |= dict(zip(("dh_0", "dc_0"), (p.grad for p in before or ()), strict=False))
    return {**found, **{f"d{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Assert that all names are there and that each tensor is the same."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape, name
        assert found[name].dtype == tensor.dtype, name
        if tensor.numel():
            gap = differ(found[name], tensor, least=1.0)
            assert gap <= tolerance, f"{name} is off by {gap:.1e}"
