"""Token ids of a text file as a memory-mapped array, made once and kept in the user's cache folder."""

import hashlib
import json
import os
import tempfile
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs

from gatewise.data.text import read_lines
from gatewise.data.vocabulary import Vocabulary, split_tokens
from gatewise.errors import DataError
from gatewise.files import open_regular

_CHUNK = 1 << 20


@dataclass(frozen=True)
class TokenizedText:
    """A text as token ids.

    Attributes:
        ids: (N,) unsigned integers, read from disk as they are needed.
        unknown: how many tokens stand outside the vocabulary and read as ``<unk>``.
        data_hash: SHA-256 of the file's bytes.
    """

    ids: npt.NDArray[np.unsignedinteger]
    unknown: int
    data_hash: str

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

    Raises:
        DataError: the file is missing, empty, or no UTF-8.
    """
    data_hash = file_hash(path)
    words = hashlib.sha256("\0".join([vocabulary.level, *vocabulary.tokens]).encode()).hexdigest()
    key = hashlib.sha256(f"{data_hash} {words}".encode()).hexdigest()[:32]
    dtype = np.dtype(np.uint16 if len(vocabulary) <= 1 << 16 else np.uint32)
    folder = cache_folder() / "tokens"
    binary, record = folder / f"{key}.bin", folder / f"{key}.json"
    facts = _read_record(record)
    if facts is None or not binary.is_file() or binary.stat().st_size != facts["tokens"] * dtype.itemsize:
        facts = _write(path, vocabulary, dtype, binary, record)
    if facts["tokens"] == 0:
        raise DataError(f"{path}: the file is empty; expected text")
    ids = np.memmap(binary, dtype=dtype, mode="r")
    return TokenizedText(ids, facts["unknown"], data_hash)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    try:
        with open_regular(path, "a text file") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as problem:
        raise DataError(f"{path}: cannot read it ({problem.strerror}); expected a text file") from None
    return digest.hexdigest()


def _read_record(record: Path) -> dict[str, int] | None:
    try:
        facts = json.loads(record.read_text())
        return {"tokens": int(facts["tokens"]), "unknown": int(facts["unknown"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None  # not made yet, or damaged: it is made again


def _write(path: Path, vocabulary: Vocabulary, dtype: np.dtype, binary: Path, record: Path) -> dict[str, int]:
    """Read the text once, a line at a time; the record is written last, so that a half-made pair is never used."""
    binary.parent.mkdir(parents=True, exist_ok=True)
    code = next(c for c in "HIL" if array(c).itemsize == dtype.itemsize)
    tokens = unknown = 0
    get, unk = vocabulary.ids.get, vocabulary.unk_id
    with tempfile.NamedTemporaryFile(dir=binary.parent, suffix=".part", delete=False) as part:
        try:
            buffer = array(code)
            for line in read_lines(path):
                for token in split_tokens(line, vocabulary.level):
                    index = get(token, -1)
                    if index < 0:
                        index = unk
                        unknown += 1
                    buffer.append(index)
                buffer.append(vocabulary.eos_id)
                if len(buffer) >= _CHUNK:
                    tokens += len(buffer)
                    part.write(buffer.tobytes())
                    buffer = array(code)
            tokens += len(buffer)
            part.write(buffer.tobytes())
            part.close()
            os.replace(part.name, binary)
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise
    facts = {"tokens": tokens, "unknown": unknown}
    beside = record.with_suffix(f".{os.getpid()}.part")
    beside.write_text(json.dumps(facts))
    os.replace(beside, record)
    return facts
