"""Runs the steps of a Dockerfile in a folder that stands for the image's root."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ELSEWHERE = re.compile(r"^(apt-get|useradd) ")
"""Commands that belong to the image's system: what they install is expected to be on this machine."""
OWN = ("/opt", "/source", "/state", "/models")
"""The folders at the image's root that stand in the folder instead."""


def steps(file: Path) -> list[tuple[str, str]]:
    """Return the instructions, each with its arguments."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", file.read_text(encoding="utf-8")))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


@dataclass
class Image:
    """What the steps have made.

    Attributes:
        context: the folder that COPY copies from.
        root: stands for /, of each stage in turn.
        environment: of the commands.
        config: the last stage's instructions that run nothing, by name.
        left: commands that were not run.
    """

    context: Path
    root: Path
    environment: dict[str, str]
    config: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    _folder: Path = Path("/")

    def here(self, text: str) -> str:
        """Return a text with the image's own folders where they are on this machine."""
        return re.sub(rf"(?<![\w.])({'|'.join(OWN)})\b", lambda found: f"{self.root}{found[1]}", text)

    def build(self, file: Path) -> None:
        """Run all steps."""
        stages: dict[str, Path] = {}
        for word, arguments in steps(file):
            if word == "FROM":
                if self.root.exists():  # programs of the stage before know where they were: they must be copied
                    before = self.root.with_name(f"stage-{len(stages)}")
                    stages = dict.fromkeys(stages, before)
                    self.root.rename(before)
                self.root.mkdir()
                self.config, self._folder = {}, self.root
                if " AS " in arguments:
                    stages[arguments.split(" AS ")[1]] = self.root
            elif word == "WORKDIR":
                self._folder = Path(self.here(arguments))
                self._folder.mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                self._copy(arguments, stages)
            elif word == "RUN":
                self._run(arguments)
            else:
                self.config[word] = arguments

    def words(self, name: str) -> list[str]:
        """Return the words of an instruction that has them as JSON."""
        return [self.here(word) for word in json.loads(self.config[name].rpartition("CMD ")[2])]

    def _copy(self, arguments: str, stages: dict[str, Path]) -> None:
        words = arguments.split()
        source = stages[words.pop(0).removeprefix("--from=")] if words[0].startswith("--from=") else self.context
        *names, target = words
        place = Path(self.here(target)) if target.startswith("/") else self._folder / target
        for name in names:
            copied = source / name.lstrip("/")
            if copied.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.so")
                shutil.copytree(
                    copied,
                    place,
                    symlinks=True,
                    dirs_exist_ok=True,
                    ignore=None if stages and source != self.context else ignored,
                )
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(copied, place)

    def _run(self, arguments: str) -> None:
        for command in arguments.split(" && "):
            if ELSEWHERE.match(command) or "/var/lib/apt" in command:
                self.left.append(command)
                continue
            done = subprocess.run(
                ["sh", "-c", self.here(re.sub(r"-o \w+ ", "", command))],  # there is no such user here
                cwd=self._folder,
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
