"""What the native engine's threads share: floating-point control, scratch memory, checked sizes."""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gatewise.engines import ENGINES
from gatewise.engines.contract import LayerInputs, LayerOptions, LossInputs, LossOptions
from gatewise.engines.native import loss, module
from tests.engines.cases import run

pytestmark = pytest.mark.skipif("native" not in ENGINES, reason=f"engine native: {module.why_not_built()}")


@pytest.fixture(autouse=True)
def _threads_and_denormals_are_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(before)


T, B, I, H = 2, 64, 64, 256
DENORMAL = LayerInputs(
    torch.arange(1, T * B * I + 1, dtype=torch.float32).view(T, B, I) * 1e-42,
    (torch.zeros(B, H),),
    (torch.full((H, I), 0.01), torch.full((H, H), 1e-3), None, None, None),
    None,
    None,
)
"""A pass whose outputs are all denormal; drawn before denormals are flushed."""


def denormal_passes() -> list[dict[str, Tensor]]:
    """Return the results of the pass with three, two and one threads."""
    upstream = (torch.full((T, B, H), 1e-40), torch.zeros(B, H))
    found = []
    for threads in (3, 2, 1):
        torch.set_num_threads(threads)
        found.append(run("native", DENORMAL, LayerOptions("rnn_relu", save=True), upstream)[1])
    return found


@pytest.mark.parametrize("flush", [False, True])
def test_all_threads_treat_denormals_as_the_calling_one(flush: bool) -> None:
    torch.set_num_threads(3)
    run(
        "native", DENORMAL, LayerOptions("rnn_relu", save=True), (torch.zeros(T, B, H), torch.zeros(B, H))
    )  # starts them
    if not torch.set_flush_denormal(flush):
        pytest.skip("PyTorch cannot flush denormals on this processor")
    *more, one = denormal_passes()
    assert bool((one["y"] == 0).all()) is flush and bool((one["dx"] == 0).all()) is flush
    for found in more:
        assert all(torch.equal(found[name].view(torch.int32), t.view(torch.int32)) for name, t in one.items())


def test_pytorchs_threads_treat_denormals_as_before() -> None:
    """The engine borrows PyTorch's threads."""
    torch.set_num_threads(3)
    denormal = torch.full((3_000_000,), 1e-40)
    assert (denormal * 0.5).count_nonzero() == denormal.numel()  # starts them
    if not torch.set_flush_denormal(True):
        pytest.skip("PyTorch cannot flush denormals on this processor")
    run("native", DENORMAL, LayerOptions("rnn_relu", save=True), (torch.zeros(T, B, H), torch.zeros(B, H)))
    torch.set_flush_denormal(False)
    assert (denormal * 0.5).count_nonzero() == denormal.numel()


def resident() -> int:
    """Return the resident memory of the process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="resident memory is read in /proc")
def test_memory_of_a_large_call_is_returned_after_small_ones() -> None:
    weight, targets = torch.randn(60_000, 8) / 8, torch.zeros(384, dtype=torch.int64)
    x = torch.randn(384, 8)
    needed = 4 * len(x) * len(weight)  # for the logits; 92 MB

    def call(rows: int, vocabulary: int) -> None:
        inputs = LossInputs(x[:rows], weight[:vocabulary], torch.zeros(vocabulary), targets[:rows])
        loss.compute(inputs, LossOptions(threads=2))

    before = resident()
    for _ in range(2):  # a first call takes the memory in pieces
        call(len(x), len(weight))
    held = resident()
    assert held > before + needed * 0.9
    start = time.monotonic()
    while resident() > held - needed * 0.9 and time.monotonic() - start < 30:
        call(4, 100)
        time.sleep(0.01)
    assert resident() <= held - needed * 0.9
    assert time.monotonic() - start > 1  # not at once: calls of a training step alternate


SIZES = (0, 1, 7, 2**60, 2**62, -(2**62), 2**64 // 5 + 1, -(2**64 // 5), 2**63 - 1, -(2**63))
"""Sizes whose sums and products wrap around to small ones: 4 · 2⁶² is 0, 5 · (2⁶⁴ / 5 + 1) is 4."""


def test_sizes_that_wrap_around_are_refused() -> None:
    native: Any = module.native
    no_tensors = (0,) * 9
    numbers = native.Numbers.float32
    for cell, I, H in itertools.product(("gru", "lstm", "rnn_relu"), SIZES, SIZES):
        if min(I, H) < 0 or max(I, H) > 7:
            with pytest.raises(ValueError, match="expected 0 or more, with a product that does not overflow"):
                native.Given(native.Cell[cell], numbers, 1, 1, I, H, False, *no_tensors)
