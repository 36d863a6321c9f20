"""Downloading public corpora: with progress, resumable, verified by SHA-256."""

import errno
import http.client
import os
import socket
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
from gatewise.wording import option

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be replaced anyway
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 16
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
_SLOWEST = 1024
"""Bytes per second, averaged over ``web.PATIENCE_S``, below which a download counts as interrupted."""

Report = Callable[[RemoteFile, int], None]
"""Called with a file and the number of bytes downloaded so far."""


def corpus_named(name: str) -> RemoteCorpus:
    """Return a corpus of the catalog.

    Raises:
        UsageError: there is no corpus of this name.
    """
    if name not in CORPORA:
        raise UsageError(f"unknown corpus {name!r}; expected one of {', '.join(CORPORA)}")
    return CORPORA[name]


def fetch(name: str, to: str | Path, *, mirror: str | None = None, report: Report | None = None) -> list[Path]:
    """Download a public corpus; files that already exist and are intact are kept.

    Args:
        name: the corpus, such as ``ptb``.
        to: the folder to download into.
        mirror: base URL of another copy of the same files.
        report: called with the progress of each file.

    Returns:
        The paths of the files.

    Raises:
        UsageError: there is no corpus of this name.
        DataError: the download failed or the content is wrong; a partial download is kept and resumed next time.
    """
    corpus, folder = corpus_named(name), Path(to).expanduser()
    base = (mirror or os.environ.get("GATEWISE_MIRROR") or corpus.url).rstrip("/")
    if not web.is_address(base):
        raise UsageError(f"mirror {base!r} is not a URL; expected a base URL such as https://example.org/ptb")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(
            f"{folder}: cannot create this folder ({problem.strerror}); choose another {option('to')}"
        ) from None
    try:
        return [_fetch_file(f"{base}/{file.name}", file, folder / file.name, report) for file in corpus.files]
    except _NoConnection as problem:
        raise DataError(
            f"{problem}; connect to a network, give {option('mirror', 'URL')} of a copy, put the files into {folder} "
            f"yourself, or go without: {corpus.without}"
        ) from None


class _NoConnection(DataError):
    """The server cannot be reached at all."""


def _fetch_file(url: str, file: RemoteFile, target: Path, report: Report | None) -> Path:
    report = report or (lambda _file, _bytes: None)
    if os.path.isfile(target) and file_hash(target) == file.sha256:
        report(file, file.size)
        return target
    if not target.is_symlink():  # a link is replaced by the new file
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
        raise DataError(
            f"{url}: the server returned {problem.code} {reason}; try later, or use another {option('mirror')}"
        ) from None
    except (OSError, http.client.HTTPException, EOFError, ValueError) as problem:  # ValueError: an invalid host name
        cause = getattr(problem, "reason", None) or problem
        reason = " ".join(str(cause).split()) or type(problem).__name__
        if isinstance(cause, socket.gaierror | ConnectionRefusedError) or getattr(cause, "errno", 0) in _UNREACHABLE:
            raise _NoConnection(f"{url}: no connection ({reason})") from None
        raise DataError(f"{url}: download interrupted ({reason}); run the same command again to resume it") from None
    raise DataError(
        f"{url}: SHA-256 is {found}, expected {file.sha256}; file discarded, try again or use another "
        f"{option('mirror')}"
    )


@contextmanager
def _local(path: Path) -> Iterator[None]:
    """Report an ``OSError`` within the block as a failure to write a local file, not as a network error."""
    try:
        yield
    except OSError as problem:
        raise DataError(
            f"{path}: cannot write it ({problem.strerror}); free disk space, or choose another {option('to')}"
        ) from None


def _is_regular(path: Path) -> bool:
    """Return whether a regular file exists at the path; raise an error for a folder, a device or a link."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise DataError(f"{path}: cannot access it ({problem.strerror}); choose another {option('to')}") from None
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
        raise DataError(
            f"{path}: {kind}, expected a regular file or nothing; remove it, or choose another {option('to')}"
        )
    return True


@contextmanager
def _own(part: Path) -> Iterator[IO[bytes]]:
    """Open a part file for appending, exclusively for this process.

    The kernel releases the lock when the process ends. Between opening and locking, another process may have completed
    the file and renamed it: in that case the locked file is no longer the one at this path, and is not touched.
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
                raise DataError(f"{part}: in use by another download; wait until it has finished") from None
            except OSError:
                pass  # a file system without locks
            if not _is_regular(part) or not os.path.samestat(part.stat(), os.fstat(out.fileno())):
                continue
            try:
                yield out
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()  # nothing was downloaded: leave no empty file
            return


def _download(url: str, file: RemoteFile, out: IO[bytes], part: Path, report: Report) -> None:
    """Append the missing bytes to the part file; start over if the server cannot resume."""
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
            out.truncate(here := 0)  # longer than the server's file, so not a part of it
            continue
        with answer:
            if here and not _goes_on(answer, here):
                out.truncate(here := 0)
                if answer.status == 206:
                    continue  # not the requested range
            _check_answer(url, answer, here)
            _append(answer, file, out, part, here, report)
            return


def _goes_on(answer: Any, here: int) -> bool:
    """Return whether a response continues the part file; without a range header, the hash decides in the end."""
    where = answer.headers.get("Content-Range")
    return answer.status == 206 and (where is None or where.replace(" ", "").lower().startswith(f"bytes{here}-"))


def _check_answer(url: str, answer: Any, here: int) -> None:
    if answer.status != (206 if here else 200):
        raise DataError(
            f"{url}: the server returned status {answer.status} instead of the file; try another {option('mirror')}"
        )
    if (packed := answer.headers.get("Content-Encoding", "identity").strip().lower()) not in ("identity", ""):
        raise DataError(f"{url}: unexpected content encoding {packed}; expected none, try another {option('mirror')}")


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
            return  # longer than expected: the hash check will fail
        if (passed := time.monotonic() - since) > web.PATIENCE_S:
            if here - then < _SLOWEST * passed:
                raise TimeoutError(f"only {here - then:,} bytes received in {passed:.0f} seconds")
            since, then = time.monotonic(), here
    if here < file.size:
        raise EOFError(f"{here:,} of {file.size:,} bytes received")
