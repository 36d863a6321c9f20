"""Token ids of a text file as a memory-mapped array, made once and kept in the user's cache folder."""

import hashlib
import json
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs

from gatewise.data.text import read_lines
from gatewise.data.vocabulary import Vocabulary, split_tokens
from gatewise.errors import DataError
from gatewise.files import file_hash
from gatewise.reading import parse_json

_CHUNK = 1 << 20

Ids = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class TokenizedText:
    """A text as token ids.

    Attributes:
        ids: (N,) unsigned integers, read from disk as they are needed; in memory where they could not be kept.
        unknown: how many tokens stand outside the vocabulary and read as ``<unk>``.
        data_hash: SHA-256 of the file's bytes.
        not_kept: why the ids could not be kept for the next time; None where they were.
    """

    ids: Ids
    unknown: int
    data_hash: str
    not_kept: str | None = None

    @property
    def oov_rate(self) -> float:
        """The share of tokens outside the vocabulary."""
        return self.unknown / len(self.ids)


def cache_folder() -> Path:
    """Return where Gatewise keeps what it can make again: ``GATEWISE_CACHE``, or the user's cache folder."""
    override = os.environ.get("GATEWISE_CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("gatewise"))


def tokenize_file(path: Path, vocabulary: Vocabulary) -> TokenizedText:
    """Return a file's token ids, from the cache where the same file, vocabulary and level were met before.

    What the cache holds is checked by its hash; what is damaged is made again. Where the cache cannot be written, the
    ids are the same, and in memory.

    Raises:
        DataError: the file is missing, empty, or no UTF-8.
    """
    data_hash = file_hash(path)
    words = hashlib.sha256("\0".join([vocabulary.level, *vocabulary.tokens]).encode()).hexdigest()
    key = hashlib.sha256(f"{data_hash} {words}".encode()).hexdigest()[:32]
    dtype = np.dtype(np.uint16 if len(vocabulary) <= 1 << 16 else np.uint32)
    folder, not_kept = cache_folder() / "tokens", None
    binary, record = folder / f"{key}.bin", folder / f"{key}.json"
    found = _open(binary, record, dtype, len(vocabulary))
    if found is None:
        encoded = _Encoded(path, vocabulary, dtype)
        try:
            _write(encoded, binary, record)
            found = _open(binary, record, dtype, len(vocabulary))
        except OSError as problem:
            not_kept = (
                f"token ids cannot be kept in {folder} ({problem.strerror or problem}), each run reads the text anew: "
                "set GATEWISE_CACHE to a folder that can be written"
            )
        if found is None:
            found = np.concatenate([np.empty(0, dtype), *encoded.chunks()]), encoded.unknown
            found[0].flags.writeable = False
    ids, unknown = found
    if not len(ids):
        raise DataError(f"{path}: the file is empty; expected text")
    return TokenizedText(ids, unknown, data_hash, not_kept)


def _open(binary: Path, record: Path, dtype: np.dtype, vocabulary_size: int) -> tuple[Ids, int] | None:
    """Return the ids that the cache holds and how many are unknown; None where it has none, or damaged ones."""
    try:
        if not (binary.is_file() and record.is_file()) or record.stat().st_size > 1000:
            return None
        facts = parse_json(record.read_bytes())
        tokens, unknown, sha256 = facts["tokens"], facts["unknown"], facts["sha256"]
        if not (type(tokens) is type(unknown) is int and 0 <= unknown <= tokens):
            return None
        if binary.stat().st_size != tokens * dtype.itemsize:
            return None
        ids: Ids = np.memmap(binary, dtype=dtype, mode="r") if tokens else np.empty(0, dtype)
        digest = hashlib.sha256()
        for start in range(0, tokens, _CHUNK):
            chunk = ids[start : start + _CHUNK]
            digest.update(chunk.data)
            if int(chunk.max()) >= vocabulary_size:
                return None
        return (ids, unknown) if digest.hexdigest() == sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not made yet, damaged, or not ours to read: it is made again


class _Encoded:
    """A text's ids, a piece at a time, and how many of them were unknown until there."""

    def __init__(self, path: Path, vocabulary: Vocabulary, dtype: np.dtype) -> None:
        self.path, self.vocabulary, self.dtype = path, vocabulary, dtype
        self.unknown = 0

    def chunks(self) -> Iterator[Ids]:
        """Read the text once, a line at a time."""
        get, unk, level = self.vocabulary.ids.get, self.vocabulary.unk_id, self.vocabulary.level
        self.unknown, buffer = 0, array("L")
        for line in read_lines(self.path):
            for token in split_tokens(line, level):
                index = get(token, -1)
                if index < 0:
                    index = unk
                    self.unknown += 1
                buffer.append(index)
            buffer.append(self.vocabulary.eos_id)
            if len(buffer) >= _CHUNK:
                yield np.array(buffer, self.dtype)
                del buffer[:]
        yield np.array(buffer, self.dtype)


def _write(encoded: _Encoded, binary: Path, record: Path) -> None:
    """Write the ids, then the record, whose hash says that they are whole.

    Raises:
        OSError: the cache cannot be written; nothing half made is left.
    """
    binary.parent.mkdir(parents=True, exist_ok=True)
    digest, tokens = hashlib.sha256(), 0

    def counted() -> Iterator[bytes]:
        nonlocal tokens
        for chunk in encoded.chunks():
            digest.update(chunk.data)
            tokens += len(chunk)
            yield chunk.tobytes()

    _write_whole(binary, counted())
    facts = {"tokens": tokens, "unknown": encoded.unknown, "sha256": digest.hexdigest()}
    _write_whole(record, [json.dumps(facts).encode()])


def _write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file beside its place, flush it to disk, then put it there."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            for piece in pieces:
                part.write(piece)
            part.flush()
            os.fsync(part.fileno())
            part.close()
            os.replace(part.name, path)
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise
