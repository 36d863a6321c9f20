"""Kill training of every task wherever it touches the disk, and at random times; resumed, it must end with equal bits.

``python -m tests.robustness.kills --seed 1`` kills each run at each moment (``crash_points.py``), once as a kill and
once as a power cut that loses what was not flushed, then 300 runs at random times, by SIGKILL or by signals that ask to
stop. Some are killed again while they resume. It exits with 1 where a run cannot be resumed or ends otherwise than one
that was never disturbed.
"""

import argparse
import fnmatch
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.robustness import warm
from tests.robustness.crash_points import CrashPoints
from tests.robustness.same_end import differences
from tests.robustness.subjects import SUBJECTS
from tests.robustness.targets import training_words
from tests.robustness.warm import Job, Script

SAVES = {"each-step": 0, "each-epoch": 1000}
"""Seconds between checkpoints within an epoch."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Kill:
    """A kill.

    Attributes:
        subject: the task.
        saves: how often it saves, from ``SAVES``.
        how: ``kill`` or ``power-cut`` at a moment, or ``random``.
        number: of the moment; of a random one what its time, its signal and all else follow from.
    """

    subject: str
    saves: str
    how: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.saves}/{self.how}/{self.number}"


@dataclass(frozen=True)
class Whole:
    """A run that was never disturbed."""

    folder: Path
    moments: list[str]
    seconds: float
    out: str


class Kills:
    """The data and the undisturbed runs of every task, and what kills their like."""

    def __init__(self, root: Path, subjects: list[str], saves: list[str], seed: int) -> None:
        self.root, self.seed = root, seed
        self.wholes: dict[tuple[str, str], Whole] = {}
        self.pairs = [(subject, how_often) for subject in subjects for how_often in saves]
        for name in subjects:
            for form, data in SUBJECTS[name].data.items():
                (root / "data" / name / form).mkdir(parents=True)
                data.write(root / "data" / name / form, 1)

    def words(self, subject: str, saves: str) -> list[str]:
        """Return the command line of a run, without ``--resume``."""
        made = SUBJECTS[subject]
        options = made.options(training__checkpoint_every=SAVES[saves])
        return [*training_words(made, self.root / "data" / subject), "--out", "run", *options]

    def undisturbed(self, subject: str, saves: str) -> Script[None]:
        """Return what makes the run that all others must equal."""
        folder = self.root / "whole" / subject / saves
        log = folder.with_suffix(".moments")
        enter = partial(_enter, folder, CrashPoints(folder, log=log), None)
        ended = yield Job(f"{subject}/{saves}", folder, self.words(subject, saves), enter=enter)
        if ended.status:
            raise RuntimeError(f"{subject}/{saves}: undisturbed training ended with {ended.status}: {ended.err}")
        moments = log.read_text().splitlines()
        self.wholes[subject, saves] = Whole(folder, moments, ended.seconds, ended.out)

    def script(self, kill: Kill, keep: bool = False) -> Script[tuple[Kill, str, int]]:
        """Return what kills a run, resumes it, and says what is wrong with it, if anything, and how often it died."""
        whole, rng = self.wholes[kill.subject, kill.saves], Random(f"{self.seed} {kill.name}")
        folder = self.root / "cases" / kill.name
        words, fault, deaths = self.words(kill.subject, kill.saves), "", 0
        while True:
            enter, number = self._death(kill, whole, rng, folder, deaths)
            resumed = [*words, "--resume"] if deaths else words
            if deaths and (folder / "run/config.toml").exists() and rng.random() < 0.5:
                resumed = ["train", "--out", "run", "--resume"]
            ended = yield Job(kill.name, folder, resumed, enter=enter)
            if keep:
                print(f"gatewise {' '.join(resumed)}\nstatus {ended.status} in {ended.seconds:.2f} s\n{ended.err}")
            fault = _wrong_end(ended, number)
            if fault or not number:
                break
            deaths += 1
            if (folder / "run").exists():
                shutil.copytree(folder / "run", folder / f"died-{deaths}", dirs_exist_ok=True)
        if not fault and ended.out != whole.out:
            fault = f"it printed {ended.out.strip()[:100]!r}, undisturbed {whole.out.strip()[:100]!r}"
        fault = fault or "; ".join(differences(folder / "run", whole.folder / "run"))
        if not keep and not fault:
            shutil.rmtree(folder)
        return kill, fault, deaths

    def _death(
        self, kill: Kill, whole: Whole, rng: Random, folder: Path, deaths: int
    ) -> tuple[Callable[[], None], signal.Signals | None]:
        """Return what lets the next child die, and of what; nothing and None where it shall live."""
        if kill.how != "random" and not deaths:
            cut = Random(kill.name) if kill.how == "power-cut" else None
            return partial(_enter, folder, CrashPoints(folder, kill.number, cut), None), signal.SIGKILL
        if deaths and (deaths > 3 or rng.random() < 0.75):
            return partial(_enter, folder, None, None), None
        if deaths and rng.random() < 0.5:
            at = rng.randint(1, len(whole.moments))
            cut = rng.choice([None, Random(rng.random())]) if kill.how != "random" else None
            return partial(_enter, folder, CrashPoints(folder, at, cut), None), signal.SIGKILL
        number = rng.choice(SIGNALS)
        return partial(_enter, folder, None, (rng.uniform(0.001, whole.seconds), number)), number


def _enter(folder: Path, crash: CrashPoints | None, timer: tuple[float, signal.Signals] | None) -> None:
    """Set a child up to be killed at a moment, or by a signal that comes while it trains."""
    os.environ["GATEWISE_CACHE"] = str(folder / "cache")
    if crash:
        crash.start()
    if timer is None:
        return
    from gatewise.tasks import train as module

    delay, number = timer
    kept, ours = module.train, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, ours)

    def train(*arguments: Any, **options: Any) -> Any:
        # As soon as the command is at work: before that, no program can answer a signal.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
        if number == signal.SIGKILL:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends a process as abruptly
        else:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
        signal.setitimer(signal.ITIMER_REAL, delay)
        try:
            return kept(*arguments, **options)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    module.train = train


def _wrong_end(ended: warm.Ended, number: signal.Signals | None) -> str:
    """Say what is wrong with how a child ended that a signal was sent to, or none."""
    shown = ended.err.rstrip("\n").rpartition("\n")[2][:300]
    if ended.hung:
        return f"hung: {shown}"
    if "Traceback" in ended.err or "unforeseen:" in ended.err:
        return f"unforeseen: {shown}"
    expected = {0}
    if number == signal.SIGKILL:
        expected |= {-signal.SIGKILL, -signal.SIGALRM}
    elif number:
        expected |= {130}
    if ended.status not in expected:
        return f"status {ended.status} {f'after {number.name}' if number else 'on resuming'}: {shown}"
    return ""


def all_kills(kills: Kills, given: argparse.Namespace) -> list[Kill]:
    """List the kills that are asked for."""
    rng, found = Random(given.seed), []
    for subject, saves in kills.pairs:
        count = len(kills.wholes[subject, saves].moments)
        found += [Kill(subject, saves, how, k) for how in ("kill", "power-cut") for k in range(1, count + 1)]
    if given.moments >= 0:  # of each run as many
        each = {pair: [kill for kill in found if (kill.subject, kill.saves) == pair] for pair in kills.pairs}
        found = [kill for some in each.values() for kill in rng.sample(some, min(given.moments, len(some)))]
    drawn = [(*kills.pairs[k % len(kills.pairs)], rng.randrange(10**6)) for k in range(given.kills)]
    return found + [Kill(subject, saves, "random", number) for subject, saves, number in drawn]


def main(words: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.kills", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=300, help="kills at random times")
    parser.add_argument(
        "--moments", type=int, default=-1, help="so many kills at moments of each run; all where below 0"
    )
    parser.add_argument("--saves", choices=sorted(SAVES), action="append", help="how often the runs save")
    parser.add_argument("--jobs", type=int, default=2, help="children at a time")
    parser.add_argument("--only", default="*", help="tasks whose name has this pattern")
    parser.add_argument("--replay", metavar="KILL", help="run one kill again, show all of it and keep its folder")
    given = parser.parse_args(words)
    began = time.monotonic()
    warm.warm_up()
    root = Path(tempfile.mkdtemp(prefix="gatewise-kills-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    pattern = given.replay.partition("/")[0] if given.replay else given.only
    subjects = [name for name in SUBJECTS if fnmatch.fnmatch(name, pattern)]
    if not subjects:
        parser.error(f"no task has a name like {pattern}; there are {', '.join(SUBJECTS)}")
    try:
        kills = Kills(root, subjects, given.saves or list(SAVES), given.seed)
        for _ in warm.run_scripts((kills.undisturbed(*pair) for pair in kills.pairs), given.jobs):
            pass
        if given.replay:
            subject, saves, how, number = given.replay.split("/")
            _, what, _ = next(warm.run_scripts([kills.script(Kill(subject, saves, how, int(number)), keep=True)], 1))
            print(f"{what or 'equal bits'}; all is kept in {root}")
            return int(bool(what))
        return int(_run(kills, given, began))
    finally:
        if not given.replay:
            shutil.rmtree(root)


def _run(kills: Kills, given: argparse.Namespace, began: float) -> bool:
    found = all_kills(kills, given)
    print(f"{len(found)} kills; ready after {time.monotonic() - began:.1f} s", flush=True)
    counts, faults, done = Counter[tuple[str, str, bool]](), list[tuple[Kill, str]](), 0
    dead = 0
    for kill, fault, deaths in warm.run_scripts(map(kills.script, found), given.jobs):
        done, dead = done + 1, dead + deaths
        counts[kill.subject, kill.how, bool(fault)] += 1
        if fault:
            faults.append((kill, fault))
        if done % 500 == 0:
            print(f"{done} kills, {len(faults)} faults", file=sys.stderr, flush=True)
    print(f"\n{'task':16} " + "".join(f"{how:>11} faults" for how in ("kill", "power-cut", "random")))
    for subject in dict.fromkeys(subject for subject, _ in kills.pairs):
        row = ""
        for how in ("kill", "power-cut", "random"):
            good, bad = (counts[subject, how, wrong] for wrong in (False, True))
            row += f"{good + bad:>11} {bad or '':>6}"
        print(f"{subject:16} {row}")
    alike: dict[str, list[tuple[Kill, str]]] = {}
    for kill, fault in faults:
        alike.setdefault(re.sub(r"\d", "", fault)[:60], []).append((kill, fault))
    for some in sorted(alike.values(), key=len, reverse=True):
        kill, fault = some[0]
        moment = "" if kill.how == "random" else kills.wholes[kill.subject, kill.saves].moments[kill.number - 1]
        place = re.sub(r"\.\d+\.part$", ".part", moment) or "a random time"
        print(f"\n{len(some)} x {fault}\n  first at: {place}")
        print(f"    python -m tests.robustness.kills --seed {given.seed} --replay {kill.name}")
    print(f"{done} runs killed {dead} times in {time.monotonic() - began:.0f} s: {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
