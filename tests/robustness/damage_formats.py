"""Damage that a format's readers understand: keys, types, shapes and sizes that are wrong while the file is whole."""

import json
import re
import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.robustness.damage import ANY_BYTES, ANY_FILE, ANY_TEXT, Bytes, InPlace, flip_bit, in_place
from tests.robustness.damage_arrays import edit_idx, edit_npy, edit_npz, edit_png, gzip_bomb, in_gzip, other_picture

ODD: list[Any] = [
    None,
    True,
    "",
    "x",
    "\x1b[31m",
    0,
    -1,
    0.5,
    10**20,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [None],
    [[]],
    {"": None},
    "x" * 5000,
    [1e400],
    ["a", "a"],
]
"""Values that few keys expect."""
DEEP = 100_000


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of every value below a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, below in inside for place in [(*at, key), *_places(below, (*at, key))]]


def edit_json(content: bytes, rng: Random) -> bytes:
    """Delete, rename, exchange, repeat or retype one value of a JSON text."""
    try:
        top = json.loads(content)
    except ValueError:
        return flip_bit(content, rng)
    how, places = rng.choice(["delete", "retype", "retype", "rename", "copy", "deep", "top", "twice"]), _places(top)
    if how == "top" or not places:
        return json.dumps(rng.choice([*ODD, [top]])).encode()
    *above, last = rng.choice(places)
    around = top
    for key in above:
        around = around[key]
    if how == "delete":
        del around[last]
    elif how == "retype":
        around[last] = rng.choice(ODD)
    elif how == "rename" and isinstance(around, dict):
        around[last + "x"] = around.pop(last)
    elif how == "copy":  # another value of the same object or list
        keys = list(around) if isinstance(around, dict) else range(len(around))
        around[last] = around[rng.choice(list(keys))]
    elif how == "deep":
        around[last] = "DEEP"
        return json.dumps(top).encode().replace(b'"DEEP"', b"[" * DEEP + b"]" * DEEP)
    elif isinstance(around, list):
        around.insert(rng.randrange(len(around) + 1), around[last])
    else:  # the same key twice, which JSON readers let pass
        around["TWICE"] = rng.choice(ODD)
        return json.dumps(top).replace('"TWICE"', json.dumps(last)).encode()
    return json.dumps(top).encode()


def edit_json_line(content: bytes, rng: Random) -> bytes:
    lines = content.splitlines() or [b""]
    at = rng.randrange(len(lines))
    lines[at] = edit_json(lines[at], rng)
    return b"\n".join([*lines, b""])


def edit_toml(content: bytes, rng: Random) -> bytes:
    """Give one key of a TOML text another value or name, or leave it out."""
    lines = content.decode("utf-8", "replace").splitlines()
    at = rng.choice([k for k, line in enumerate(lines) if "=" in line] or [0])
    key, _, value = lines[at].partition("=")
    odd = [
        "true",
        '""',
        "-1",
        "0",
        "0.5",
        "nan",
        "inf",
        "1e400",
        "[]",
        "{}",
        "1979-05-27",
        '"\\u001b[2J"',
        "9" * 30,
        "12000",
        "[" * 3000,
        '"' + "x" * 5000 + '"',
        "[[]]",
        f"{{a = {value}}}",
        value.upper(),
        '"lstm"',
        '"gru"',
        '"rnn_tanh"',
        '"character"',
        '"tagger"',
        '"language-model"',
        "2",
        "7",
    ]
    lines[at] = rng.choice([f"{key}= {rng.choice(odd)}"] * 6 + ["", f"x{key}={value}", f"{lines[at]}\n{lines[at]}"])
    return "\n".join([*lines, ""]).encode()


def toggle_toml(content: bytes, rng: Random) -> bytes:
    """Choose another valid value of one key that says what the model is or how its data is read."""
    text = content.decode("utf-8", "replace")
    choices = {
        "cell": ['"lstm"', '"gru"', '"rnn_tanh"', '"rnn_relu"'],
        "pooling": ['"last"', '"mean"', '"max"'],
        "tie_weights": ["true", "false"],
        "bidirectional": ["true", "false"],
        "lowercase": ["true", "false"],
        "level": ['"word"', '"character"', '"prose"'],
        "one_hot": ["true", "false"],
        "num_layers": ["1", "2"],
        "output": ['"softmax"', '"crf"'],
        "hidden_size": ["4", "6", "12000"],
        "embedding_size": ["0", "4", "9"],
        "character_encoder": ['"none"', '"lstm"', '"cnn"'],
    }
    key = rng.choice(sorted(key for key in choices if re.search(rf"(?m)^{key} = ", text)) or ["cell"])
    return re.sub(rf"(?m)^{key} = .*$", lambda _: f"{key} = {rng.choice(choices[key])}", text).encode()


def edit_safetensors(content: bytes, rng: Random) -> bytes:
    """Change one entry of the header of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
    except ValueError:
        return flip_bit(content, rng)
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    entry, how = (
        header[name],
        rng.choice(
            [
                "dtype",
                "shape",
                "offsets",
                "remove",
                "rename",
                "add",
                "metadata",
                "length",
                "swap",
                "value",
                "empty",
                "json",
            ]
        ),
    )
    if how == "dtype":
        entry["dtype"] = rng.choice(["F16", "F64", "I32", "BF16", "BOOL", "U8", "I64", "X", None])
    elif how == "shape":
        shape = entry["shape"]
        entry["shape"] = rng.choice(
            [shape[::-1], [*shape, 1], [int(np.prod(shape))], [1], [], [-1], [2**40], [2**63], [0], None]
        )
    elif how == "offsets":
        entry["data_offsets"] = rng.choice([[0, 0], entry["data_offsets"][::-1], [0, 2**40], [-1, 4], [0], None])
    elif how == "remove":
        del header[name]
    elif how == "rename":
        header[name + rng.choice(["x", "\x1b", ".0"])] = header.pop(name)
    elif how == "add":
        header[rng.choice(["extra", "model.x", "", "optimizer.99.step"])] = {
            "dtype": "F32",
            "shape": [0],
            "data_offsets": [entry["data_offsets"][1]] * 2,
        }
    elif how == "metadata":
        metadata = header.pop("__metadata__", {})
        if rng.random() < 0.7 and metadata:
            key = rng.choice(sorted(metadata))
            odd = ["", "{}", "[]", "null", "x", "{" * 5000, edit_json(metadata[key].encode(), rng).decode()]
            header["__metadata__"] = {**metadata, key: rng.choice(odd)}
    elif how == "length":
        return rng.choice([0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little") + content[8:]
    elif how == "swap":
        other = header[rng.choice(names)]
        entry["data_offsets"], other["data_offsets"] = other["data_offsets"], entry["data_offsets"]
    elif how == "value":
        start = 8 + size + entry["data_offsets"][0] // 4 * 4
        odd = rng.choice([float("nan"), float("inf"), -3e38, 0.0, 1e-45, 7.0])
        return content[:start] + struct.pack("<f", odd) + content[start + 4 :]
    elif how == "empty":
        header = {key: value for key, value in header.items() if key == "__metadata__"}
    else:
        return _with_header(edit_json(json.dumps(header).encode(), rng), content[8 + size :])
    return _with_header(json.dumps(header).encode(), content[8 + size :])


def _with_header(header: bytes, data: bytes) -> bytes:
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def damages_of(name: str) -> tuple[dict[str, InPlace], dict[str, InPlace]]:
    """Return by name the kinds of damage that a file can take, by the ending of its name: its format's own, and all."""
    own: dict[str, Bytes] = {}
    text: dict[str, Bytes] = {}
    match Path(name).suffix:
        case ".safetensors":
            own = {"header": edit_safetensors}
        case ".json":
            own, text = {"json": edit_json}, ANY_TEXT
        case ".jsonl":
            own, text = {"json": edit_json_line}, ANY_TEXT
        case ".toml":
            own, text = {"toml": edit_toml, "toggle": toggle_toml}, ANY_TEXT
        case ".npy":
            own = {"header": edit_npy}
        case ".npz":
            own = {"archive": edit_npz}
        case ".png":
            own = {"header": edit_png, "picture": other_picture}
        case ".gz":
            own = {f"inside-{kind}": in_gzip(edit) for kind, edit in [("header", edit_idx), *ANY_BYTES.items()]}
            own |= {"header": in_gzip(edit_idx), "bomb": gzip_bomb}
        case ".bin":
            pass
        case _ if name.endswith("-ubyte"):
            own = {"header": edit_idx}
        case _:
            text = ANY_TEXT
    contents = {**ANY_BYTES, **text}
    return (
        {kind: in_place(damage) for kind, damage in own.items()},
        {**ANY_FILE, **{kind: in_place(damage) for kind, damage in contents.items()}},
    )
