"""From a run folder to the content of ``model.gatewise``, and back to what it says about its model.

``csrc/runtime/README.md`` describes the format; the library that computes reads nothing else.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import RunError, UsageError
from gatewise.files import check_regular, file_hash
from gatewise.runtime.parts import is_size
from gatewise.runtime.run_reader import RunReader
from gatewise.runtime.sealed import (
    BF16,
    BLANK,
    IN_FILE,
    DamagedError,
    Header,
    check_version,
    compose,
    read_header,
    read_sealed,
)
from gatewise.runtime.settings import place_of_key
from gatewise.spec import CELLS, RecurrentSpec
from gatewise.wording import option

VERSION = 1
STORED = ("fp32", "bf16", "int8")
"""How matrices are stored; vectors and the weights of a CRF are float32."""
LANGUAGE_MODELS = ("language-model", "scratch-language-model")
TASKS: Mapping[str, str] = {
    **dict.fromkeys(LANGUAGE_MODELS, "language-model"),
    "tagger": "tagger",
    "text-classifier": "text-classifier",
    "classifier": "classifier",
    **dict.fromkeys(("regressor", "memory-task"), "regressor"),
}
"""What the model of each task does, as the file calls it."""
LEVELS = ("word", "character", "prose")
EXPECTED = "a model file as gatewise export writes it"

_WORDS = ("tagger", "text-classifier")
_SMALLEST = np.float32(2.0**-100)
_LARGEST = ".largest"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelFile:
    """A model file in memory.

    Attributes:
        source: where it comes from, for messages.
        about: what it says about its model: the object ``runtime`` of its metadata.
        content: the whole file.
    """

    source: str
    about: Mapping[str, Any]
    content: bytes


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return (value == 0 and type(value) is int) or is_size(value)


def _one_of(*values: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in values


_SETTINGS: Mapping[str, tuple[Any, Callable[[object], bool], str]] = {
    "task.name": ("", _one_of(*TASKS), f"one of {', '.join(TASKS)}"),
    "data.level": ("word", _one_of(*LEVELS, "auto"), f"one of {', '.join(LEVELS)}"),
    "data.window": (0, lambda value: True, ""),
    "data.horizon": (1, lambda value: True, ""),
    "model.cell": ("lstm", _one_of(*CELLS), f"one of {', '.join(CELLS)}"),
    "model.hidden_size": (200, is_size, "a positive integer"),
    "model.num_layers": (2, is_size, "a positive integer"),
    "model.embedding_size": (0, _is_count, "an integer, 0 or more"),
    "model.bidirectional": (False, _is_flag, "true or false"),
    "model.one_hot": (False, _is_flag, "true or false"),
    "model.tie_weights": (False, _is_flag, "true or false"),
    "model.pooling": ("last", _one_of("last", "mean", "max"), "last, mean or max"),
    "model.output": ("softmax", _one_of("softmax", "crf"), "softmax or crf"),
    "model.character_encoder": ("none", _one_of("none", "lstm", "cnn"), "none, lstm or cnn"),
    "model.character_embedding_size": (32, is_size, "a positive integer"),
    "model.character_hidden_size": (64, is_size, "a positive integer"),
}
"""The settings that describe a model, with their defaults, a check, and what it expects."""


def read_run(path: str | Path, weights: str = "fp32") -> ModelFile:
    """Make the model file of a run.

    Args:
        path: the run folder.
        weights: how to store matrices: one of ``STORED``.

    Raises:
        UsageError: ``weights`` is unknown.
        RunError: something in the folder is missing or invalid.
    """
    run = RunReader.existing(path)
    about, arrays = stored_run(run, weights)
    return ModelFile(str(run.path), about, b"".join(compose(arrays, {"runtime": about})))


def stored_run(run: RunReader, weights: str) -> tuple[Mapping[str, Any], Mapping[str, npt.NDArray[Any]]]:
    """Return what the model file of a run says about it, and its tensors; see ``read_run``."""
    check_stored(weights)
    settings = _settings(run)
    header = run.open_weights(settings)
    about = _describe(run, settings)
    arrays, _ = run.read_weights(shapes_of(about), header)
    if about["tied"]:
        run.check_tied(np.array_equal(arrays["decoder.weight"], arrays["embedding.weight"]))
        del arrays["decoder.weight"]
    tensors = dict[str, npt.NDArray[Any]]()
    for name, array in arrays.items():
        kept = "fp32" if name.startswith("crf.") else weights
        tensors |= _tensors(name, array, kept, _by_column(about, name))
    return {"version": VERSION, **about, "model": _identity(run, header), "weights": weights}, tensors


def check_stored(weights: str) -> None:
    """Check how weights shall be stored.

    Raises:
        UsageError: there is no such way.
    """
    if weights not in STORED:
        raise UsageError(f"{option('weights', weights)}: no such storage; expected one of {', '.join(STORED)}")


def _settings(run: RunReader) -> dict[str, Any]:
    """Return the settings of a run, those that describe a model checked and complete."""
    settings = {**{key: default for key, (default, *_) in _SETTINGS.items()}, **run.read_settings()}
    for key, (_, is_valid, expected) in _SETTINGS.items():
        if not is_valid(settings[key]):
            raise RunError(
                f"{place_of_key(run.config_file, key)}: {key} is {settings[key]!r:.100}; expected {expected}: restore "
                "the file, or train again"
            )
    return settings


def _describe(run: RunReader, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model file says about a run's model, but for its weights."""
    task, spells = TASKS[settings["task.name"]], settings["model.character_encoder"]
    about: dict[str, Any] = {"task": task, "inputs": 0, "window": 0, "start": False}
    for key in ("cell", "hidden_size", "num_layers", "bidirectional", "pooling", "one_hot", "character_encoder"):
        about[key] = settings[f"model.{key}"]
    words = task == "language-model" or task in _WORDS
    about["level"] = settings["data.level"] if words and task != "tagger" else "word"
    about["tied"] = settings["model.tie_weights"]
    about["embedding_size"] = (
        (settings["model.embedding_size"] or about["hidden_size"]) if words and not about["one_hot"] else 0
    )
    for size in ("character_embedding_size", "character_hidden_size"):
        about[size] = 0 if spells == "none" else settings[f"model.{size}"]
    about["crf"] = settings["model.output"] == "crf"
    if task == "language-model":
        vocabulary = run.read_vocabulary(about["level"])
        about |= {"tokens": vocabulary.tokens, "start": vocabulary.bos_id is not None, "lowercase": False}
    elif task in _WORDS:
        lexicon, characters = run.read_words()
        about |= {"tokens": lexicon.tokens, "lowercase": lexicon.lowercase}
        if spells != "none":
            about |= {"characters": characters.tokens, "characters_lowercase": characters.lowercase}
        about["labels"] = run.read_names(*(["seen_words"] if task == "tagger" else []))
    elif task == "classifier":
        labels = run.read_labels("input_size")
        about |= {"inputs": labels.input_size, "labels": list(labels.labels)}
    else:
        inputs, scaling, window = run.read_forecaster(settings["data.window"], settings["data.horizon"])
        about |= {"inputs": inputs, "window": window, "scaling": {"input_size": inputs, **scaling.as_json()}}
    return about


def shapes_of(about: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of a run's ``model.safetensors`` by name, as the models of PyTorch have them.

    Args:
        about: what a model file says about the model.
    """
    words, H = "tokens" in about, about["hidden_size"]
    V, E = len(about.get("tokens", ())), about["embedding_size"]
    directions = 2 if about["bidirectional"] else 1
    outputs = len(about["labels"]) if "labels" in about else V or about["scaling"].get("horizon", 1)
    spells, C, K = about["character_encoder"], about["character_embedding_size"], about["character_hidden_size"]
    shapes = {"embedding.weight": (V, E)} if words and not about["one_hot"] else dict[str, tuple[int, ...]]()
    inputs = V if about["one_hot"] else E if words else about["inputs"]
    if spells != "none":
        shapes["characters.embedding.weight"] = (len(about["characters"]), C)
        if spells == "cnn":
            shapes |= {"characters.convolution.weight": (K, C, 3), "characters.convolution.bias": (K,)}
        else:
            own = RecurrentSpec("lstm", C, K, bidirectional=True)
            shapes |= {f"characters.rnn.{name}": shape for name, shape in own.parameters().items()}
        inputs += K if spells == "cnn" else 2 * K
    stack = RecurrentSpec(about["cell"], inputs, H, about["num_layers"], bidirectional=about["bidirectional"])
    shapes |= {f"rnn.{name}": shape for name, shape in stack.parameters().items()}
    shapes |= {"decoder.weight": (outputs, directions * H), "decoder.bias": (outputs,)}
    if about["crf"]:
        shapes |= {"crf.transitions": (outputs, outputs), "crf.start": (outputs,), "crf.end": (outputs,)}
    return shapes


def _tensors(name: str, array: Floats, weights: str, by_column: bool) -> dict[str, npt.NDArray[Any]]:
    """Return an array as it is stored, with what its numbers are multiplied by.

    ``bf16`` rounds to the nearest, the even one of two. ``int8`` is ``q = round(w / s)`` with ``s = max|w| / 127`` over
    a row, or over a column; a maximum below 2⁻¹⁰⁰ counts as that. All in float32, as in ``csrc/stream_int8.hpp``.
    """
    if weights == "fp32" or array.ndim == 1:
        return {name: array}
    if weights == "bf16":
        bits = array.view(np.uint32)
        rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
        return {name: rounded.astype(np.uint16).view(BF16)}
    rest = (0,) if by_column else tuple(range(1, array.ndim))
    largest = np.abs(array).max(rest, keepdims=True)
    return {name: np.rint(array / _scale(largest)).astype(np.int8), f"{name}{_LARGEST}": largest.reshape(-1)}


def _scale(largest: Floats) -> Floats:
    """Return what the integers of a row stand for multiples of, by the largest size in it."""
    scale: Floats = np.maximum(largest, _SMALLEST) / np.float32(127)
    return scale


def _by_column(about: Mapping[str, Any], name: str) -> bool:
    """Return whether a matrix has a scale for each column: each word's product with W_ih is one."""
    return bool(about["one_hot"]) and name == "rnn.weight_ih_l0"


def _identity(run: RunReader, header: Header) -> str:
    """Return the SHA-256 that names the weights: the one that seals them or, of another program's file, its own."""
    if not header.sealed:
        return file_hash(run.weights_file, "the run's weights: restore the file, or train again", RunError)
    at = header.head.index(IN_FILE) + len(IN_FILE)
    return header.head[at : at + len(BLANK)].decode()


_FACTS: Mapping[str, tuple[Callable[[object], bool], bool]] = {
    "task": (_one_of(*TASKS.values()), True),
    "model": (lambda value: isinstance(value, str), True),
    "weights": (_one_of(*STORED), True),
    "cell": (_one_of(*CELLS), True),
    "level": (_one_of(*LEVELS), True),
    "start": (_is_flag, True),
    "one_hot": (_is_flag, True),
    "inputs": (_is_count, True),
    "window": (_is_count, True),
    "lowercase": (_is_flag, False),
    "tokens": (lambda value: isinstance(value, list) and {type(one) for one in value} == {str}, False),
    "labels": (
        lambda value: isinstance(value, list) and {type(one) for one in value} in ({str}, {int}),
        False,
    ),
    "scaling": (lambda value: isinstance(value, dict), False),
}
"""What Python reads of the description, with a check, and whether it must be there; the library checks all of it."""
_NEEDED = {
    "language-model": {"tokens", "lowercase"},
    "tagger": {"tokens", "lowercase", "labels"},
    "text-classifier": {"tokens", "lowercase", "labels"},
    "classifier": {"labels"},
    "regressor": {"scaling"},
}


def read_facts(path: Path) -> tuple[Mapping[str, Any], Header]:
    """Return what a model file says about its model, and its header; its tensors and its hash are not read.

    Raises:
        RunError: the file is missing, damaged, of a newer format, or no model file.
    """
    check_regular(path, EXPECTED, RunError)
    try:
        header = read_header(path)
    except DamagedError as problem:
        raise RunError(f"{path}: no model file, or a damaged one ({problem}); expected {EXPECTED}") from None
    check_version(path, header)
    about = header.facts.get("runtime")
    if not isinstance(about, dict):
        raise RunError(f"{path}: its metadata does not describe a model; expected {EXPECTED}")
    version = about.get("version")
    if type(version) is not int or version < 1:
        raise RunError(f"{path}: version {version!r:.20}; expected {EXPECTED}")
    if version > VERSION:
        raise RunError(f"{path}: version {version}, of a newer Gatewise; this one reads {VERSION}: upgrade Gatewise")
    for key, (is_valid, always) in _FACTS.items():
        there = key in about
        if (there and not is_valid(about[key])) or (not there and (always or key in _NEEDED.get(about["task"], ()))):
            found = f"is {about[key]!r:.60}" if there else "is missing"
            raise RunError(f"{path}: {key!r} {found}; expected {EXPECTED}")
    return about, header


def read_tensors(path: Path) -> dict[str, Floats]:
    """Return the tensors of a model file as float32, those of 8 and 16 bits as the numbers that they stand for.

    Raises:
        RunError: the file is missing, damaged, of a newer format, or no model file.
    """
    about, header = read_facts(path)
    raw, tensors = read_file(path).content, dict[str, Floats]()
    kinds: dict[str, Any] = {"F32": "<f4", "BF16": "<u2", "I8": "i1"}
    stored = dict[str, npt.NDArray[Any]]()
    for name, shape in header.shapes.items():
        if (kind := kinds.get(header.dtypes[name])) is None:
            raise RunError(f"{path}: {name!r:.60} has type {header.dtypes[name]}; expected {EXPECTED}")
        stored[name] = np.frombuffer(raw, kind, math.prod(shape), header.starts[name]).reshape(shape)
    for name, array in stored.items():
        if header.dtypes[name] == "F32" and not name.endswith(_LARGEST):
            tensors[name] = array.astype(np.float32)
        elif header.dtypes[name] == "BF16":
            tensors[name] = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        elif header.dtypes[name] == "I8":
            shape = (1, -1) if _by_column(about, name) else (-1, *[1] * (array.ndim - 1))
            tensors[name] = array * _scale(stored[f"{name}{_LARGEST}"].astype(np.float32).reshape(shape))
    return tensors


def read_file(path: Path) -> ModelFile:
    """Read a model file, checking its hash.

    Raises:
        RunError: the file is missing, damaged, of a newer format, or no model file.
    """
    about, header = read_facts(path)
    try:
        return ModelFile(str(path), about, read_sealed(path, header))
    except DamagedError as problem:
        raise RunError(f"{path}: damaged or truncated ({problem}); expected {EXPECTED}") from None
