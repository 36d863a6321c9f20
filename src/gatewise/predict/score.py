"""Scoring of files with a runtime model: a folder with a Parquet file for each fragment, which can be resumed."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewise.artifact.atomic import part_of, write_atomically, written_atomically
from gatewise.artifact.lock import HOLDER, LOCK, locked
from gatewise.errors import DataError, InputError, RunError, UsageError
from gatewise.extras import import_extra, installed_version
from gatewise.files import LARGEST_PART, file_hash
from gatewise.predict.fragments import Source, find_files, open_source
from gatewise.reading import read_json
from gatewise.runtime.run_reader import RunReader
from gatewise.runtime.scored_rows import BadRow, arrow
from gatewise.runtime.scoring import Scorer
from gatewise.wording import option

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "_gatewise.json"
"""The file of the folder that says which model and which files its scores are of."""
KEY = b"gatewise"
"""The metadata of a fragment: the hash of the manifest and its own name."""


@dataclass(frozen=True)
class Scored:
    """What was done.

    Attributes:
        rows: the rows scored.
        nulls: how many of them had nothing to score.
        fragments: the fragments written.
        kept: the fragments that were there already.
    """

    rows: int
    nulls: int
    fragments: int
    kept: int


def score(
    run: str | Path,
    files: Sequence[str | Path],
    out: str | Path,
    *,
    column: str | None = None,
    weights: str | None = None,
    prefix: str = "",
    note: Callable[[str], object] = lambda line: None,
) -> Scored:
    """Add what a model says to each row of files, see ``Scorer``, and write the rows to a folder.

    A file is read in fragments, a row group of Parquet or at most 16,384 rows of text. Fragment k of file n becomes
    ``n-k.parquet``, complete or absent, so that files in the order of their names have the rows in order. All files are
    read once before the first is scored. If the folder has fragments of the same model and files, they are kept.

    Args:
        run: a run folder or a model file.
        files: tables (``.parquet``, ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``), texts with one text per line
            (``.txt``), whose columns are ``line`` and ``text``, or folders of these.
        out: the folder, which is created.
        column: the column that the model reads, see ``Scorer``.
        weights: of a run folder, what the weights are stored as.
        prefix: the beginning of the names of all columns added.
        note: called with a line for each thing detected that is worth telling.

    Raises:
        UsageError: the folder has other content or other scores, or is in use.
        DataError: a file is invalid, lacks the column, or has a row that cannot be read (with its line or number).
        RunError: the run or the model file is missing or invalid.
        NotFinite: an output is not finite.
    """
    folder, scorer = Path(out).expanduser(), Scorer(run, column, weights=weights, prefix=prefix)
    _check_out(folder)
    model, names = _identity(Path(run).expanduser()), scorer.names
    sources = [open_source(path) for path in find_files([Path(file).expanduser() for file in files])]
    columns = list[str]()
    for source in sources:
        for line in getattr(source, "notes", []):
            note(line)
        try:
            columns.append(scorer.check(source.schema))
        except InputError as problem:
            raise DataError(f"{source.path}: {problem}") from None
    if not any(source.rows for source in sources):
        raise DataError(f"{sources[0].path}: no rows; expected at least one")
    manifest = {
        "format": 1,
        "gatewise": installed_version(),
        "model": model,
        "weights": weights or "fp32" if os.path.isdir(scorer.path) else "of the file",
        "columns": names,
        "files": [
            {"name": source.path.name, "sha256": source.sha256, "column": column, "fragments": source.fragments}
            for source, column in zip(sources, columns, strict=True)
        ],
    }
    with _claimed(folder, manifest):
        return _write(folder, manifest, scorer, sources)


def _write(folder: Path, manifest: dict[str, Any], scorer: Scorer, sources: Sequence[Source]) -> Scored:
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    rows = nulls = fragments = kept = 0
    for number, source in enumerate(sources):
        for fragment in range(source.fragments):
            path = folder / f"{number:06d}-{fragment:06d}.parquet"
            seal = f"{digest} {path.name}"
            if _is_finished(path, seal):
                kept += 1
                continue
            some, empty = _write_fragment(path, seal, scorer, source, fragment)
            rows, nulls, fragments = rows + some, nulls + empty, fragments + 1
    write_atomically(folder / MANIFEST, _as_json(manifest | {"finished": True}))
    return Scored(rows, nulls, fragments, kept)


def _write_fragment(path: Path, seal: str, scorer: Scorer, source: Source, fragment: int) -> tuple[int, int]:
    """Write a fragment; return how many rows it has, and how many of them have nulls."""
    parquet = import_extra("pyarrow.parquet", "pyarrow", "writing a Parquet file", "scoring")
    schema, rows, nulls = scorer.schema(source.schema), 0, 0
    schema = schema.with_metadata({**(schema.metadata or {}), KEY: seal})
    source.check_unchanged()
    with written_atomically(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for batch, places in source.read(fragment):
            try:
                scored = scorer.batch(batch)
            except BadRow as problem:
                raise DataError(f"{source.path}:{places[problem.row]}: {problem.reason}") from None
            writer.write_batch(scored.replace_schema_metadata(schema.metadata))
            rows, nulls = rows + len(scored), nulls + scored[scorer.names[0]].null_count
        source.check_unchanged()
    return rows, nulls


def _is_finished(path: Path, seal: str) -> bool:
    """Return whether a fragment is there, complete, and of the same model and file."""
    parquet = import_extra("pyarrow.parquet", "pyarrow", "reading a Parquet file", "scoring")
    try:
        found: pa.Schema = parquet.read_schema(path)
    except (OSError, arrow().ArrowException):  # none, or damaged
        return False
    return (found.metadata or {}).get(KEY) == seal.encode()


def _identity(path: Path) -> str:
    """Return a hash of all that a run folder or a model file says about the model.

    Raises:
        RunError: it is missing, or a file cannot be read.
    """
    if path.is_file():
        return file_hash(path, "a model file", RunError)
    run = RunReader.existing(path)
    parts = [part for part in (run.config_file, run.weights_file, *run.parts) if part.exists()]
    lines = [f"{file_hash(part, 'the file as written by training', RunError)} {part.name}" for part in parts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _check_out(folder: Path) -> None:
    """Check, without writing anything, that a folder is absent, empty, or has scores.

    Raises:
        UsageError: it is a file, has other content, or cannot be read.
    """
    other = f"choose another {option('out')}"
    try:
        names = {name for name in os.listdir(folder) if part_of(name) not in (MANIFEST, HOLDER)} - {LOCK, HOLDER}
    except FileNotFoundError:
        return
    except OSError as problem:
        raise UsageError(f"{folder}: {problem.strerror}; expected a new or an empty folder, {other}") from None
    if names and MANIFEST not in names:
        raise UsageError(f"{folder} is not empty and has no {MANIFEST}; expected a new or an empty folder, {other}")


@contextmanager
def _claimed(folder: Path, manifest: dict[str, Any]) -> Iterator[None]:
    """Create a folder for the scores that a manifest describes, or take the one that is there, and lock it.

    Raises:
        UsageError: it has other scores, is in use, or cannot be created.
    """
    other = f"delete it, or choose another {option('out')}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"{folder}: cannot create this folder ({problem.strerror}); {other}") from None
    with locked(folder, "scoring") as alone:
        _check_out(folder)
        path = folder / MANIFEST
        if path.exists():
            found = read_json(path, LARGEST_PART, "the file as gatewise score wrote it: delete the folder", RunError)
            different = _difference(found, manifest)
            if different:
                raise UsageError(f"{folder} has scores {different}; {other}")
        if alone:
            for name in os.listdir(folder):
                if part_of(name) is not None:  # left by a process that was killed
                    (folder / name).unlink(missing_ok=True)
        write_atomically(path, _as_json(manifest | {"finished": False}))
        yield


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    """Return how the scores of a manifest differ from those wanted; nothing if they do not."""
    if not isinstance(found, dict):
        return "of an unknown kind"
    if (found.get("format"), found.get("gatewise")) != (wanted["format"], wanted["gatewise"]):
        return f"of another version of Gatewise ({found.get('gatewise')!s:.40})"
    for key, what in (("model", "of another model"), ("weights", "of other weights"), ("columns", "of other columns")):
        if found.get(key) != wanted[key]:
            return f"{what} ({found.get(key)!s:.40}, now {wanted[key]!s:.40})"
    return "" if found.get("files") == wanted["files"] else "of other files, or of these before they were changed"


def _as_json(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
