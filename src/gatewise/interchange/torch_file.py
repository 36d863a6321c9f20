"""Reading the tensors of PyTorch's files: safetensors, and zip archives of ``torch.save``, read as weights only."""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import DataError, GatewiseError, RunError
from gatewise.files import LARGEST_PART, check_memory, check_regular, open_regular, size
from gatewise.interchange.layouts import Array
from gatewise.runtime.sealed import DamagedError, Header, check_version, read_header, read_sealed

EXPECTED = "a state_dict, as .safetensors or written by torch.save"
ZIP = b"PK\x03\x04"
_TENSORS = {("collections", "OrderedDict"), ("torch", "Size")}
_TENSORS |= {("torch._utils", name) for name in ("_rebuild_tensor_v2", "_rebuild_parameter")}
_STORAGES = {"Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool"}
_GLOBALS = _TENSORS | {("torch", f"{kind}Storage") for kind in _STORAGES}
"""What the pickle of a state_dict of plain tensors refers to."""
_NO_GLOBALS = {"INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
"""Ways of naming an object that PyTorch's own writer does not use."""
_OLD = (b"\x80\x02\x8a\nl\xfc\x9cF", b"\x80\x02}q")
"""The first bytes of files from before the zip format: those of ``torch.save``, and a bare pickle."""
_FLOATS: Mapping[str, Callable[[bytes], Array]] = {
    "F32": lambda raw: np.frombuffer(raw, "<f4").astype(np.float32),
    "F16": lambda raw: np.frombuffer(raw, "<f2").astype(np.float32),
    "BF16": lambda raw: (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32),
}


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file: their shapes by name, and what reads one.

    Attributes:
        path: the file.
        shapes: the shape of each tensor.
        facts: Gatewise's own metadata; empty for a file of another program.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    facts: Mapping[str, Any]
    _read: Callable[[str], Array | str]

    def array(self, name: str) -> Array:
        """Return a tensor as float32, if that is exact.

        Raises:
            DataError: it is of another type.
        """
        found = self._read(name)
        if isinstance(found, str):
            raise DataError(
                f"{self.path}: {name} has type {found}; expected float32, or 16 bits, which fit into it: convert the "
                "model with .float() and save it again"
            )
        return found


def recognises(path: Path) -> bool:
    """Return whether a file is safetensors or a zip archive of ``torch.save``, by its first bytes and its entries.

    Of a zip that cannot be opened, such as one that is cut off, the suffix decides.
    """
    try:
        with open_regular(path, EXPECTED) as file:
            first = file.read(16)
            if first.startswith(_OLD):
                return True
            if not first.startswith(ZIP):
                return first[8:9] == b"{"
            with zipfile.ZipFile(file) as archive:
                return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())
    except (GatewiseError, OSError, ValueError, NotImplementedError):
        return False
    except zipfile.BadZipFile:
        return path.suffix.lower() in (".pt", ".pth", ".bin")


def open_tensors(path: Path) -> TensorFile:
    """Read a file of tensors.

    Raises:
        DataError: the file is missing, damaged, of another format, or holds other objects than plain tensors.
    """
    check_memory(str(path), check_regular(path, EXPECTED))
    with open_regular(path, EXPECTED) as file:
        first = file.read(16)
    if first.startswith(ZIP):
        return _of_archive(path)
    if first.startswith(_OLD) or first[8:9] != b"{":
        with open_regular(path, EXPECTED) as file:
            raw = file.read(1 << 20) if first.startswith(_OLD) else b""
        if b"weight_hh_l0_raw" in raw:
            raise awd_lstm(path)
        what = "written by PyTorch before 1.6, in a format that is not read" if raw else "neither safetensors nor a zip"
        todo = "; load it with torch.load(FILE, weights_only=True) and save it again" if raw else ""
        raise DataError(f"{path}: {what}; expected {EXPECTED}{todo}")
    return _of_safetensors(path)


def awd_lstm(path: Path) -> DataError:
    """Return the error for a file of Merity's AWD-LSTM or of ULMFiT, which is one."""
    return DataError(
        f"{path}: weights of an AWD-LSTM or ULMFiT model (weight_hh_l0_raw), whose layers differ in width; expected a "
        "stack of equal layers, as of torch.nn.LSTM"
    )


def _of_safetensors(path: Path) -> TensorFile:
    try:
        header = read_header(path)
        check_version(path, header)
        raw = read_sealed(path, header)
    except DamagedError as problem:
        raise DataError(f"{path}: damaged or truncated ({problem}); expected {EXPECTED}") from None
    except RunError as problem:
        raise DataError(str(problem)) from None

    def read(name: str) -> Array | str:
        return _stored(raw, header, name)

    return TensorFile(path, header.shapes, header.facts, read)


def _stored(raw: bytes, header: Header, name: str) -> Array | str:
    kind, shape = header.dtypes[name], header.shapes[name]
    if kind not in _FLOATS:
        return kind
    start = header.starts[name]
    return _FLOATS[kind](raw[start : start + math.prod(shape) * (4 if kind == "F32" else 2)]).reshape(shape)


def _of_archive(path: Path) -> TensorFile:
    """Read a zip archive of ``torch.save``.

    Its checksums are verified and its pickle may refer only to what a state_dict needs, before PyTorch reads it. The
    file is mapped, so that a tensor cannot be larger than what the file holds of it, in any version of PyTorch.
    """
    stored = _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; expected {EXPECTED}") from None
    except Exception as problem:  # whatever PyTorch's reader meets in a damaged file
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise DataError(f"{path}: torch.load cannot read it ({reason}); expected {EXPECTED}") from None
    for key in ("state_dict", "model_state_dict", "model"):  # the usual names within a checkpoint
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; expected {EXPECTED}")
    tensors = {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)}

    def read(name: str) -> Array | str:
        tensor = tensors[name]
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            return str(tensor.dtype).removeprefix("torch.")
        found: Array = tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format).numpy()
        return found

    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        # A view with strides of 0 can claim any shape.
        held = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > held or held not in stored:
            raise DataError(f"{path}: {name} claims the shape {shapes[name]}, more than the file holds; it is damaged")
    return TensorFile(path, shapes, {}, read)


def _check_archive(path: Path) -> set[int]:
    """Check an archive before PyTorch reads it, and return the sizes of its entries.

    Raises:
        DataError: an entry is compressed or damaged, or the pickle refers to other objects than tensors.
    """
    try:
        with open_regular(path, EXPECTED) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1 or pickles[0].filename.count("/") != 1:
                raise DataError(f"{path}: a zip without data.pkl; expected {EXPECTED}")
            names = {entry.filename for entry in entries}
            if len(names) < len(entries) or any(name.endswith("/constants.pkl") for name in names):
                what = "entries of the same name" if len(names) < len(entries) else "a program of torch.jit"
                raise DataError(f"{path}: {what}; expected {EXPECTED}")
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                    raise DataError(f"{path}: {entry.filename} is compressed; expected {EXPECTED}")
            if pickles[0].file_size > LARGEST_PART:
                raise DataError(f"{path}: a data.pkl of more than {size(LARGEST_PART)}; expected {EXPECTED}")
            if (damaged := archive.testzip()) is not None:
                raise DataError(f"{path}: the checksum of {damaged} does not match: the file is damaged")
            content = archive.read(pickles[0])
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError, RuntimeError) as problem:
        raise DataError(f"{path}: damaged or truncated ({problem}); expected {EXPECTED}") from None
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(content)):
            named = tuple(str(argument).split(" ", 1)) if opcode.name == "GLOBAL" else None
            if opcode.name in _NO_GLOBALS or (named and named not in _GLOBALS):
                what = ".".join(named) if named else opcode.name
                raise DataError(
                    f"{path}: its pickle refers to {what}; expected a state_dict of plain tensors: save "
                    "module.state_dict() alone"
                )
    except DataError:
        raise
    except Exception as problem:  # genops raises many types
        raise DataError(f"{path}: its pickle is damaged ({problem}); expected {EXPECTED}") from None
    return {entry.file_size for entry in entries}
