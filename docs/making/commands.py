"""Runs the commands that the guide shows, and keeps what they print.

A block that opens with ``sh run`` or ``python run`` is run as it stands, in a work folder that all pages share; the
blocks of later pages find there what those of earlier ones made. Two blocks run at a time, each after all earlier ones
that name a file or a run which it names. What is written to standard output goes below the block, and the pictures
under ``figures/`` go into the page. A block that fails stops the build.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from mkdocs.exceptions import PluginError
from mkdocs.plugins import get_plugin_logger

log = get_plugin_logger("guide")

RUN = re.compile(
    r"^```(sh|python) run\n(.*?)^```\n(?:\n```text output\n.*?^```\n)?",  # what it printed, as the repository shows it
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"(?:runs|data)/[\w-]+|[\w-]+\.(?:csv|json|npz|png|svg|toml|txt)\b")
DONE = "outputs.json"
LIMIT = 600
"""Seconds after which a block is given up."""


class Block(NamedTuple):
    """A piece of a page that is run."""

    language: str
    text: str

    @property
    def key(self) -> str:
        """What the block is known by in both languages' pages: its text without the remarks."""
        return self.language + "\n" + re.sub(r"\s+#.*|^#.*\n", "", self.text, flags=re.MULTILINE)

    def awaits(self, earlier: "Block") -> bool:
        """Whether both name a file."""
        return not set(FILE.findall(self.text)).isdisjoint(FILE.findall(earlier.text))


def blocks(page: str) -> list[Block]:
    """Return what a page runs."""
    return [Block(*found) for found in RUN.findall(page)]


def source_hash(*roots: Path) -> str:
    """Return a hash of all files under the folders, names and bytes."""
    digest = hashlib.sha256()
    for root in roots:
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def run_all(pages: Iterable[str], work: Path, source: Path) -> dict[str, str]:
    """Run the blocks of all pages, unless the work folder holds what they gave with the same source.

    Args:
        pages: the text of each, in the reader's order.
        work: the folder to run in; emptied where anything has changed.
        source: the code that the commands are of.

    Returns:
        What each block printed, by its key.

    Raises:
        PluginError: a block failed.
    """
    todo = [block for page in pages for block in blocks(page)]
    state = hashlib.sha256("\n".join([source_hash(source), *(block.key for block in todo)]).encode()).hexdigest()
    done = work / DONE
    if done.exists() and (kept := json.loads(done.read_text(encoding="utf-8")))["state"] == state:
        log.info("the commands of the guide were run before, with this code")
        outputs: dict[str, str] = kept["outputs"]
        return outputs
    shutil.rmtree(work, ignore_errors=True)
    (work / "figures").mkdir(parents=True)
    outputs = run_in_pairs(todo, work)
    done.write_text(json.dumps({"state": state, "outputs": outputs}), encoding="utf-8")
    return outputs


def run_in_pairs(todo: list[Block], work: Path) -> dict[str, str]:
    """Run blocks two at a time, each after all earlier ones that it awaits; return what each printed, by its key."""
    outputs, waiting, running = dict[str, str](), list(range(len(todo))), dict[int, Future[str]]()
    with ThreadPoolExecutor(2) as pool:
        while waiting or running:
            for k in list(waiting):
                before = [todo[i] for i in (*running, *waiting) if i < k]
                if len(running) < 2 and not any(map(todo[k].awaits, before)):
                    waiting.remove(k)
                    running[k] = pool.submit(run, todo[k], work)
            wait(running.values(), return_when=FIRST_COMPLETED)
            for k in [k for k, future in running.items() if future.done()]:
                outputs[todo[k].key] = running.pop(k).result()
    return outputs


def run(block: Block, work: Path) -> str:
    """Run one block and return what it printed on standard output."""
    log.info("running: %s", " ; ".join(block.text.strip().splitlines()))
    command = ["bash", "-e", "-c", block.text] if block.language == "sh" else [sys.executable, "-c", block.text]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "MPLBACKEND": "Agg"}
    environment.setdefault("OMP_NUM_THREADS", "1")  # small models; and one thread gives the same figures everywhere
    done = subprocess.run(
        command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
    )
    if done.returncode:
        raise PluginError(
            f"a command of the guide ended with status {done.returncode}:\n{block.text}\n{done.stderr[-2000:]}"
        )
    return done.stdout.replace(f"{work.resolve()}/", "")  # no page names a folder of the machine that made it
