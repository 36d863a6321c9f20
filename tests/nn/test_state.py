"""The state as a value: it can be unpacked, moved, reset, saved and loaded; it is immutable."""

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils import _pytree as pytree

from gatewise.nn import GRU, LSTM, LSTMState, RNNState

STATES = [LSTMState(torch.randn(2, 3, 4), torch.randn(2, 3, 5)), RNNState(torch.randn(2, 3, 4))]
EACH = pytest.mark.parametrize("state", STATES, ids=["LSTMState", "RNNState"])


def equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_unpacks_as_pytorchs_does() -> None:
    lstm, gru = STATES
    h, c = lstm
    assert h is lstm.h is lstm[0]
    assert c is lstm.c is lstm[1]
    (h,) = gru
    assert h is gru.h
    assert isinstance(lstm, tuple)
    y, (h_n, c_n) = LSTM(3, 4)(torch.randn(5, 2, 3))
    assert torch.equal(h_n[0], y[-1])
    assert c_n.shape == (1, 2, 4)


@EACH
def test_detach_cuts_the_graph_and_shares_the_memory(state: Any) -> None:
    grown = type(state)(*(part.clone().requires_grad_() * 2 for part in state))
    cut = grown.detach()
    assert type(cut) is type(state)
    assert all(part.requires_grad for part in grown)
    assert not any(part.requires_grad for part in cut)
    assert [p.data_ptr() for p in cut] == [p.data_ptr() for p in grown]


@EACH
def test_to_moves_and_converts_each_part(state: Any) -> None:
    assert {part.dtype for part in state.to(torch.float64)} == {torch.float64}
    assert {(p.device.type, p.dtype) for p in state.to("meta", torch.bfloat16)} == {("meta", torch.bfloat16)}
    assert equal(state.to(torch.float64).to(torch.float32), state)
    assert {part.dtype for part in state} == {torch.float32}


@EACH
def test_reset_puts_the_rows_of_the_mask_at_zero_and_leaves_the_given_state(state: Any) -> None:
    kept = copy.deepcopy(state)
    after = state.reset(torch.tensor([True, False, True]))
    assert type(after) is type(state)
    for part, was in zip(after, state, strict=True):
        assert not part[:, [0, 2]].any()
        assert torch.equal(part[:, 1], was[:, 1])
    assert equal(state, kept)
    assert equal(state.reset(torch.zeros(3, dtype=torch.bool)), state)
    filled = type(state)(*(torch.full_like(part, torch.nan) for part in state))
    assert not any(part.any() for part in filled.reset(torch.ones(3, dtype=torch.bool)))


@EACH
@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (torch.tensor([1, 0, 1]), r"torch.int64 of shape \(3,\)"),
        (torch.tensor([True, False]), r"torch.bool of shape \(2,\)"),
        (torch.ones(3, 1, dtype=torch.bool), r"torch.bool of shape \(3, 1\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(state: Any, mask: torch.Tensor, found: str) -> None:
    with pytest.raises(ValueError, match=rf"^mask is {found}; expected torch.bool of shape \(3,\), one value per row$"):
        state.reset(mask)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_saved_and_read_again_it_is_the_same_to_the_bit(state: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    given = type(state)(*(p.to(dtype).transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for p in state))
    given.save(tmp_path / "a.safetensors")
    found = type(state).load(str(tmp_path / "a.safetensors"))
    assert equal(found, given.detach())
    assert [part.dtype for part in found] == [dtype] * len(state)
    assert {part.device.type for part in type(state).load(tmp_path / "a.safetensors", "meta")} == {"meta"}
    STATES[0].save(tmp_path / "a.safetensors")  # over another one
    assert equal(LSTMState.load(tmp_path / "a.safetensors"), STATES[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_state_whose_parts_share_memory_can_be_saved(tmp_path: Path) -> None:
    shared = torch.randn(1, 2, 4)
    LSTMState(shared, shared).save(tmp_path / "a")
    assert equal(LSTMState.load(tmp_path / "a"), LSTMState(shared, shared))


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}trailing"])
def test_what_is_no_safetensors_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]*a: not a safetensors file \([^\n]*\); expected a saved state$"):
        LSTMState.load(path)


@pytest.mark.parametrize(
    "parts",
    [
        {"h": torch.zeros(2, 3, 4), "c": torch.zeros(2, 3)},
        {"h": torch.zeros(2, 3, 4), "c": torch.zeros(2, 2, 4)},
        {"h": torch.zeros(2, 3, 4), "c": torch.zeros(1, 3, 4)},
        {"h": torch.zeros(2, 3, 4), "c": torch.zeros(2, 3, 4, dtype=torch.float64)},
        {"h": torch.zeros(2, 3, 4, dtype=torch.int64), "c": torch.zeros(2, 3, 4, dtype=torch.int64)},
        {"h": torch.zeros(2, 3, 4), "c": torch.full((2, 3, 4), torch.nan)},
    ],
)
def test_parts_that_make_no_state_are_refused_in_one_line(parts: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(parts, tmp_path / "a")
    with pytest.raises(ValueError, match=r"^[^\n]*a: holds [^\n]*; expected finite numbers \(L·D, B, size\)[^\n]*$"):
        LSTMState.load(tmp_path / "a")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(ValueError, match="a: not a regular file; expected a saved state"):
        LSTMState.load(tmp_path / "a")


def test_a_file_that_was_cut_or_holds_something_else_is_refused_in_one_line(tmp_path: Path) -> None:
    STATES[0].save(tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-7])
    with pytest.raises(ValueError, match=r"^[^\n]*cut: not a safetensors file[^\n]*$"):
        LSTMState.load(tmp_path / "cut")
    with pytest.raises(ValueError, match=r"a: holds \['c', 'h'\]; expected \['h'\], the parts of a RNNState$"):
        RNNState.load(tmp_path / "a")
    save_file({"weight": torch.zeros(2)}, tmp_path / "b")
    with pytest.raises(ValueError, match=r"b: holds \['weight'\]; expected \['c', 'h'\], the parts of a LSTMState$"):
        LSTMState.load(tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        LSTMState.load(tmp_path / "nowhere")


@EACH
def test_it_is_a_tree_of_tensors_and_can_be_copied(state: Any) -> None:
    leaves, shape = pytree.tree_flatten(state)
    assert len(leaves) == len(state)
    assert equal(pytree.tree_unflatten(leaves, shape), state)
    doubled = pytree.tree_map(lambda part: part * 2, state)
    assert type(doubled) is type(state)
    assert equal(pickle.loads(pickle.dumps(state)), state)
    assert equal(copy.deepcopy(state), state)


def test_a_forward_pass_changes_no_state_and_carries_on_from_a_saved_one(tmp_path: Path) -> None:
    for module in (LSTM(3, 4, 2), GRU(3, 4, 2)):
        x = torch.randn(6, 2, 3)
        state = module.initial_state(2)
        _, middle = module(x[:3], state)
        kept = copy.deepcopy(middle.detach())
        middle.save(tmp_path / "state")
        expected, _ = module(x[3:], middle)
        found, _ = module(x[3:], type(middle).load(tmp_path / "state"))
        assert torch.equal(found, expected)
        assert equal(middle.detach(), kept)
        assert not any(part.any() for part in state)
