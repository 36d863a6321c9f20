"""What a file of PyTorch may not hold: one line each, and nothing is executed."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import weight_norm
from torch.nn.utils.parametrizations import weight_norm as parametrized

from gatewise.errors import DataError, GatewiseError, UsageError
from gatewise.interchange import load_stack, save_stack
from tests.interchange.rig import H, I, drawn_stack, write

Change = Callable[[dict[str, Tensor]], None]


def changed(name: str, new: Callable[[Tensor], Tensor]) -> Change:
    return lambda state: state.update({name: new(state[name])})


def without(name: str) -> Change:
    return lambda state: state.__delitem__(name)


CHANGES: dict[str, tuple[Change, str]] = {
    "a layer of another width": (
        lambda s: s.update(weight_ih_l1=torch.zeros(4 * 3, H), weight_hh_l1=torch.zeros(4 * 3, 3)),
        r"weight_ih_l1 has shape \(12, 4\); expected \(16, 4\): the layers of a stack must have the same width",
    ),
    "a missing layer": (lambda s: s.update(weight_ih_l3=s["weight_ih_l1"]), "weight_ih_l2 is missing"),
    "a reverse layer without its first": (
        lambda s: s.update(weight_ih_l1_reverse=s["weight_ih_l1"]),
        "weight_ih_l1_reverse has no counterpart",
    ),
    "a missing matrix": (without("weight_hh_l1"), "weight_hh_l1 is missing"),
    "a missing first matrix": (without("weight_hh_l0"), "weight_hh_l0 is missing or no matrix"),
    "a missing bias": (without("bias_hh_l1"), "layer 1 has no bias_hh_l1, while the first layer has one"),
    "one of two biases": (without("bias_hh_l0"), "layer 0 has no bias_hh_l0"),
    "a number that is not finite": (changed("bias_ih_l0", lambda t: t * torch.nan), "bias_ih_l0 contains numbers"),
    "float64": (changed("weight_ih_l1", Tensor.double), r"weight_ih_l1 has type (F64|float64); expected float32"),
    "integers": (changed("bias_ih_l1", Tensor.int), r"bias_ih_l1 has type (I32|int32); expected float32"),
    "five gates": (changed("weight_hh_l0", lambda t: torch.zeros(5 * H, H)), r"shape \(20, 4\); expected \(G·H, H\)"),
    "a vector": (changed("weight_hh_l0", lambda t: t[0]), "weight_hh_l0 is missing or no matrix"),
    "no rows": (changed("weight_hh_l0", lambda t: torch.zeros(0, 0)), r"shape \(0, 0\); expected \(G·H, H\)"),
    "a projection of another width": (
        lambda s: s.update(weight_hr_l0=torch.zeros(2, 3)),
        r"weight_hr_l0 has shape \(2, 3\); expected \(P, 4\)",
    ),
    "weights of nothing": (lambda s: s.clear() or s.update(a=torch.zeros(1)), "no weight_ih_l0 among 1 tensors"),
    "weight drop": (
        lambda s: s.update(weight_hh_l0_raw=s.pop("weight_hh_l0")),
        "weight_hh_l0_raw belongs to weight normalization",
    ),
    "AWD-LSTM": (
        lambda s: s.update({"rnns.0.module.weight_hh_l0_raw": s.pop("weight_hh_l0")}),
        "AWD-LSTM or ULMFiT model",
    ),
    "ULMFiT": (
        lambda s: s.update(
            {
                "0.rnns.0.weight_hh_l0_raw": s["weight_hh_l0"],
                "0.rnns.0.module.weight_ih_l0": s["weight_ih_l0"],
                "0.encoder_dp.emb.weight": torch.zeros(5, 5),
            }
        ),
        "layers differ in width",
    ),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("which", CHANGES)
def test_no_stack_of_ours(which: str, suffix: str, tmp_path: Path) -> None:
    """The line begins with the path and names the tensor."""
    change, reason = CHANGES[which]
    torch.manual_seed(1)
    state = dict(nn.LSTM(I, H, 2).state_dict())
    change(state)
    path = write(tmp_path / f"a{suffix}", state)
    with pytest.raises(DataError, match=rf"^{path}: .*{reason}") as caught:
        load_stack(path)
    assert caught.value.exit_status == 3


@pytest.mark.parametrize("normalize", [weight_norm, parametrized])
def test_weight_normalization(normalize: Any, tmp_path: Path) -> None:
    """PyTorch's old way leaves two tensors, the new one a submodule."""
    module = normalize(nn.LSTM(I, H), name="weight_hh_l0")
    path = write(tmp_path / "a.pt", module.state_dict())
    with pytest.raises(DataError, match=r"weight_hh_l0(_g|\.original0) belongs to weight normalization"):
        load_stack(path)
    module = normalize(nn.LSTM(I, H), name="weight_ih_l0")
    write(path, module.state_dict())
    with pytest.raises(DataError, match=r"weight_ih_l0(_g|\.original0) belongs to a parametrization"):
        load_stack(path)


def test_several_stacks(tmp_path: Path) -> None:
    """The prefixes are listed, also after a wrong one."""
    model = nn.ModuleDict({"a": nn.LSTM(I, H), "b": nn.GRU(I, H)})
    path = write(tmp_path / "a.pt", model.state_dict())
    with pytest.raises(DataError, match=r"2 recurrent stacks, 'a\.', 'b\.'; select one with prefix=NAME"):
        load_stack(path)
    with pytest.raises(DataError, match=r"no recurrent stack with the prefix 'c'; there are 'a\.', 'b\.'"):
        load_stack(path, prefix="c")
    assert load_stack(path, prefix="b").mode == "GRU"


def test_options(tmp_path: Path) -> None:
    """An RNN needs its nonlinearity, another stack must not have one; options of no format are refused."""
    rnn, lstm = (write(tmp_path / f"{m.mode}.pt", m.state_dict()) for m in (nn.RNN(I, H), nn.LSTM(I, H)))
    for nonlinearity in (None, "sigmoid"):
        with pytest.raises(UsageError, match=r"an RNN, whose file does not say.*give nonlinearity=tanh or"):
            load_stack(rnn, nonlinearity=nonlinearity)
    with pytest.raises(UsageError, match=r"^nonlinearity=relu: .* has a stack with 4 gates, not an RNN; omit it"):
        load_stack(lstm, nonlinearity="relu")
    with pytest.raises(UsageError, match=r"^forget_bias=1.0: does not apply to torch; omit it"):
        load_stack(lstm, forget_bias=1.0)
    with pytest.raises(UsageError, match=r"^framework=kers: no such format; expected one of runtime, torch"):
        load_stack(lstm, framework="kers")
    with pytest.raises(UsageError, match=r"^graph=step: does not apply to torch; omit it"):
        save_stack(drawn_stack("gru"), tmp_path / "a.pt", "torch", graph="step")


def test_paths(tmp_path: Path) -> None:
    """What is no file, or cannot become one; nothing is left behind."""
    stack = drawn_stack("gru")
    for path, reason in ((tmp_path, "a folder"), (tmp_path / "no" / "a.pt", "no folder")):
        with pytest.raises(UsageError, match=reason):
            save_stack(stack, path, "torch")
    with pytest.raises(UsageError, match=rf"^{tmp_path}/a.h5: expected a name that ends in .safetensors or .pt"):
        save_stack(stack, tmp_path / "a.h5", "torch")
    for framework in (None, "torch"):
        with pytest.raises(DataError, match="no such file; expected"):
            load_stack(tmp_path / "none", framework)
        with pytest.raises(DataError, match="a folder"):
            load_stack(tmp_path, framework)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"the weights are float64; expected float32"):
        save_stack(drawn_stack("gru", dtype=torch.float64), tmp_path / "a.pt", "torch")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q", b"no weights", b"\x93NUMPY", b"\0" * 8 + b"{"])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=r"^.*/a: "):
        load_stack(tmp_path / "a")
    with pytest.raises(DataError, match=r"^.*/a: "):
        load_stack(tmp_path / "a", "torch")


def test_files_from_before_the_zip_format(tmp_path: Path) -> None:
    """They are not read, since their sizes cannot be checked first; an AWD-LSTM among them is recognised."""
    path = tmp_path / "a.pth"
    torch.save(nn.LSTM(I, H).state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=r"written by PyTorch before 1.6.*torch.load\(FILE, weights_only=True\)"):
        load_stack(path)
    torch.save({"0.rnns.0.weight_hh_l0_raw": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match="AWD-LSTM"):
        load_stack(path)


class Exploit:
    """What a pickle of a stranger does when it is loaded."""

    def __reduce__(self) -> Any:
        return print, ("executed",)


class SystemExploit:
    def __reduce__(self) -> Any:
        return torch.hub.load, ("stranger/code", "model")


def archive(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED, **others: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("a/data.pkl", content)
        file.writestr("a/version", b"3\n")
        for name, data in others.items():
            file.writestr(f"a/{name}", data)
    return path


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("what", [Exploit(), SystemExploit(), nn.LSTM(I, H), np.float64(1.0), bytearray(8)])
def test_pickles_of_other_objects(what: Any, protocol: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The object is named and not made, in an archive and alone."""
    content = pickle.dumps({"weight_ih_l0": what}, protocol)
    path = archive(tmp_path / "a.pt", content)
    with pytest.raises(DataError, match="its pickle refers to"):
        load_stack(path)
    path.write_bytes(content)
    with pytest.raises(DataError):
        load_stack(path, "torch")
    assert "executed" not in capfd.readouterr().out


def test_a_whole_module(tmp_path: Path) -> None:
    torch.save(nn.LSTM(I, H), tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"refers to torch.nn.modules.rnn.LSTM; .* save module.state_dict\(\) alone"):
        load_stack(tmp_path / "a.pt")


def test_a_bomb(tmp_path: Path) -> None:
    """A compressed entry is refused before it is read."""
    path = archive(tmp_path / "a.pt", pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, data=b"\0" * (1 << 26))
    with pytest.raises(DataError, match="is compressed"):
        load_stack(path)


def test_sizes_that_a_file_only_claims(tmp_path: Path) -> None:
    """A terabyte in 2 kB: by a storage, by strides of zero, and in a safetensors header."""
    path = tmp_path / "a.pt"
    state = nn.LSTM(I, H).state_dict()
    state["weight_ih_l0"] = torch.zeros(1).expand(4 << 20, 1 << 16)
    torch.save(state, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match="more than the file holds"):
        load_stack(path)
    content = io.BytesIO()
    torch.save({"weight_ih_l0": torch.zeros(77)}, content)
    with zipfile.ZipFile(content) as file:
        pickled = file.read("archive/data.pkl")
    assert pickled.count(b"K\x4d") == 2  # 77, of the storage and of the tensor
    for size, times in ((b"J\xff\xff\xff\x7f", 2), (b"K\x50", 1), (b"K\x50", 2)):  # 2^31 - 1 and 80
        changed = pickled[::-1].replace(b"K\x4d"[::-1], size[::-1], times)[::-1]
        archive(path, changed, **{"data/0": b"\0" * 308, "byteorder": b"little", "more": b"\0" * 2000})
        with pytest.raises(DataError, match=r"torch.load cannot read it|more than the file holds"):
            load_stack(path)
    header = b'{"weight_ih_l0":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)
    with pytest.raises(DataError, match="according to its header"):
        load_stack(path)


def test_a_newer_format(tmp_path: Path) -> None:
    """A file of ours from the future is a file's error."""
    facts = '{"sha256": "' + "0" * 64 + '", "format": 99}'
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"gatewise": facts})
    with pytest.raises(GatewiseError, match="written by a newer Gatewise") as caught:
        load_stack(tmp_path / "a.safetensors")
    assert caught.value.exit_status == 3
