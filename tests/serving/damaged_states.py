"""States that do not fit, put into a session: each must be refused with 422, and the session stay what it was."""

import json
import struct
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np


def damaged(content: bytes, others: list[bytes], rng: Random) -> Iterator[tuple[str, bytes]]:
    """Yield ever more damaged states, each with what was done.

    Args:
        content: a state that fits.
        others: states of other models.
        rng: draws the damage.
    """
    while True:
        for name, damage in _DAMAGES.items():
            found = damage(content, rng)
            if found != content:
                yield name, found
        yield "another model's", rng.choice(others)


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header of a safetensors file, and its data."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header: dict[str, Any] = json.loads(content[8:end])
    return header, content[end:]


def joined(header: Any, data: bytes) -> bytes:
    """Return a safetensors file."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def _truncated(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _longer(content: bytes, rng: Random) -> bytes:
    return content + rng.randbytes(rng.randint(1, 64))


def _length(content: bytes, rng: Random) -> bytes:
    return struct.pack("<Q", rng.choice([0, 1, 2**63, 2**64 - 1, len(content), rng.randrange(2**32)])) + content[8:]


def _flipped_header(content: bytes, rng: Random) -> bytes:
    end = 8 + struct.unpack("<Q", content[:8])[0]
    found = bytearray(content)
    found[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(found)


def _not_finite(content: bytes, rng: Random) -> bytes:
    header, data = split(content)
    name = rng.choice([name for name in header if name != "__metadata__" and header[name]["dtype"] == "F32"])
    begin, end = header[name]["data_offsets"]
    values = np.frombuffer(data[begin:end], "<f4").copy()
    values[rng.randrange(len(values))] = rng.choice([np.nan, np.inf, -np.inf])
    return joined(header, data[:begin] + values.tobytes() + data[end:])


def _shape(content: bytes, rng: Random) -> bytes:
    header, data = split(content)
    name = rng.choice([name for name in header if name != "__metadata__"])
    shape = header[name]["shape"]
    header[name]["shape"] = rng.choice([[], [0], [*shape[::-1], 2], [1, *shape], [2**62, 4], [-1], ["1"], None, 3.5])
    return joined(header, data)


def _type(content: bytes, rng: Random) -> bytes:
    header, data = split(content)
    name = rng.choice([name for name in header if name != "__metadata__"])
    header[name]["dtype"] = rng.choice(["F64", "F16", "I32", "BF16", "f32", "", None, 4])
    return joined(header, data)


def _offsets(content: bytes, rng: Random) -> bytes:
    header, data = split(content)
    name = rng.choice([name for name in header if name != "__metadata__"])
    header[name]["data_offsets"] = rng.choice([[0, 1], [4, 2], [-4, 0], [0, 2**62], [2**64, 2**64 + 4], "0", None])
    return joined(header, data)


def _without(content: bytes, rng: Random) -> bytes:
    header, data = split(content)
    del header[rng.choice(list(header))]
    return joined(header, data)


def _metadata(content: bytes, rng: Random) -> bytes:
    header, data = split(content)
    about = header["__metadata__"]
    name = rng.choice(list(about))
    others = [] if name == "count" else [about[name] + "0", about[name][:-1]]  # another count would be valid
    about[name] = rng.choice(["", "x", "-1", "9" * 40, None, 7, {}, *others])
    return joined(header, data)


def _random_header(content: bytes, rng: Random) -> bytes:
    text = rng.choice(
        [b"{}", b"[]", b"null", b"", b"{" * 50_000, b'{"a":1}', b'{"__metadata__":{}}', rng.randbytes(40)]
    )
    return struct.pack("<Q", len(text)) + text + split(content)[1]


def _random(content: bytes, rng: Random) -> bytes:
    return rng.randbytes(rng.randrange(3 * len(content)))


_DAMAGES = {
    "truncated": _truncated,
    "longer": _longer,
    "another length of the header": _length,
    "a flipped bit in the header": _flipped_header,
    "NaN or infinity": _not_finite,
    "another shape": _shape,
    "another type": _type,
    "other offsets": _offsets,
    "a missing entry": _without,
    "other metadata": _metadata,
    "a random header": _random_header,
    "random bytes": _random,
}
