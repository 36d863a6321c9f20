"""What the fuzz command damages: every file of a finished run, of an interrupted one, of its data, inputs and cache."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.robustness.crash_points import CrashPoints
from tests.robustness.subjects import SUBJECTS, Subject
from tests.robustness.warm import Job, Script

KINDS = ("run", "resume", "data", "input", "cache", "recipe", "resigned")
_PARTS = (
    "model.safetensors",
    "config.toml",
    "tokenizer.json",
    "characters.json",
    "labels.json",
    "scaling.json",
    "intervals.json",
)


@dataclass(frozen=True)
class Target:
    """One file and the command that reads it.

    Attributes:
        subject: the task.
        kind: what the file is: of a finished ``run``, of one to ``resume``, of the ``data``, a further ``input``, of
            the token ``cache``, or a ``recipe``; ``resigned`` is a file of a run, whole, with wrong things inside.
        command: a name from ``words``.
        file: its path in the folder of the case.
    """

    subject: str
    kind: str
    command: str
    file: str

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.kind}/{self.command}/{self.file.replace('/', '|')}"


@dataclass(frozen=True)
class World:
    """The undamaged runs and data of every task, from which each case takes copies."""

    root: Path
    subjects: tuple[str, ...]

    def folder(self, subject: str, seed: int = 1) -> Path:
        return self.root / f"{subject}-{seed}"

    def scripts(self) -> Iterator[Script[None]]:
        """Return what makes it."""
        for subject in self.subjects:
            for seed in (1, 2):
                yield self._make(SUBJECTS[subject], self.folder(subject, seed), seed)

    def _make(self, subject: Subject, folder: Path, seed: int) -> Script[None]:
        folder.mkdir(parents=True)
        for form, data in subject.data.items():
            (folder / form).mkdir()
            data.write(folder / form, seed)
        for name, write in subject.inputs.values():
            write(folder / name)
        # The other run of the task: other data, and another size, so that no file fits where it does not belong.
        size = {} if seed == 1 else {"model__hidden_size": 6, "training__seed": 7}
        for out in ("run", "cut") if seed == 1 else ("run",):
            words = [*training_words(subject, folder), "--out", out]
            words += subject.options(training__checkpoint_every=0, **size)
            log = folder / "moments"
            crash = CrashPoints(folder / out, log=log) if out == "run" else CrashPoints(folder / out, _middle(log))
            ended = yield Job(f"{folder.name} {out}", folder, words, enter=partial(_enter, folder, crash))
            if ended.status != (0 if out == "run" else -signal.SIGKILL):
                raise RuntimeError(f"{folder.name}: training ended with {ended.status}: {ended.err}")

    def targets(self) -> list[Target]:
        """List every target, in an order that is always the same."""
        found = []
        for name in self.subjects:
            subject, folder = SUBJECTS[name], self.folder(name)
            add = partial(Target, name)
            for path in sorted(path.name for path in (folder / "run").iterdir() if path.is_file()):
                commands = ["evaluate"]
                if path in _PARTS:
                    commands += subject.use
                if path == "metrics.jsonl":
                    commands += ["finished", "curves"]
                found += [add("run", command, f"run/{path}") for command in commands]
            cut = [path.relative_to(folder / "cut") for path in (folder / "cut").rglob("*") if path.is_file()]
            for path in sorted(map(str, cut)):
                found += [add("resume", "resume", f"run/{path}")] * (4 if path.startswith("checkpoints") else 1)
                if path.startswith("checkpoints"):
                    found.append(add("resigned", "resume", f"run/{path}"))
            found += [add("resigned", command, "run/model.safetensors") for command in ("evaluate", *subject.use)]
            for form in subject.data:
                for path in sorted(path.name for path in (folder / form).iterdir()):
                    found += [add("data", f"{verb}-{form}", f"data/{path}") for verb in ("evaluate", "train")]
            found += [add("input", command, file) for command, (file, _) in subject.inputs.items()]
            found.append(add("recipe", "recipe", "recipe.toml"))
            if (folder / "cache").is_dir():
                files = sorted(
                    str(path.relative_to(folder)) for path in (folder / "cache").rglob("*") if path.is_file()
                )
                found += [add("cache", "cached", file) for file in files]
        return found

    def lay_out(self, target: Target, folder: Path) -> None:
        """Fill the folder of a case with copies."""
        own, subject = self.folder(target.subject), SUBJECTS[target.subject]
        if target.command != "recipe" and not target.command.startswith("train-"):
            shutil.copytree(own / ("cut" if target.command == "resume" else "run"), folder / "run")
        if target.kind == "data":
            shutil.copytree(own / target.command.partition("-")[2], folder / "data")
        if target.command in subject.inputs:
            file, _ = subject.inputs[target.command]
            shutil.copy(own / file, folder / file)
        if target.kind == "cache":
            shutil.copytree(own / "cache", folder / "cache")
        if target.kind == "recipe":
            shutil.copy(own / "run/config.toml", folder / "recipe.toml")

    def other(self, target: Target) -> Path:
        """Return the same file of the other run of this task, where it has one."""
        folder = self.folder(target.subject, 2)
        if target.kind == "data":
            return folder / target.command.partition("-")[2] / Path(target.file).name
        if target.file.startswith("run/checkpoints/"):
            return max((folder / "run/checkpoints").glob("*.safetensors"))
        return folder / target.file

    def words(self, target: Target) -> list[str]:
        """Return the command line of a case, run in its folder."""
        subject, folder, command = SUBJECTS[target.subject], self.folder(target.subject), target.command
        verb, _, form = command.partition("-")
        if target.kind == "data":
            place = str(Path("data") / subject.data[form].path)
            if verb == "evaluate":
                return ["evaluate", "run", "--json", "--data", place]
            words = ["train", subject.recipe, "--data", place, "--out", "new"]
            return words + subject.options(training__epochs=1, **_steps(subject))
        if command == "recipe":
            return ["train", "recipe.toml", *_place(subject, folder), "--out", "new", *_few_steps(subject)]
        if command == "cached":
            return ["evaluate", "run", "--json"]
        if command == "evaluate":
            return ["evaluate", "run", "--json"]
        if command in ("resume", "finished"):
            return ["train", "--out", "run", "--resume"]
        if command == "curves":
            return ["inspect", "training", "run", "--out", "curves.svg", "--data-out", "curves.csv"]
        file = subject.inputs.get(command, ("", None))[0]
        return [file if word == "{input}" else word for word in subject.use[command]]

    def enter(self, folder: Path) -> Callable[[], None]:
        """Return what a child does before its command."""
        return partial(_enter, folder, None)


def _middle(log: Path) -> int:
    """Return the moment after the checkpoint in the middle of a run."""
    lines = log.read_text().splitlines()
    saved = [k for k, line in enumerate(lines, 1) if line.startswith("os.rename checkpoints/")]
    return saved[len(saved) // 2] + 1


def _enter(folder: Path, crash: CrashPoints | None) -> None:
    os.environ["GATEWISE_CACHE"] = str(folder / "cache")
    if crash:
        crash.start()


def _steps(subject: Subject) -> dict[str, int]:
    return {"training__max_steps": 3} if "training.max_steps" in subject.overrides else {}


def _few_steps(subject: Subject) -> list[str]:
    """Return options that keep a damaged recipe from training for ages."""
    return ["--set", "training.epochs=1"] + (["--set", "training.max_steps=3"] if _steps(subject) else [])


def _place(subject: Subject, folder: Path) -> list[str]:
    form = next(iter(subject.data), "")
    return ["--data", str(folder / form / subject.data[form].path)] if form else []


def training_words(subject: Subject, folder: Path) -> list[str]:
    """Return the words that train a subject on its data below a folder, but for its options."""
    return ["train", subject.recipe, *_place(subject, folder)]
