"""Writing sealed safetensors files: read by the library and by ``runtime/sealed.py``, without copies in memory."""

import tracemalloc
from pathlib import Path

import numpy as np
from safetensors.numpy import load, load_file, save

from gatewise.artifact.sealed import write_sealed
from gatewise.runtime.sealed import read_header, read_sealed

EVERY = {
    **{kind: np.arange(6).reshape(2, 3).astype(kind) for kind in ("uint8", "int32", "int64", "float16", "float32")},
    "scalar": np.array(0.5),
    "bool": np.array([True, False, True]),
    "none": np.zeros((0, 4), np.float32),
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "big-endian": np.arange(3, dtype=">f4"),
    "中文": np.ones(1, np.int64),
}


def test_the_library_reads_every_dtype_and_layout(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", EVERY, {"step": 3, "名": "值"})
    found = load_file(tmp_path / "file")
    assert found.keys() == EVERY.keys()
    for name, array in EVERY.items():
        assert found[name].dtype == array.dtype.newbyteorder("<") and np.array_equal(found[name], array), name
    header = read_header(tmp_path / "file")
    assert header.sealed and header.facts == {"format": 1, "step": 3, "名": "值"}
    read_sealed(tmp_path / "file", header)  # verifies the hash


def test_the_bytes_are_those_of_the_library(tmp_path: Path) -> None:
    arrays = {"b": np.arange(3, dtype=np.float32), "a": np.ones((2, 5), np.float32), "c": np.zeros(5, np.uint8)}
    write_sealed(tmp_path / "file", arrays, {"step": 3})
    whole = (tmp_path / "file").read_bytes()
    assert whole == save(load(whole), dict(read_header(tmp_path / "file").metadata))


def test_arrays_are_not_copied(tmp_path: Path) -> None:
    arrays = {"weight": np.zeros(10_000_000, np.float32)}
    tracemalloc.start()
    try:
        write_sealed(tmp_path / "file", arrays, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
