"""Checkpoints of TensorFlow: what TensorFlow wrote, what we write, and what must be refused."""

import hashlib
import json
import re
import shutil
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from gatewise.errors import DataError
from gatewise.interchange import table
from gatewise.interchange.crc32c import crc32c, masked
from gatewise.interchange.table import DamagedError, read_table, to_varint, write_table
from gatewise.interchange.tensor_bundle import is_checkpoint, read_bundle, write_bundle
from tests.interchange.rig import FILES
from tests.robustness.damage import ANY_BYTES, ANY_FILE

FIXTURES = Path(__file__).parent / "fixtures" / "tf1"
TRUTH = json.loads((FIXTURES / "truth.json").read_text())
SAVED = [name for name, about in TRUTH.items() if "variables" in about]


def copied(name: str, folder: Path) -> Path:
    """Return the prefix of a copy of a fixture."""
    for file in FIXTURES.glob(f"{name}.*"):
        shutil.copy(file, folder)
    return folder / name


def described(array: np.ndarray) -> list[object]:
    return [str(array.dtype), list(array.shape), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()]


@pytest.mark.parametrize("fixture", SAVED)
def test_every_variable_is_what_tensorflow_saved(fixture: str) -> None:
    bundle = read_bundle(FIXTURES / fixture)
    truth = TRUTH[fixture]["variables"]
    assert {name: described(bundle[name]) for name in truth} == truth
    assert {name: list(shape) for name, shape in bundle.shapes.items() if name in truth} == {
        name: shape for name, (_, shape, _) in truth.items()
    }
    assert set(bundle) - set(truth) == ({"string", "bool"} if fixture == "dtypes" else set())


def test_the_fixtures_are_small() -> None:
    assert sum(file.stat().st_size for file in FIXTURES.iterdir()) < 200_000


@pytest.mark.parametrize("suffix", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_a_checkpoint_is_named_by_its_prefix_or_a_file(suffix: str) -> None:
    assert read_bundle(FIXTURES / f"large{suffix}").prefix == FIXTURES / "large"


@pytest.mark.parametrize("fixture", ["large", "basic_lstm_cell"])
def test_we_write_the_numbers_as_tensorflow_does(fixture: str, tmp_path: Path) -> None:
    before = read_bundle(FIXTURES / fixture)
    write_bundle(tmp_path / "a", {name: before[name] for name in reversed(list(before))})
    data = f"{fixture}.data-00000-of-00001"
    assert (tmp_path / "a.data-00000-of-00001").read_bytes() == (FIXTURES / data).read_bytes()
    assert dict(read_table((tmp_path / "a.index").read_bytes())) == dict(
        read_table((FIXTURES / f"{fixture}.index").read_bytes())
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (0, 4), (2, 1, 3)])
def test_there_and_back(dtype: type, shape: tuple[int, ...], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {f"a/{k}": (100 * draw.standard_normal(shape)).astype(dtype) for k in range(3)}
    arrays["not contiguous"] = np.arange(24).astype(dtype).reshape(4, 6)[:, ::2].T
    write_bundle(tmp_path / "a.b", arrays)
    found = read_bundle(tmp_path / "a.b")
    assert list(found) == sorted(arrays)
    for name, array in arrays.items():
        assert described(found[name]) == described(array)
        found[name][...] = 0  # a copy of its own


def test_crc32c() -> None:
    """The vectors of RFC 3720, B.4, and the definition bit by bit around the sizes at which the computation changes."""
    vectors = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        bytes(range(31, -1, -1)): 0x113FDB5C,
        b"123456789": 0xE3069283,
        b"": 0,
    }
    assert {data: crc32c(data) for data in vectors} == vectors
    content = Random(1).randbytes(70_000)
    for size in (1, 8191, 8192, 8193, 32_767, 32_768, 32_769, 32_772, 65_535, 65_536, 65_537, 70_000):
        crc = 0xFFFFFFFF
        for byte in content[:size]:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        assert crc32c(content[:size]) == crc ^ 0xFFFFFFFF, size


@pytest.mark.parametrize(
    ("name", "expected"),
    [("string", "string is of string"), ("bool", "bool is of bool")],
)
def test_other_dtypes_are_refused_when_asked_for(name: str, expected: str) -> None:
    bundle = read_bundle(FIXTURES / "dtypes")
    with pytest.raises(DataError, match=f"dtypes: {expected}; expected floating-point numbers"):
        bundle[name]
    with pytest.raises(KeyError):
        bundle["absent"]


def test_refused_paths(tmp_path: Path) -> None:
    """One line each, which says what to give instead."""
    with pytest.raises(DataError, match="pieces is saved in pieces"):
        read_bundle(FIXTURES / "pieces")["Model/pieces"]
    with pytest.raises(DataError, match=r"v1: a checkpoint of the format V1, from before TensorFlow 0\.12"):
        read_bundle(FIXTURES / "v1")
    with pytest.raises(DataError, match=rf"{tmp_path}: a folder; expected .* given as the prefix$"):
        read_bundle(tmp_path)
    prefix = copied("shards", tmp_path)
    with pytest.raises(DataError, match=rf"a folder; expected .*, such as {re.escape(str(prefix))}$"):
        read_bundle(tmp_path)
    with pytest.raises(DataError, match="absent: no such file; expected a checkpoint"):
        read_bundle(tmp_path / "absent")
    with pytest.raises(DataError, match=r"absent\.index: cannot read it"):
        read_bundle(tmp_path / "absent.index")
    with pytest.raises(DataError, match=r"truth\.json: not a checkpoint"):
        read_bundle(FIXTURES / "truth.json")
    (tmp_path / "shards.data-00001-of-00002").unlink()
    bundle = read_bundle(prefix)
    assert bundle["v0"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match=r"shards\.data-00001-of-00002: cannot read it"):
        bundle["v1"]


def test_recognised() -> None:
    assert all(is_checkpoint(FIXTURES / name) for name in (*SAVED, "large.index", "v1"))
    assert not any(is_checkpoint(path) for path in (FIXTURES, FIXTURES / "truth.json", Path("/dev/null"), Path("a\0")))


def read_all(prefix: Path) -> dict[str, list[object]] | str:
    """Return all variables, or the line that says why they cannot be read."""
    try:
        return {name: described(array) for name, array in read_bundle(prefix).items()}
    except DataError as problem:
        return str(problem)


@pytest.mark.parametrize("seed", range(10))
def test_damaged_files(seed: int, tmp_path: Path) -> None:
    """Each gives one line or, where what was damaged is not read, the same numbers."""
    rng, refused = Random(seed), 0
    prefix = copied("basic_lstm_cell", tmp_path)
    whole = {file: file.read_bytes() for file in tmp_path.iterdir()}
    truth = read_all(prefix)
    start = time.monotonic()
    for case in range(cases := max(20, FILES // 10)):
        file = rng.choice(sorted(whole))
        kind = rng.choice(sorted(ANY_BYTES))
        file.write_bytes(ANY_BYTES[kind](whole[file], rng))
        found = read_all(prefix)
        if isinstance(found, str):
            assert "\n" not in found and str(prefix) in found
            refused += 1
        else:
            assert found == truth, (kind, case)
        file.write_bytes(whole[file])
    assert refused > cases / 4
    assert time.monotonic() - start < cases / 2


@pytest.mark.parametrize("kind", sorted(set(ANY_FILE) - {"none"}))
@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_something_else_in_the_place_of_a_file(kind: str, suffix: str, tmp_path: Path) -> None:
    prefix = copied("basic_lstm_cell", tmp_path)
    truth = read_all(prefix)
    ANY_FILE[kind](Path(f"{prefix}{suffix}"), Random(1))
    found = read_all(prefix)
    assert "\n" not in found if isinstance(found, str) else found == truth
    assert kind == "sparse" or isinstance(found, str)


def test_damage_with_valid_checksums(tmp_path: Path) -> None:
    """An index made to deceive: 1,000 changes, each sealed again. Whatever it says, nothing but one line is raised."""
    prefix, rng = copied("basic_lstm_cell", tmp_path), Random(7)
    index = Path(f"{prefix}.index")
    raw = index.read_bytes()
    blocks = list(blocks_of(raw))
    refused = 0
    for _ in range(1000):
        damaged = bytearray(raw)
        offset, size = rng.choice(blocks)
        for _ in range(rng.choice([1, 1, 2, 5])):
            damaged[rng.randrange(offset, offset + size)] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        seal(damaged, offset, size)
        index.write_bytes(damaged)
        found = read_all(prefix)
        refused += isinstance(found, str)
        assert not isinstance(found, str) or "\n" not in found
    assert refused > 250


def blocks_of(raw: bytes) -> Iterable[tuple[int, int]]:
    """Yield offset and size of the block of entries and of the index, of a table with one block of entries."""
    _, at = table._handle(raw[-48:], 0)
    index, _ = table._handle(raw[-48:], at)
    yield index
    for _, place in table._entries(raw[index[0] : sum(index)]):
        yield table._handle(place, 0)[0]


def seal(raw: bytearray, offset: int, size: int) -> None:
    raw[offset + size + 1 : offset + size + 5] = struct.pack("<I", masked(crc32c(raw[offset : offset + size + 1])))


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return to_varint(number << 3) + to_varint(value)
    return to_varint(number << 3 | 2) + to_varint(len(value)) + value


HEADER = (b"", field(1, 1) + field(3, field(1, 1)))


def entry(dtype: int = 1, shape: Iterable[int] = (2,), shard: int = 0, offset: int = 0, size: int = 8) -> bytes:
    sizes = b"".join(field(2, field(1, one)) for one in shape)
    numbers = field(3, shard) + field(4, offset) + field(5, size)
    return field(1, dtype) + field(2, sizes) + numbers + b"\x35" + struct.pack("<I", masked(crc32c(bytes(8))))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([HEADER, (b"a", entry())], None),
        ([(b"a", entry())], "data file 0 of 0"),
        ([(b"", field(1, 1) + field(2, 1)), (b"a", entry())], "big-endian"),
        ([(b"", field(1, 1) + field(3, field(2, 2))), (b"a", entry())], "needs a reader of version 2"),
        ([(b"", field(1, 1 << 40)), (b"a", entry())], "announces 1099511627776 data files"),
        ([HEADER, (b"a", entry(shard=1))], "data file 1 of 1"),
        ([HEADER, (b"a", entry(size=1 << 40, shape=[1 << 38]))], "but a ends at 1099511627776"),
        ([HEADER, (b"a", entry(offset=1))], "but a ends at 9"),
        ([HEADER, (b"a", entry(offset=(1 << 64) - 1))], "is negative"),
        ([HEADER, (b"a", entry(shape=[(1 << 64) - 2]))], "is negative"),
        ([HEADER, (b"a", entry(shape=[3]))], "do not fit its shape"),
        ([HEADER, (b"a", entry(shape=[2, *[1] * 40]))], "do not fit its shape"),
        ([HEADER, (b"a", entry(shape=[0, 1 << 62, 1 << 62], size=0))], "do not fit its shape"),
        ([HEADER, (b"a", entry()[:-1])], "longer than its message"),
        ([HEADER, (b"a", b"\x0b")], "unknown kind"),
        ([HEADER, (b"a", b"\x08" + b"\xff" * 11)], "more than 64 bits"),
        ([HEADER, (b"a", b"\x08" + b"\xff" * 9 + b"\x02")], "more than 64 bits"),
        ([HEADER, (b"a", b"\x0a\x01\x01")], "bytes where a number belongs"),
        ([HEADER, (b"a", b"\x10\x01")], "a number where a message belongs"),
        ([HEADER, (b"\xff", entry())], "invalid start byte"),
        ([HEADER, (b"b", entry()), (b"a", entry())], "out of order"),
        ([HEADER, (b"a", entry()), (b"a", entry())], "out of order"),
        ([HEADER, (b"a" * 1001, entry())], "the last of 1,001 bytes"),
    ],
)
def test_indices_made_to_deceive(items: list[tuple[bytes, bytes]], expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.index").write_bytes(write_table(items))
    (tmp_path / "a.data-00000-of-00001").write_bytes(bytes(8))
    if expected is None:
        assert read_bundle(tmp_path / "a")["a"].tolist() == [0, 0]
        return
    with pytest.raises(DataError, match=expected):
        dict(read_bundle(tmp_path / "a"))


def test_a_name_that_grows(tmp_path: Path) -> None:
    """Each key shares all of the one before, so that 10 bytes claim a thousand."""
    block, key = bytearray(), b"a" * 990
    block += to_varint(0) + to_varint(len(key)) + to_varint(0) + key
    for k in range(60_000):
        block += to_varint(len(key)) + to_varint(3) + to_varint(0) + k.to_bytes(3, "big")
    block += struct.pack("<II", 0, 1)
    with pytest.raises(DamagedError, match="too many names"):
        list(read_table(as_table([bytes(block)])))


def test_too_many_names() -> None:
    with pytest.raises(DamagedError, match="too many names, or too long ones: 100,001"):
        list(read_table(write_table((k.to_bytes(3, "big"), b"") for k in range(100_001))))


def as_table(blocks: list[bytes], kind: int = 0) -> bytes:
    """Return a table of given blocks of entries."""
    file, places = bytearray(), []
    for block in blocks:
        places.append((len(file), len(block)))
        file += block + bytes([kind]) + bytes(4)
        seal(file, *places[-1])
    keys = [(b"%d" % k, to_varint(offset) + to_varint(size)) for k, (offset, size) in enumerate(places)]
    handles = table._append(file, []) + table._append(file, keys)
    return bytes(file) + handles.ljust(40, b"\0") + table.MAGIC


def test_several_blocks_and_shared_beginnings() -> None:
    """As TensorFlow writes more variables than fit into one block."""
    one = b"\0\2\1abA" + b"\1\2\1xyB" + struct.pack("<II", 0, 1)
    other = b"\0\1\0b" + struct.pack("<II", 0, 1)
    assert list(read_table(as_table([one, other]))) == [(b"ab", b"A"), (b"axy", b"B"), (b"b", b"")]
    with pytest.raises(DamagedError, match="out of order"):
        list(read_table(as_table([other, one])))
    with pytest.raises(DamagedError, match="compressed"):
        list(read_table(as_table([one], kind=1)))
    with pytest.raises(DamagedError, match="lies outside its block"):
        list(read_table(as_table([b"\1\1\0b" + struct.pack("<II", 0, 1)])))
    with pytest.raises(DamagedError, match="lies outside its block"):
        list(read_table(as_table([b"\0\1\7b" + struct.pack("<II", 0, 1)])))
    with pytest.raises(DamagedError, match="shorter than its own table"):
        list(read_table(as_table([struct.pack("<I", 1 << 30)])))
