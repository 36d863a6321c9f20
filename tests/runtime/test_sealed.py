"""Headers of safetensors files: what the safetensors library reads, and whatever a file may claim."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import load, save

from gatewise.runtime import sealed
from gatewise.runtime.sealed import DamagedError, arrays_of, read_header, read_sealed
from tests.child import in_child
from tests.robustness.damage_formats import edit_safetensors

F4 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_of(header: Any, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@settings(deadline=None, max_examples=50)
@given(
    shapes=st.dictionaries(st.text(max_size=9), st.lists(st.integers(0, 4), max_size=3), max_size=5),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_the_arrays_of_the_library(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, list[int]], metadata: dict[str, str]
) -> None:
    shapes.pop("__metadata__", None)
    metadata.pop(sealed.KEY, None)
    rng, path = np.random.default_rng(1), tmp_path_factory.mktemp("file") / "x.safetensors"
    whole = save(
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}, metadata or None
    )
    path.write_bytes(whole)
    header = read_header(path)
    found = arrays_of(read_sealed(path, header), header)
    expected = load(whole)
    assert found.keys() == expected.keys() and header.metadata == metadata and not header.sealed
    for name, array in found.items():
        assert array.flags.writeable and array.dtype == np.float32 and array.flags.aligned
        assert np.array_equal(array, expected[name]) and array.shape == expected[name].shape


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes, too few"),
        (b"\xff" * 8, "8 bytes, too few"),
        ((2**40).to_bytes(8, "little") + b"{}", "10 bytes, too few"),
        (file_of([]), "its header is not a JSON object"),
        (file_of(b'{"a": 1'), "invalid header: invalid JSON"),
        (file_of(b"[" * 100_000), "nested too deeply"),
        (file_of(b'{"a": {}, "a": {}}'), "duplicate key 'a'"),
        (file_of(b'{"\xff": 1}'), "invalid header: invalid"),
        (file_of({"a": 1}), "'a' is not a dtype, a shape and two offsets"),
        (file_of({"a": {**F4, "more": 1}}), "'a' is not a dtype, a shape and two offsets"),
        (file_of({"a": {**F4, "dtype": "F31"}}), "'a' has the unknown dtype 'F31'"),
        (file_of({"a": {**F4, "dtype": ["F32"]}}), "'a' has the unknown dtype"),
        (file_of({"a": {**F4, "shape": [2.0]}}), "not lists of sizes"),
        (file_of({"a": {**F4, "shape": [-2]}}), "not lists of sizes"),
        (file_of({"a": {**F4, "shape": 2}}), "not lists of sizes"),
        (file_of({"a": {**F4, "shape": [True, 2]}}), "not lists of sizes"),
        (file_of({"a": {**F4, "data_offsets": [0, 8, 8]}}), "not lists of sizes"),
        (file_of({"a": {**F4, "data_offsets": [8, 0]}}), "offsets of 'a' do not match its shape"),
        (file_of({"a": {**F4, "shape": [2**62, 4, 2]}}), "offsets of 'a' do not match its shape"),
        (file_of({"a": {**F4, "shape": [2**32, 2**32], "data_offsets": [0, 0]}}), "do not match its shape"),
        (file_of({"a": {**F4, "data_offsets": [4, 12]}}), "a gap or an overlap before the data of 'a'"),
        (file_of({"a": F4, "b": {**F4, "data_offsets": [4, 12]}}, b"\0" * 12), "a gap or an overlap"),
        (file_of({"a": F4}, b"\0" * 7), "expected 77 according to its header"),
        (file_of({"a": F4}, b"\0" * 9), "expected 77 according to its header"),
        (file_of({"a": F4, "__metadata__": {"b": 1}}), "its metadata is not a table of strings"),
    ],
)
def test_a_header_that_lies(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedError) as caught:
        read_header(path)
    assert reason in str(caught.value) and "\n" not in str(caught.value) and str(path) not in str(caught.value)


def test_a_folder_a_missing_file_and_a_device(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(DamagedError):
            read_header(path)


def test_nothing_is_accepted_that_the_library_refuses(tmp_path: Path) -> None:
    path, rng = tmp_path / "x.safetensors", Random(1)
    whole = save({"a": np.ones((2, 3), np.float32), "b": np.ones(5, np.float32)}, {"k": '{"a": [1, 2]}'})
    accepted = 0
    for _ in range(500):
        content = edit_safetensors(whole, rng)
        path.write_bytes(content)
        try:
            header = read_header(path)
        except DamagedError:
            continue
        accepted += 1
        assert {name: tuple(about["shape"]) for name, about in deserialize(content)} == header.shapes
    assert accepted < 500


@pytest.mark.parametrize("length", [sealed.LARGEST_HEADER + 1, 2**63])
def test_the_memory_for_a_header_is_not_taken_before_it_is_there(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(2**31)  # sparse
    assert in_child(lambda: read_header(path), megabytes=50).startswith("DamagedError: 2147483648 bytes, too few")


def test_a_file_replaced_after_its_header_was_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"a": np.ones(4, np.float32)}))
    header = read_header(path)
    for other in (save({"b": np.ones(4, np.float32)}), save({"a": np.ones(3, np.float32)}), b""):
        path.write_bytes(other)
        with pytest.raises(DamagedError, match="replaced while being read"):
            read_sealed(path, header)


def test_the_library_agrees_that_these_are_files() -> None:
    """The cases above differ from a valid file in one point each."""
    assert [name for name, _ in deserialize(file_of({"a": F4}))] == ["a"]
    with pytest.raises(SafetensorError):
        deserialize(file_of({"a": {**F4, "data_offsets": [4, 12]}}))
