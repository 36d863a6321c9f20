"""Damage files of every task, run the commands that read them, and say what became of it.

``python -m tests.robustness.fuzz --seed 1`` tries 10,000 cases; it exits with 1 where one crashes, hangs, ends in an
error that nobody foresaw or that is not one clear line, or gives another result without a word.
"""

import argparse
import fnmatch
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.robustness import warm
from tests.robustness.damage import InPlace
from tests.robustness.damage_formats import damages_of
from tests.robustness.subjects import SUBJECTS
from tests.robustness.warm import Job, Script


@dataclass(frozen=True)
class Case:
    """One target, one kind of damage, and a number that all chance in it comes from."""

    target: Any
    damage: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.target.name}/{self.damage}/{self.number}"


@dataclass
class Fuzz:
    """The undamaged world, what its commands find, and the counts."""

    world: Any
    root: Path
    jobs: int
    seconds: float
    keep: bool = False
    before: dict[tuple[str, str], Any] = field(default_factory=dict)
    layouts: dict[tuple[str, str], Path] = field(default_factory=dict)

    def make_world(self) -> None:
        """Train the undamaged runs."""
        for _ in warm.run_scripts(self.world.scripts(), self.jobs):
            pass

    def prepare(self, targets: list[Any]) -> None:
        """Run each command on undamaged files."""
        wanted = {(target.subject, target.command): target for target in targets}
        for _ in warm.run_scripts(map(self._undamaged, wanted.values()), self.jobs):
            pass

    def _undamaged(self, target: Any) -> Script[None]:
        from tests.robustness.verdicts import result_of

        key = target.subject, target.command
        folder, layout = (self.root / kind / target.subject / target.command for kind in ("done", "layouts"))
        for place in (folder, layout):
            place.mkdir(parents=True)
            self.world.lay_out(target, place)
        self.layouts[key] = layout
        ended = yield self._job(target, folder, lambda: None, f"undamaged {target.name}")
        if ended.status:
            raise RuntimeError(f"undamaged {target.name}: status {ended.status}: {ended.err}")
        self.before[key] = result_of(target.command, folder, ended)

    def _job(self, target: Any, folder: Path, damage: Callable[[], None], name: str) -> Job:
        words = self.world.words(target)
        return Job(name, folder, words, damage, self.world.enter(folder), self.seconds)

    def script(self, case: Case) -> Script[tuple[Case, Any]]:
        """Return what runs a case and judges it."""
        from tests.robustness.verdicts import judge

        target, folder = case.target, self.root / "cases" / f"{case.number:09d}"
        shutil.copytree(self.layouts[target.subject, target.command], folder)
        other = self.world.other(target)
        ended = yield self._job(target, folder, lambda: _damage(case, folder / target.file, other), case.name)
        before, layout = self.before[target.subject, target.command], self.layouts[target.subject, target.command]
        verdict = judge(target, case.damage, before, folder, layout, ended)
        if self.keep:
            print(f"in {folder}: gatewise {' '.join(self.world.words(target))}")
            print(f"status {ended.status} in {ended.seconds:.2f} s, at most {ended.peak >> 20} MiB")
            print(f"{ended.out}{ended.err}")
        else:
            shutil.rmtree(folder)
        return case, verdict


def kinds_of(target: Any, other: Path) -> tuple[dict[str, InPlace], dict[str, InPlace]]:
    """Return the kinds of damage of a target: its format's own, and all others.

    Args:
        target: what is damaged.
        other: the same file of another run, if there is one.
    """
    if target.kind == "resigned":
        from tests.robustness.resigned import resign

        return {"resigned": resign}, {}
    own, others = damages_of(target.file)
    return own, {**others, "another": lambda path, rng: shutil.copy(other, path)} if other.is_file() else others


def _damage(case: Case, path: Path, other: Path) -> None:
    own, others = kinds_of(case.target, other)
    {**own, **others}[case.damage](path, Random(case.name))


def draw_cases(world: Any, targets: list[Any], seed: int, count: int) -> Iterator[Case]:
    """Draw cases: the targets in turns, each time with other damage."""
    rng, order = Random(seed), list[Any]()
    for number in range(count):
        if not order:  # every kind of file comes once before one comes again
            met, shuffled = Counter[tuple[str, str]](), rng.sample(targets, len(targets))
            ranks = [met.update([(t.kind, _file(t))]) or met[t.kind, _file(t)] for t in shuffled]
            order = [t for _, _, t in sorted(zip(ranks, range(len(ranks)), shuffled, strict=True), reverse=True)]
        target = order.pop()
        own, others = kinds_of(target, world.other(target))
        chosen = own if own and (not others or rng.random() < 0.5) else others
        yield Case(target, rng.choice(sorted(chosen)), seed * 1_000_000 + number)


def main(words: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2, help="children at a time")
    parser.add_argument("--seconds", type=float, default=30, help="of a command, before it is called a hang")
    parser.add_argument("--only", default="*", help="targets whose name has this pattern: tagger/run, 'tagger/*/tag/*'")
    parser.add_argument("--replay", metavar="CASE", help="run one case again, show all of it and keep its folder")
    given = parser.parse_args(words)
    began = time.monotonic()
    warm.warm_up()
    from tests.robustness.targets import Target, World

    root = Path(tempfile.mkdtemp(prefix="gatewise-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        if given.replay:
            name, damage, number = given.replay.rsplit("/", 2)
            subject, kind, command, file = name.split("/")
            one = Target(subject, kind, command, file.replace("|", "/"))
            fuzz = Fuzz(World(root / "world", (subject,)), root, given.jobs, given.seconds, keep=True)
            fuzz.make_world()
            fuzz.prepare([one])
            _, verdict = next(warm.run_scripts([fuzz.script(Case(one, damage, int(number)))], 1))
            print(f"{verdict.kind}: {verdict.shown}")
            return int(not verdict.well)
        pattern = given.only.rstrip("/")
        subjects = tuple(name for name in SUBJECTS if fnmatch.fnmatch(name, pattern.partition("/")[0]))
        world = World(root / "world", subjects or parser.error(f"--only {given.only}: no such task"))
        fuzz = Fuzz(world, root, given.jobs, given.seconds)
        return _run(fuzz, pattern, given.seed, given.cases, began)
    finally:
        if not given.replay:
            shutil.rmtree(root)


def _run(fuzz: Fuzz, pattern: str, seed: int, count: int, began: float) -> int:
    fuzz.make_world()
    everything = fuzz.world.targets()
    targets = [t for t in everything if fnmatch.fnmatch(t.name, pattern) or fnmatch.fnmatch(t.name, f"{pattern}/*")]
    if not targets:
        raise SystemExit(
            f"--only {pattern}: no such target; there are {', '.join(sorted({t.name for t in everything}))}"
        )
    cases = list(draw_cases(fuzz.world, targets, seed, count))
    fuzz.prepare([case.target for case in cases])
    print(f"{len(set(targets))} files and commands; ready after {time.monotonic() - began:.1f} s", flush=True)
    counts, faults = Counter[tuple[str, ...]](), dict[tuple[str, ...], list[tuple[Case, Any]]]()
    done = 0
    for case, verdict in warm.run_scripts(map(fuzz.script, cases), fuzz.jobs):
        done += 1
        target = case.target
        for label, value in (
            ("task", target.subject),
            ("kind", target.kind),
            ("file", _file(target)),
            ("damage", case.damage),
        ):
            counts[label, value, verdict.kind] += 1
        counts["all", "all", verdict.kind] += 1
        if not verdict.well:
            alike = faults.setdefault((verdict.kind, target.kind, target.command, _file(target)), [])
            alike.append((case, verdict))
            if len(alike) == 1:
                print(f"{verdict.kind}: {case.name}", file=sys.stderr, flush=True)
        if sys.stderr.isatty() or done % 1000 == 0:
            print(f"\r{done} cases", end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    _report(counts, faults)
    number = sum(map(len, faults.values()))
    print(f"{done} cases in {time.monotonic() - began:.0f} s: {number} faults")
    return int(bool(number))


def _file(target: Any) -> str:
    name = Path(target.file).name
    return "checkpoint" if name.startswith("step-") else Path(name).suffix if target.kind == "cache" else name


def _report(counts: Counter[tuple[str, ...]], faults: dict[tuple[str, ...], list[tuple[Case, Any]]]) -> None:
    kinds = sorted({kind for *_, kind in counts})
    for label in ("all", "task", "kind", "file", "damage"):
        rows = sorted({value for name, value, _ in counts if name == label})
        width = max(map(len, [label, *rows]))
        print(f"\n{label:{width}}  " + "  ".join(f"{kind:>9}" for kind in kinds))
        for row in rows:
            print(f"{row:{width}}  " + "  ".join(f"{counts[label, row, kind] or '':>9}" for kind in kinds))
    for (kind, *where), alike in sorted(faults.items(), key=lambda item: -len(item[1])):
        print(f"\n{len(alike)} x {kind}: {' '.join(where)}")
        seen = set[str]()
        for case, verdict in alike:
            if verdict.shown[:60] not in seen and len(seen) < 3:
                seen.add(verdict.shown[:60])
                print(f"  {verdict.shown}\n    python -m tests.robustness.fuzz --replay '{case.name}'")


if __name__ == "__main__":
    sys.exit(main())
