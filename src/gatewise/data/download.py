"""Public corpora: downloaded with progress, resumed where it was cut off, checked by SHA-256."""

import http.client
import os
import stat
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gatewise.data import web
from gatewise.data.corpora import CORPORA, RemoteCorpus, RemoteFile
from gatewise.errors import DataError, UsageError
from gatewise.files import file_hash

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be replaced anyway
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 16
_SLOWEST = 1024
"""Bytes a second, over ``web.PATIENCE_S``, below which a download has broken off."""

Report = Callable[[RemoteFile, int], None]
"""Called with a file and how many of its bytes are here."""


def corpus_named(name: str) -> RemoteCorpus:
    """Return a corpus of the catalogue.

    Raises:
        UsageError: no corpus has this name.
    """
    if name not in CORPORA:
        raise UsageError(f"no corpus {name!r}; expected one of {', '.join(CORPORA)}")
    return CORPORA[name]


def fetch(name: str, to: str | Path, *, mirror: str | None = None, report: Report | None = None) -> list[Path]:
    """Download a public corpus; files that are there and right are left as they are.

    Args:
        name: such as ``ptb``.
        to: the folder to fill.
        mirror: another place that holds the same files, as the start of their addresses.
        report: told how far each file is.

    Returns:
        The files.

    Raises:
        UsageError: no corpus has this name.
        DataError: the network or the content is not as it should be; what came is kept, and resumed the next time.
    """
    corpus, folder = corpus_named(name), Path(to).expanduser()
    base = (mirror or os.environ.get("GATEWISE_MIRROR") or corpus.url).rstrip("/")
    if not web.is_address(base):
        raise UsageError(f"mirror {base!r} is no address; expected the start of one, such as https://example.org/ptb")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"{folder}: cannot make this folder ({problem.strerror}); choose another --to") from None
    return [_fetch_file(f"{base}/{file.name}", file, folder / file.name, report) for file in corpus.files]


def _fetch_file(url: str, file: RemoteFile, target: Path, report: Report | None) -> Path:
    report = report or (lambda _file, _bytes: None)
    if os.path.isfile(target) and file_hash(target) == file.sha256:
        report(file, file.size)
        return target
    if not target.is_symlink():  # which the new file replaces
        _is_regular(target)
    part = target.with_name(f"{target.name}.part")
    try:
        with _own(part) as out:
            _download(url, file, out, part, report)
            found = file_hash(part)
            with _local(part):
                if found == file.sha256:
                    os.replace(part, target)
                    return target
                part.unlink()
    except urllib.error.HTTPError as problem:
        reason = " ".join(str(problem.reason).split())
        raise DataError(f"{url}: the server answers {problem.code} {reason}; try later, or another --mirror") from None
    except (OSError, http.client.HTTPException, EOFError, ValueError) as problem:  # of the network; ValueError: a name
        reason = " ".join(str(getattr(problem, "reason", None) or problem).split()) or type(problem).__name__
        raise DataError(
            f"{url}: the download broke off ({reason}); run the same command again, it is resumed"
        ) from None
    raise DataError(f"{url}: SHA-256 is {found}, expected {file.sha256}; thrown away: try again, or another --mirror")


@contextmanager
def _local(path: Path) -> Iterator[None]:
    """Within the block a file of our own is worked on: what goes wrong is not the network's fault."""
    try:
        yield
    except OSError as problem:
        raise DataError(f"{path}: cannot write it ({problem.strerror}); make room, or choose another --to") from None


def _is_regular(path: Path) -> bool:
    """Whether a file is there; a folder, a device or a link, which leads elsewhere, is an error."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise DataError(f"{path}: cannot look at it ({problem.strerror}); choose another --to") from None
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
        raise DataError(f"{path}: {kind}, where a file is to be written; remove it, or choose another --to")
    return True


@contextmanager
def _own(part: Path) -> Iterator[IO[bytes]]:
    """Open a part file to append, for this process alone.

    The lock is the kernel's and ends with the process. Between opening and locking another process may have finished
    the file and given it its name: then the file that is locked is no longer the one of this name, and is not touched.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        _is_regular(part)
        with _local(part):
            out = os.fdopen(os.open(part, flags, 0o666), "ab", buffering=0)
        with out:
            try:
                if fcntl is not None:
                    fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(f"{part}: another download writes it; wait until it is done") from None
            except OSError:
                pass  # a file system that has no locks
            if not _is_regular(part) or not os.path.samestat(part.stat(), os.fstat(out.fileno())):
                continue
            try:
                yield out
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()  # nothing came: leave no trace
            return


def _download(url: str, file: RemoteFile, out: IO[bytes], part: Path, report: Report) -> None:
    """Append what is missing to the part file; start anew where the server cannot resume."""
    here = os.fstat(out.fileno()).st_size
    if here == file.size:
        return
    if here > file.size:
        out.truncate(here := 0)
    while True:
        try:
            answer = web.ask(url, here)
        except urllib.error.HTTPError as problem:
            if problem.code != 416 or not here:
                raise
            out.truncate(here := 0)  # longer than what the server has, so of something else
            continue
        with answer:
            if here and not _goes_on(answer, here):
                out.truncate(here := 0)
                if answer.status == 206:
                    continue  # another piece than was asked for
            _check_answer(url, answer, here)
            _append(answer, file, out, part, here, report)
            return


def _goes_on(answer: Any, here: int) -> bool:
    """Whether an answer is the rest of what is here; where it does not say which piece it is, the hash will tell."""
    where = answer.headers.get("Content-Range")
    return answer.status == 206 and (where is None or where.replace(" ", "").lower().startswith(f"bytes{here}-"))


def _check_answer(url: str, answer: Any, here: int) -> None:
    if answer.status != (206 if here else 200):
        raise DataError(f"{url}: the server answers {answer.status}, not with the file; try another --mirror")
    if (packed := answer.headers.get("Content-Encoding", "identity").strip().lower()) not in ("identity", ""):
        raise DataError(f"{url}: the server sends it packed ({packed}), which was not asked for; try another --mirror")


def _append(answer: Any, file: RemoteFile, out: IO[bytes], part: Path, here: int, report: Report) -> None:
    since, then = time.monotonic(), here
    while chunk := answer.read1(min(_CHUNK, file.size + 1 - here)):
        with _local(part):
            rest = memoryview(chunk)
            while rest:
                rest = rest[out.write(rest) :]
        here += len(chunk)
        report(file, here)
        if here > file.size:
            return  # more than was announced: the hash will say so
        if (passed := time.monotonic() - since) > web.PATIENCE_S:
            if here - then < _SLOWEST * passed:
                raise TimeoutError(f"{here - then:,} bytes came in {passed:.0f} seconds")
            since, then = time.monotonic(), here
    if here < file.size:
        raise EOFError(f"{here:,} of {file.size:,} bytes came")
