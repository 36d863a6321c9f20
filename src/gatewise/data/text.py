"""Text corpora of three files, and line-by-line reading of text files."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gatewise.errors import DataError
from gatewise.files import LONGEST_LINE, LONGEST_RECORD, check_memory, open_regular, size

SPLITS = ("train", "valid", "test")
_SPELLINGS = {"valid": ("valid", "val", "dev", "validation")}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TextCorpus:
    """Paths of the three splits of a corpus."""

    train: Path
    valid: Path
    test: Path

    def split(self, name: str) -> Path:
        """Return the file of ``train``, ``valid`` or ``test``."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    @classmethod
    def from_folder(cls, folder: str | Path) -> "TextCorpus":
        """Find ``*.train.txt``, ``*.valid.txt`` and ``*.test.txt`` in a folder.

        Raises:
            DataError: the folder or a split is missing, or a split has more than one file.
        """
        folder = Path(folder).expanduser()
        return cls(*(find_split(folder, name) for name in SPLITS))


def find_split(folder: Path, name: str) -> Path:
    """Find the only ``*.NAME.txt`` (or ``NAME.txt``) of a folder.

    Raises:
        DataError: the folder or the file is missing, or there are several.
    """
    return find_part(folder, name, [lambda split: (f"*.{split}.txt", f"{split}.txt")])


def spellings(split: str) -> tuple[str, ...]:
    """Return the names that files and folders of a split have, the usual one first."""
    return _SPELLINGS.get(split, (split,))


Patterns = Callable[[str], tuple[str, ...]]
"""Maps the name of a split to its file name patterns; the first one is shown in error messages."""


def find_part(folder: Path, name: str, kinds: Sequence[Patterns]) -> Path:
    """Find the only file of a split, using the first of several naming schemes that matches any file.

    The validation split may be called ``valid``, ``val``, ``dev`` or ``validation``.

    Raises:
        DataError: the folder or the file is missing, or there are several.
    """
    expected = " or ".join(_listed([patterns(split)[0] for split in SPLITS]) for patterns in kinds)
    if not os.path.exists(folder):  # pathlib raises for some invalid paths
        raise DataError(f"{folder}: no such folder; expected one with {expected}")
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: a file; expected a folder with {expected}")
    for patterns in kinds:
        found = sorted(
            {path for split in spellings(name) for pattern in patterns(split) for path in folder.glob(pattern)}
        )
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(
                f"{folder}: {len(found)} files for the split {name} ({names}); expected one, move the others elsewhere"
            )
        if found:
            return found[0]
    names = " or ".join(patterns(name)[0] for patterns in kinds)
    raise DataError(f"{folder}: no {names} in this folder; expected the three splits train, valid and test")


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def read_lines(path: Path, *, kept: bool = False) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their line endings; a byte order mark and CRLF are accepted.

    Args:
        path: a regular file.
        kept: whether the caller keeps the lines in memory; if so, lines are limited to 16 MiB, and the whole file to
            the available memory.

    Raises:
        DataError: the file cannot be read, is not valid UTF-8, or is not text (with file and line).
    """
    longest = LONGEST_RECORD if kept else LONGEST_LINE
    try:
        with open_regular(path, "a text file") as file:
            if kept:
                check_memory(str(path), os.fstat(file.fileno()).st_size)
            for number, raw in enumerate(iter(partial(file.readline, longest + 1), b""), 1):
                if len(raw) > longest:
                    raise DataError(
                        f"{path}:{number}: line of more than {size(longest)}; expected shorter lines that end in LF or "
                        "CRLF"
                    )
                if number == 1:
                    raw = raw.removeprefix(_BOM)
                    if not raw:
                        continue  # only a byte order mark
                    if b"\r" in raw[:-1] and not raw.endswith(b"\n"):
                        raise DataError(f"{path}: lines end in CR only; expected LF or CRLF, convert the file")
                try:
                    line = raw.decode("utf-8")
                except UnicodeDecodeError as problem:
                    byte = raw[problem.start]
                    raise DataError(
                        f"{path}:{number}: byte 0x{byte:02x} is not valid UTF-8; expected UTF-8 text, convert the file"
                    ) from None
                if "\0" in line:
                    raise DataError(
                        f"{path}:{number}: null byte, perhaps UTF-16; expected UTF-8 text, convert the file"
                    )
                yield line.removesuffix("\n").removesuffix("\r")
    except OSError as problem:
        raise DataError(f"{path}: cannot read it ({problem.strerror}); expected a text file") from None
