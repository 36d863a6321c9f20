"""Lengths that all equal T: such an LSTM pass uses oneDNN's layer, like one without lengths."""

import pytest
import torch

from gatewise.engines.torch import onednn
from gatewise.nn import LSTM


@pytest.mark.parametrize(("lengths", "passes"), [([10, 10, 10, 10], 2), ([10, 9, 10, 10], 0)])
def test_full_rows_take_the_layer_without_lengths(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], passes: int
) -> None:
    torch.manual_seed(1)
    rnn, x = LSTM(5, 7, bidirectional=True, engine="torch"), torch.randn(10, 4, 5)
    expected = torch.autograd.grad(rnn(x)[0].square().sum(), list(rnn.parameters()))
    sent, honest = [], onednn.forward
    monkeypatch.setattr(onednn, "forward", lambda *given: sent.append(1) or honest(*given))
    found = torch.autograd.grad(rnn(x, lengths=lengths)[0].square().sum(), list(rnn.parameters()))
    assert len(sent) == passes
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)) == (passes == 2)
