"""Bare stacks through PyTorch's files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gatewise.interchange import load_stack, save_stack
from tests.interchange.rig import GRID, H, I, assert_alike, assert_equal_weights, drawn_stack, write
from tests.nn.beside import pytorchs


def loaded(path: Path) -> dict[str, Any]:
    """Read a file as users of PyTorch do."""
    found: dict[str, Any] = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    return found


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(("cell", "layers", "bidirectional", "bias"), GRID)
def test_there_and_back(cell: str, layers: int, bidirectional: bool, bias: bool, suffix: str, tmp_path: Path) -> None:
    """PyTorch's module computes what ours does, from each other's files, and the weights are equal to the bit."""
    torch.manual_seed(3)
    peer = pytorchs(cell, I, H, layers, bias=bias, bidirectional=bidirectional)
    options = {"nonlinearity": cell.removeprefix("rnn_")} if cell.startswith("rnn") else {}
    stack = load_stack(write(tmp_path / f"theirs{suffix}", peer.state_dict()), **options)
    assert not stack.training
    assert not stack.batch_first
    assert_alike(stack, peer)
    ours = tmp_path / f"ours{suffix}"
    save_stack(stack, ours, framework="torch")
    fresh = pytorchs(cell, I, H, layers, bias=bias, bidirectional=bidirectional)
    fresh.load_state_dict(loaded(ours))
    assert_equal_weights(fresh, peer)
    known = {} if suffix == ".safetensors" else options  # our own safetensors say which RNN it is
    again = load_stack(ours, "torch", **known)
    assert again.spec == stack.spec
    assert_equal_weights(again, peer)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_projection(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    peer = nn.LSTM(I, H, 2, bidirectional=True, proj_size=2)
    stack = load_stack(write(tmp_path / f"a{suffix}", peer.state_dict()))
    assert_alike(stack, peer)
    save_stack(stack, tmp_path / f"b{suffix}", "torch")
    peer.load_state_dict(loaded(tmp_path / f"b{suffix}"))
    assert_equal_weights(stack, peer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_sixteen_bits(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    """They fit into float32, so every number is the same."""
    peer = nn.GRU(I, H).to(dtype)
    stack = load_stack(write(tmp_path / f"a{suffix}", peer.state_dict()))
    assert_equal_weights(stack, peer.float())


class Encoder(nn.Module):
    """A larger model, with a stack two levels down."""

    def __init__(self, second: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, I)
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(I, H, 2)})
        if second:
            self.decoder = nn.GRU(I, H)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("prefix", [None, "encoder.lstm.", "encoder.lstm"])
def test_inside_a_larger_model(suffix: str, prefix: str | None, tmp_path: Path) -> None:
    model = Encoder(second=prefix is not None)
    path = write(tmp_path / f"a{suffix}", model.state_dict())
    assert_equal_weights(load_stack(path, prefix=prefix), model.encoder["lstm"])


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_inside_a_checkpoint(key: str, tmp_path: Path) -> None:
    """With the optimizer's state, which holds tensors and plain numbers."""
    peer = nn.GRU(I, H)
    optimizer = torch.optim.Adam(peer.parameters())
    peer(torch.randn(2, 1, I))[0].sum().backward()
    optimizer.step()
    torch.save({key: peer.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "a.pt")
    assert_equal_weights(load_stack(tmp_path / "a.pt"), peer)


def test_weights_that_are_views(tmp_path: Path) -> None:
    """cuDNN keeps all weights in one buffer; a file of it has one storage and many offsets."""
    peer = nn.LSTM(I, H)
    flat = torch.cat([p.detach().flatten() for p in peer.parameters()])
    views, at = {}, 0
    for name, p in peer.named_parameters():
        views[name], at = flat[at : at + p.numel()].view(p.shape), at + p.numel()
    views["weight_ih_l0"] = views["weight_ih_l0"].T.contiguous().T
    torch.save(views, tmp_path / "a.pt")
    assert_equal_weights(load_stack(tmp_path / "a.pt"), peer)


def test_an_existing_file_is_replaced_only_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, path = drawn_stack("gru"), tmp_path / "a.safetensors"
    save_stack(stack, path, "torch")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gatewise.interchange.torch_format.write_sealed", full)
    with pytest.raises(OSError, match="No space"):
        save_stack(drawn_stack("lstm"), path, "torch")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
