"""Lays out the folder that MkDocs reads: each page with its commands run, its numbers filled in, its links in order."""

import json
import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError

from making import commands, numbers
from making.settings import settings_page

LINK = re.compile(r"(!?\[[^\]]*\])\((?!https?://|#)([^)#\s]+)(#[^)]*)?\)")
OTHER_LANGUAGE = re.compile(r"\[(?:中文|English)\]\([^)]*\.md\)(?: · )?\n*")
ASSETS = (".png", ".svg", ".css")
SIDECAR = ("command", "data_hash", "date")


def lay_out(repository: Path, target: Path, work: Path) -> None:
    """Write all pages and pictures.

    Args:
        repository: its root; pages are under ``docs``.
        target: where MkDocs will read; rewritten file by file, and only where something has changed.
        work: where the guide's commands run.

    Raises:
        PluginError: a command failed, or a number, picture or link target is missing.
    """
    docs = repository / "docs"
    texts = {file.relative_to(docs).as_posix(): file.read_text(encoding="utf-8") for file in sorted(docs.rglob("*.md"))}
    guide = [texts[name] for name in texts if name.startswith("guide/") and not name.endswith(".zh.md")]
    outputs = commands.run_all(guide, work, repository / "src" / "gatewise")
    folders = numbers.Folders(repository / "benchmarks" / "results", work, docs)
    made: dict[str, bytes] = {}
    for picture in docs.glob("figures/*"):
        if picture.suffix in ASSETS:
            check_sidecar(picture)
    for asset in [file for file in docs.rglob("*") if file.suffix in ASSETS]:
        made[asset.relative_to(docs).as_posix()] = asset.read_bytes()
    for picture in (work / "figures").glob("*"):
        made[f"guide/figures/{picture.name}"] = picture.read_bytes()
    sources: set[str] = set()
    for name, text in texts.items():
        page = numbers.fill(show_outputs(text, outputs, name), folders)
        made[name] = relink(page, f"docs/{name}", sources, repository).encode()
    made["reference/settings.md"] = settings_page().encode()
    for path in sorted(sources):
        made[source_page(path)] = source_text(repository, path).encode()
    write(target, made)


def refresh(repository: Path, work: Path) -> None:
    """Write into the guide in the repository what its commands print, draw and measure today."""
    docs = repository / "docs"
    folders = numbers.Folders(repository / "benchmarks" / "results", work, docs)
    files = sorted((docs / "guide").glob("*.md"))
    english = [file.read_text(encoding="utf-8") for file in files if not file.name.endswith(".zh.md")]
    outputs = commands.run_all(english, work, repository / "src" / "gatewise")
    for file in files:
        page = show_outputs(file.read_text(encoding="utf-8"), outputs, file.name, keep=True)
        file.write_text(numbers.fill(page, folders, keep=True), encoding="utf-8")
    for picture in (work / "figures").glob("*.png"):
        (docs / "guide" / "figures").mkdir(exist_ok=True)
        (docs / "guide" / "figures" / picture.name).write_bytes(picture.read_bytes())


def check_sidecar(picture: Path) -> None:
    """Want the command, data hash and date of a committed picture beside it."""
    sidecar = picture.with_suffix(".json")
    if not sidecar.is_file():
        raise PluginError(f"{picture} has no {sidecar.name} beside it; expected one with {', '.join(SIDECAR)}")
    if missing := [key for key in SIDECAR if not json.loads(sidecar.read_text(encoding="utf-8")).get(key)]:
        raise PluginError(f"{sidecar} lacks {', '.join(missing)}")


def show_outputs(page: str, outputs: dict[str, str], name: str, *, keep: bool = False) -> str:
    """Put what each command printed below it, for MkDocs, or if kept as the pages in the repository have it."""
    ran, printed_as = (" run", "text output") if keep else ("", "{.text .output}")

    def with_output(found: re.Match[str]) -> str:
        block = commands.Block(*found.groups())
        if block.key not in outputs:
            raise PluginError(f"{name}: the English guide does not run this block:\n{block.text}")
        shown, printed = f"```{block.language}{ran}\n{block.text}```\n", outputs[block.key].rstrip()
        return shown + (f"\n```{printed_as}\n{printed}\n```\n" if printed else "")

    return commands.RUN.sub(with_output, page)


def source_page(path: str) -> str:
    """Return the name of the page that shows a file of the repository."""
    return "source/" + re.sub(r"\W", "-", path) + ".md"


def source_text(repository: Path, path: str) -> str:
    """Return a page with a file of the repository, or with links to the files of a folder."""
    if (repository / path).is_dir():
        files = sorted(file.name for file in (repository / path).iterdir() if file.suffix == ".py")
        body = "".join(f"- [`{name}`]({posixpath.basename(source_page(f'{path}/{name}'))})\n" for name in files)
    else:
        kind = {".py": "python", ".toml": "toml", ".json": "json"}.get(Path(path).suffix, "text")
        body = f"`````{kind}\n{(repository / path).read_text(encoding='utf-8').rstrip()}\n`````\n"
    return f"---\nsearch:\n  exclude: true\n---\n\n# `{path}`\n\n{body}"


def relink(page: str, path: str, sources: set[str], repository: Path) -> str:
    """Lead links out of ``docs`` to pages that show the file, and those between languages to their own."""

    def leading(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2].rstrip("/"), found[3] or ""
        full = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if full.startswith("docs/"):
            return f"{label}({target.replace('.zh.md', '.md')}{anchor})"
        if not (repository / full).exists():
            raise PluginError(f"{path}: the link to {target} leads nowhere")
        sources.add(full)
        if (repository / full).is_dir():
            sources.update(f"{full}/{file.name}" for file in (repository / full).glob("*.py"))
        here = posixpath.dirname(posixpath.relpath(path, "docs")) or "."
        return f"{label}({posixpath.relpath(source_page(full), here)})"

    return LINK.sub(leading, OTHER_LANGUAGE.sub("", page))


def write(target: Path, made: dict[str, bytes]) -> None:
    """Make the folder hold just these files, touching only those that differ."""
    for old in target.rglob("*"):
        if old.is_file() and old.relative_to(target).as_posix() not in made:
            old.unlink()
    for name, content in made.items():
        file = target / name
        if not (file.is_file() and file.read_bytes() == content):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
