"""Reading Keras' files: ``.keras``, ``.weights.h5`` and the older ``.h5``, with h5py alone."""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.errors import DataError, GatewiseError
from gatewise.extras import import_extra
from gatewise.files import LARGEST_PART, check_memory, check_regular, check_unpacked, open_regular
from gatewise.interchange.layouts import Array
from gatewise.reading import parse_json, read_json
from gatewise.wording import option

EXPECTED = "a model as Keras saves it, .keras or .h5"
ZIP = b"PK\x03\x04"
HDF5 = b"\x89HDF\r\n\x1a\n"
_WEIGHTS = "model.weights.h5"
_ROOTS = ("layers", "_layer_checkpoint_dependencies")
"""Where the weights of layers are: the second until Keras 2.13."""

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class KerasFile:
    """The architecture of a file and its open weights.

    Attributes:
        path: the file.
        config: the architecture: what ``model.to_json()`` returns, parsed.
        legacy: whether weights are listed by the names of layers, as in ``.h5``.
    """

    path: Path
    config: Any
    legacy: bool
    _h5: Any
    _raw: bytes | mmap

    def arrays(self, layer: str, group: str, paths: Sequence[str], shapes: Sequence[Shape]) -> list[Array]:
        """Return the weights of a layer as float32.

        Args:
            layer: its name.
            group: its place in ``.keras``: its class and a counter.
            paths: the place of each array in the group.
            shapes: the shape of each array; None is any number.

        Raises:
            DataError: an array is missing, there are others, or one has another shape or type.
        """
        with _whatever_hdf5_raises(self.path):
            found = self._listed(layer) if self.legacy else self._numbered(layer, group, paths)
            if len(found) != len(shapes):
                raise self.wrong(layer, f"has {len(found)} arrays; its configuration asks for {len(shapes)}")
            return [self._array(layer, one, shape) for one, shape in zip(found, shapes, strict=True)]

    def wrong(self, layer: str, what: str) -> DataError:
        """Return the error for a layer."""
        return DataError(f"{self.path}: layer {layer!r:.100} {what}")

    def _numbered(self, layer: str, group: str, paths: Sequence[str]) -> list[Any]:
        root = next((self._child(self._h5, root) for root in _ROOTS if self._h5.get(root, getlink=True)), None)
        if root is None or root.get(group, getlink=True) is None:
            raise self.wrong(layer, f"has no weights: layers/{group} is missing in {_WEIGHTS}")
        own, found = self._child(root, group), []
        for path in paths:
            where = self._at(own, path.rpartition("/")[0], layer)
            count = sum(one.rpartition("/")[0] == path.rpartition("/")[0] for one in paths)
            if len(where) != count:
                raise self.wrong(layer, f"has {len(where)} arrays in {where.name}; its configuration asks for {count}")
            found.append(self._at(own, path, layer))
        return found

    def _listed(self, layer: str) -> list[Any]:
        """Return the arrays that the attribute ``weight_names`` lists, which may be cut into pieces."""
        top = self._child(self._h5, "model_weights") if self._h5.get("model_weights", getlink=True) else self._h5
        if top.get(layer, getlink=True) is None:
            raise self.wrong(layer, "has no weights in the file")
        group = self._child(top, layer)
        return [self._at(group, name, layer) for name in self._names(group, layer)]

    def _names(self, group: Any, layer: str) -> list[str]:
        pieces = ["weight_names"] if "weight_names" in group.attrs else []
        while not (pieces and pieces[0] == "weight_names") and f"weight_names{len(pieces)}" in group.attrs:
            pieces.append(f"weight_names{len(pieces)}")
        if not pieces:
            raise self.wrong(layer, "has no attribute weight_names")
        found: list[str] = []
        for piece in pieces:
            for name in np.atleast_1d(_attribute(self.path, self._raw, group, piece)):
                found.append(name.decode("utf-8") if isinstance(name, bytes) else str(name))
        return found

    def _at(self, group: Any, path: str, layer: str) -> Any:
        for part in path.strip("/").split("/"):
            if not hasattr(group, "keys") or group.get(part, getlink=True) is None:
                raise self.wrong(layer, f"has no {path!r:.100} in the file")
            group = self._child(group, part)
        return group

    def _child(self, group: Any, name: str) -> Any:
        """Return a member of a group, which is in the same file and at this place."""
        link = group.get(name, getlink=True)
        if type(link).__name__ != "HardLink":
            raise DataError(f"{self.path}: {name!r:.100} is a {type(link).__name__}, which is not followed")
        return group[name]

    def _array(self, layer: str, dataset: Any, shape: Shape) -> Array:
        if hasattr(dataset, "keys"):
            raise self.wrong(layer, f"has a group {dataset.name!r:.100} in the place of an array")
        given, kind, bits = dataset.shape, dataset.dtype, dataset.dtype.itemsize
        if len(given) != len(shape) or any(n is not None and n != m for n, m in zip(shape, given, strict=True)):
            wanted = ", ".join("…" if n is None else str(n) for n in shape)
            raise self.wrong(layer, f"has an array of shape {given}; its configuration asks for ({wanted})")
        half = bits == 2 and "dtype" in dataset.attrs
        half = half and _attribute(self.path, self._raw, dataset, "dtype") in ("bfloat16", b"bfloat16")
        if not half and (kind.kind != "f" or bits > 4):
            raise self.wrong(layer, f"has an array of {kind}; expected float32, or 16 bits, which fit into it")
        stored = math.prod(given) * bits
        if dataset.is_virtual or dataset.external or dataset.id.get_storage_size() != stored or stored > len(self._raw):
            raise self.wrong(
                layer, "has an array that is compressed, cut off, or in another file; expected plain numbers"
            )
        raw = dataset[()]
        array: Array = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32) if half else raw.astype(np.float32)
        return array


def recognises(path: Path) -> bool:
    """Return whether a file is HDF5, or a zip with ``config.json``; of a zip that is cut off, the suffix decides."""
    try:
        with open_regular(path, EXPECTED) as file:
            first = file.read(len(HDF5))
            if not first.startswith(ZIP):
                return first == HDF5
            with zipfile.ZipFile(file) as archive:
                return {"config.json", "metadata.json"} <= set(archive.namelist())
    except (GatewiseError, OSError, ValueError, NotImplementedError):
        return False
    except zipfile.BadZipFile:
        return path.suffix == ".keras"


@contextmanager
def open_file(path: Path, architecture: Path | None) -> Iterator[KerasFile]:
    """Open a file within the block.

    Args:
        path: the file.
        architecture: a JSON file, as written by ``model.to_json()``; of a file that holds weights alone.

    Raises:
        DataError: the file is missing, damaged, of another format, or holds weights alone.
        MissingPackage: h5py is not installed.
    """
    h5py = import_extra("h5py", "h5py", "a file of Keras", "keras")
    check_memory(str(path), check_regular(path, EXPECTED))
    with open_regular(path, EXPECTED) as file:
        first = file.read(len(HDF5))
        file.seek(0)
        given = (
            None
            if architecture is None
            else read_json(architecture, LARGEST_PART, "what model.to_json() returns", DataError)
        )
        config: Any = None
        raw: bytes | mmap
        if first.startswith(ZIP):
            config, raw = _unzipped(path, file)
        elif first == HDF5:
            raw = mmap(file.fileno(), 0, access=ACCESS_READ)
        else:
            raise DataError(f"{path}: neither a zip nor HDF5; expected {EXPECTED}")
        with ExitStack() as opened:
            with _whatever_hdf5_raises(path):
                h5 = opened.enter_context(h5py.File(io.BytesIO(raw) if config is not None else file, "r"))
                legacy = config is None and not any(h5.get(root, getlink=True) for root in _ROOTS)
                if config is None and "model_config" in h5.attrs:
                    config = _parsed(path, "model_config", _attribute(path, raw, h5, "model_config"))
            if config is None and given is None:
                raise DataError(
                    f"{path}: weights alone, whose file does not say which layers they are of; add "
                    f"{option('architecture', 'FILE')}, a file with what model.to_json() returns"
                )
            yield KerasFile(path, given if config is None else config, legacy, h5, raw)


def _attribute(path: Path, raw: bytes | mmap, owner: Any, name: str) -> Any:
    """Return an attribute, of which no text is longer than the file.

    HDF5 allocates what the length of a text claims, before it looks for the text. The lengths stand in the attribute's
    message, after its name, its type and its dimensions (HDF5 File Format Specification, IV.A.2.m).

    Raises:
        DataError: it claims more than the file holds.
    """
    attribute = owner.attrs.get_id(name)
    kind, size = attribute.get_type(), attribute.get_storage_size()
    claimed = size
    if hasattr(kind, "is_variable_str") and kind.is_variable_str() and claimed <= len(raw):
        bare = name.encode() + b"\0"
        at = raw.find(bare)
        while at >= 0:
            for version, header in ((1, 8), (2, 8), (3, 9)):
                start = at - header
                if start < 0 or raw[start] != version or len(raw) < at + len(bare):
                    continue
                step = 8 if version == 1 else 1
                sizes = [-(-one // step) * step for one in struct.unpack("<3H", raw[start + 2 : start + 8])]
                space, texts = at + sum(sizes[:2]), at + sum(sizes)
                dimensions = space + (8 if raw[space : space + 1] == b"\1" else 4)
                rank = raw[space + 1] if space + 1 < len(raw) else 0
                extent = [int.from_bytes(raw[k : k + 8], "little") for k in range(dimensions, texts, 8)][:rank]
                if 16 * math.prod(extent) == size:  # else it is of another object
                    lengths = [int.from_bytes(raw[k : k + 4], "little") for k in range(texts, texts + size, 16)]
                    claimed = max(claimed, *lengths, 0)
            at = raw.find(bare, at + 1) if claimed <= len(raw) else -1
    if claimed > len(raw):
        raise DataError(f"{path}: {name} claims {claimed:,} bytes, more than the file holds; it is damaged")
    return owner.attrs[name]


def _unzipped(path: Path, file: Any) -> tuple[Any, bytes]:
    """Return the architecture and the HDF5 file of an archive; their sizes and checksums are verified."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if len(set(names)) < len(names):
                raise DataError(f"{path}: entries of the same name; expected {EXPECTED}")
            if "config.json" not in names or _WEIGHTS not in names:
                what = next((name for name in names if name.startswith("model.weights")), "")
                why = f"{what}, which is not read," if what and what != _WEIGHTS else "not"
                raise DataError(f"{path}: a zip with {why} config.json and {_WEIGHTS}; expected {EXPECTED}")
            found = dict[str, bytes]()
            for name, limit in (("config.json", LARGEST_PART), (_WEIGHTS, None)):
                entry = archive.getinfo(name)
                if limit is not None and entry.file_size > limit:
                    raise DataError(f"{path}: {name} is larger than {limit:,} bytes; expected {EXPECTED}")
                check_unpacked(f"{path}: {name}", entry.compress_size, entry.file_size, f"of {EXPECTED}")
                check_memory(str(path), entry.file_size)
                found[name] = archive.read(name)
    except (
        zipfile.BadZipFile,
        ValueError,
        NotImplementedError,
        EOFError,
        OSError,
        RuntimeError,
        zlib.error,
    ) as problem:
        raise DataError(f"{path}: damaged or truncated ({problem}); expected {EXPECTED}") from None
    return _parsed(path, "config.json", found["config.json"]), found[_WEIGHTS]


def _parsed(path: Path, name: str, text: Any) -> Any:
    if not isinstance(text, str | bytes):
        raise DataError(f"{path}: {name} is no text; expected {EXPECTED}")
    try:
        return parse_json(text)
    except ValueError as problem:
        raise DataError(f"{path}: {name}: {problem}; expected {EXPECTED}") from None


@contextmanager
def _whatever_hdf5_raises(path: Path) -> Iterator[None]:
    """Turn what h5py meets in a damaged file into a ``DataError``."""
    try:
        yield
    except GatewiseError:
        raise
    except Exception as problem:  # h5py raises many types
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise DataError(f"{path}: h5py cannot read it ({reason}); expected {EXPECTED}") from None
