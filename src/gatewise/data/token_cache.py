"""Token ids of a text file as a memory-mapped array, cached in the user's cache folder."""

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
from gatewise.errors import DataError
from gatewise.files import file_hash
from gatewise.reading import parse_json
from gatewise.runtime.vocabulary import Vocabulary, split_tokens

_CHUNK = 1 << 20

Ids = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class TokenizedText:
    """A text as token ids.

    Attributes:
        ids: (N,) unsigned integers, memory-mapped, or in memory if they could not be cached.
        unknown: number of out-of-vocabulary tokens, which are read as ``<unk>``.
        data_hash: SHA-256 of the file.
        not_kept: why the ids could not be cached; None if they were.
    """

    ids: Ids
    unknown: int
    data_hash: str
    not_kept: str | None = None

    @property
    def oov_rate(self) -> float:
        """Fraction of tokens that are out of vocabulary."""
        return self.unknown / len(self.ids)


def cache_folder() -> Path:
    """Return the cache folder: ``GATEWISE_CACHE`` if set, else ``gatewise`` in the user's cache folder."""
    override = os.environ.get("GATEWISE_CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("gatewise"))


def tokenize_file(path: Path, vocabulary: Vocabulary) -> TokenizedText:
    """Return a file's token ids, cached by file content, vocabulary and level.

    Cached ids are verified by their hash, and recomputed if damaged. If the cache is not writable, the same ids are
    returned in memory.

    Raises:
        DataError: the file is missing, empty, or not valid UTF-8.
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
                f"cannot cache token ids in {folder} ({problem.strerror or problem}), so each run reads it again: "
                "set GATEWISE_CACHE to a writable folder"
            )
        if found is None:
            found = np.concatenate([np.empty(0, dtype), *encoded.chunks()]), encoded.unknown
            found[0].flags.writeable = False
    ids, unknown = found
    if not len(ids):
        raise DataError(f"{path}: the file is empty; expected text")
    return TokenizedText(ids, unknown, data_hash, not_kept)


def _open(binary: Path, record: Path, dtype: np.dtype, vocabulary_size: int) -> tuple[Ids, int] | None:
    """Return the cached ids and the number of unknown tokens; None if they are missing or damaged."""
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
        return None  # not cached yet, damaged, or not readable: computed again


class _Encoded:
    """A text's ids in chunks, and the number of unknown tokens so far."""

    def __init__(self, path: Path, vocabulary: Vocabulary, dtype: np.dtype) -> None:
        self.path, self.vocabulary, self.dtype = path, vocabulary, dtype
        self.unknown = 0

    def chunks(self) -> Iterator[Ids]:
        """Read the text once, line by line."""
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
    """Write the ids, then the record, whose hash verifies that they are complete.

    Raises:
        OSError: the cache cannot be written; no partial file is left.
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
    """Write a temporary file next to the target, flush it to disk, then rename it."""
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
