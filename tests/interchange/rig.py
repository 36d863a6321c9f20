"""What the tests of every format share: the grid of stacks, and calls that compare two modules."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import gatewise as gw
from gatewise.nn import Recurrent, make_stack
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, drawn_state, parts, pytorchs
from tests.tolerances import RELATIVE

T, B, I, H = 6, 3, 5, 4
FILES = int(os.environ.get("GATEWISE_DAMAGED_FILES", "100"))
"""How many damaged files of a kind the tests make."""

GRID = [
    pytest.param(cell, layers, both, bias, id=f"{cell}-{layers}-{'two-ways' * both or 'one-way'}-{'bias' * bias}")
    for cell, layers, both, bias in itertools.product(CELLS, (1, 2), (False, True), (False, True))
]
"""Cell, number of layers, whether bidirectional, whether biases."""


def trained_for_a_step(recipe: str, out: Path) -> gw.Run:
    """Return a run of a built-in recipe after one step, with a small model."""
    overrides = {"training.max_steps": 1, "model.hidden_size": 8, "logging.tensorboard": False}
    if recipe == "memory-task":
        overrides |= {"data.length": 10}
    return gw.train(recipe, out=out, overrides=overrides)


def drawn_stack(
    cell: str, layers: int = 1, bidirectional: bool = False, bias: bool = True, **options: Any
) -> Recurrent:
    """A stack of our modules with weights of both signs, in eval mode."""
    torch.manual_seed(3)
    return make_stack(cell, I, H, layers, bias=bias, bidirectional=bidirectional, **options).eval()


@torch.no_grad()
def called(module: nn.Module, lengths: list[int] | None = None) -> dict[str, Tensor]:
    """Call a module on random input from a state that is not zero; return outputs and final states."""
    x, state = torch.randn(T, B, I, generator=torch.Generator().manual_seed(4)), drawn_state(module, B)
    y, after = module(x, state) if lengths is None else module(x, state, lengths=lengths)
    return {"y": y, **dict(zip(("h_n", "c_n"), parts(after), strict=False))}


def assert_alike(found: nn.Module, expected: nn.Module) -> None:
    """Assert that outputs and final states agree to 1e-5 in float32."""
    assert_same(called(found), called(expected), RELATIVE[torch.float32])


def assert_equal_weights(found: nn.Module, expected: nn.Module) -> None:
    """Assert that names and numbers are the same, to the bit."""
    ours, theirs = found.state_dict(), expected.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


WORDS = ["<eos>", "the", "<unk>", *(f"w{k}" for k in range(1, 18))]


class WordLanguageModel(nn.Module):
    """The layers and names of PyTorch's example ``word_language_model``."""

    def __init__(self, cell: str = "lstm", tied: bool = False, bias: bool = True, bidirectional: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.encoder = nn.Embedding(len(WORDS), H if tied else I)
        self.rnn = pytorchs(cell, H if tied else I, H, 2, bias=bias, bidirectional=bidirectional)
        self.decoder = nn.Linear(H * (1 + bidirectional), len(WORDS), bias=bias)
        if tied:
            self.decoder.weight = self.encoder.weight

    @torch.no_grad()
    def nll(self, ids: list[int]) -> float:
        """Return the mean negative log-likelihood of every token except the first."""
        logits = self.decoder(self.rnn(self.encoder(torch.tensor(ids[:-1])))[0])
        return float(nn.functional.cross_entropy(logits, torch.tensor(ids[1:])))


def write(path: Path, state: dict[str, Any]) -> Path:
    """Write a file as users of PyTorch do."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path
