"""Public corpora: downloaded with progress, resumed where it was cut off, checked by SHA-256."""

import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from gatewise.data.corpora import CORPORA, RemoteCorpus, RemoteFile
from gatewise.data.token_cache import file_hash
from gatewise.errors import DataError, UsageError

_CHUNK = 1 << 16
_TIMEOUT_S = 60


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
    if not base.startswith(("http://", "https://")) or any(letter.isspace() for letter in base):
        raise UsageError(f"mirror {base!r} is no address; expected the start of one, such as https://example.org/ptb")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"{folder}: cannot make this folder ({problem.strerror}); choose another --to") from None
    return [_fetch_file(f"{base}/{file.name}", file, folder / file.name, report) for file in corpus.files]


def _fetch_file(url: str, file: RemoteFile, target: Path, report: Report | None) -> Path:
    report = report or (lambda _file, _bytes: None)
    if target.is_file() and file_hash(target) == file.sha256:
        report(file, file.size)
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        _download(url, file, part, report)
    except urllib.error.HTTPError as problem:
        raise DataError(
            f"{url}: the server answers {problem.code} {problem.reason}; try later, or another --mirror"
        ) from None
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
        EOFError,
        ssl.SSLError,
    ) as problem:
        reason = " ".join(str(getattr(problem, "reason", None) or problem).split()) or type(problem).__name__
        raise DataError(
            f"{url}: the download broke off ({reason}); run the same command again, it is resumed"
        ) from None
    found = file_hash(part)
    if found != file.sha256:
        part.unlink()
        raise DataError(
            f"{url}: SHA-256 is {found}, expected {file.sha256}; thrown away: try again, or another --mirror"
        )
    os.replace(part, target)
    return target


def _download(url: str, file: RemoteFile, part: Path, report: Report) -> None:
    """Append what is missing to the part file; start anew where the server cannot resume."""
    here = part.stat().st_size if part.is_file() else 0
    if here >= file.size:
        if here == file.size:
            return
        part.unlink()
        here = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={here}-"} if here else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        if answer.status != 206:
            here = 0
        with part.open("ab" if here else "wb") as out:
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
                here += len(chunk)
                report(file, here)
                if here > file.size:
                    return  # more than was announced: the hash will say so
    if here < file.size:
        raise EOFError(f"{here:,} of {file.size:,} bytes came")
