"""Damaged files: an error of ours, or the same weights; no crash, no hang, no other weights."""

import io
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from gatewise.errors import DataError, GatewiseError
from gatewise.interchange import load_stack, save_stack
from tests.interchange.rig import FILES, H, I, assert_equal_weights, drawn_stack

SUFFIXES = {"torch": (".safetensors", ".pt"), "keras": (".keras",), "onnx": (".onnx",)}
"""Of each format, the files that ``save_stack`` writes; each carries checksums, so that any change is found."""


def damaged(content: bytes, rng: Random) -> bytes:
    """Flip, overwrite, delete, repeat, or cut off; half of the time near the start or the end, where headers are."""
    where = rng.choice([len(content), min(len(content), 400)])
    at = rng.randrange(where)
    if rng.random() < 0.3:
        at = len(content) - 1 - at
    how = rng.choice(["flip", "flip", "byte", "cut", "delete", "insert", "twice", "number", "zeros"])
    if how == "flip":
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if how == "byte":
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if how == "cut":
        return content[:at]
    if how == "delete":
        return content[:at] + content[at + rng.randrange(1, 40) :]
    if how == "insert":
        return content[:at] + rng.randbytes(rng.randrange(1, 40)) + content[at:]
    if how == "twice":
        return content[:at] + content[max(at - 64, 0) :]
    if how == "number":
        return content[:at] + rng.choice([b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0" * 8]) + content[at + 8 :]
    return content[:at] + b"\0" * (len(content) - at)


@pytest.mark.parametrize(
    ("framework", "suffix"), [(framework, suffix) for framework, row in SUFFIXES.items() for suffix in row]
)
def test_damage(framework: str, suffix: str, tmp_path: Path) -> None:
    if framework == "keras":
        pytest.importorskip("h5py", reason="Keras' files need the extra keras: pip install h5py")
    if framework == "onnx":
        pytest.importorskip("onnx", reason="ONNX files need the extra onnx: pip install onnx")
    stack, path, refused = drawn_stack("lstm", 2), tmp_path / f"a{suffix}", list[GatewiseError]()
    save_stack(stack, path, framework)
    whole, content, rng = load_stack(path), path.read_bytes(), Random(7)  # Keras has the sum of two biases
    for _ in range(FILES):
        path.write_bytes(damaged(content, rng))
        try:
            found = load_stack(path)
        except GatewiseError as problem:
            refused.append(problem)
        else:
            assert found.spec == whole.spec
            assert_equal_weights(found, whole)
    assert all(problem.exit_status == 3 and str(problem).startswith(str(path)) for problem in refused)
    assert len(refused) > FILES * 0.7


@pytest.mark.parametrize(("framework", "suffix"), [("torch", ".pt"), ("keras", ".keras")])
def test_an_archive_that_is_cut_off_is_recognized_by_its_name(framework: str, suffix: str, tmp_path: Path) -> None:
    if framework == "keras":
        pytest.importorskip("h5py", reason="Keras' files need the extra keras: pip install h5py")
    path = tmp_path / f"a{suffix}"
    save_stack(drawn_stack("lstm", 2), path, framework)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="damaged or truncated"):
        load_stack(path)


def test_headers_written_anew(tmp_path: Path) -> None:
    """A pickle that is whole and checksummed, but has other numbers: shapes, strides, offsets and storages."""
    content, path, rng, refused = io.BytesIO(), tmp_path / "a.pt", Random(8), list[int]()
    torch.manual_seed(1)
    state: dict[str, Any] = nn.GRU(I, H).state_dict()
    torch.save(state, content)
    with zipfile.ZipFile(content) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    pickled = next(name for name in entries if name.endswith("data.pkl"))
    stored = sum(len(data) for data in entries.values())
    for _ in range(FILES):
        changed = bytearray(entries[pickled])
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        with zipfile.ZipFile(path, "w") as file:
            for name, data in entries.items():
                file.writestr(name, bytes(changed) if name == pickled else data)
        try:
            found = load_stack(path)
        except GatewiseError as problem:
            refused.append(problem.exit_status)
        else:  # another model than before, but one that the file holds
            assert sum(p.numel() * 4 for p in found.parameters()) <= stored
            assert all(torch.isfinite(p).all() for p in found.parameters())
    assert set(refused) == {3}
    assert len(refused) > FILES * 0.5
