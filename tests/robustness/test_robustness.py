"""The fuzz and kill commands in short, and that they would find what they look for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.robustness.targets import Target
from tests.robustness.verdicts import judge
from tests.robustness.warm import Ended

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children with limits need Linux")

SHORT = """
import sys
from tests.robustness import fuzz, kills

found = [fuzz.main(["--cases", "45"]), kills.main(["--moments", "1", "--kills", "6", "--saves", "each-step"])]
sys.exit(any(found))
"""


@pytest.mark.slow
def test_no_fault_in_a_few_cases_of_each_task() -> None:
    """One process for both: importing all that commands need takes longer than the cases."""
    ended = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    assert "45 cases in" in ended.stdout
    assert "15 runs killed" in ended.stdout


TARGET = Target("language-model", "run", "evaluate", "run/tokenizer.json")
BEFORE = '{"perplexity": 2.5, "nll": 0.9, "data_hash": "a"}'
LINE = "gatewise: run/tokenizer.json: damaged; train again\n"


@pytest.mark.parametrize(
    ("status", "out", "err", "kind"),
    [
        (0, BEFORE, "", "same"),
        (4, "", LINE, "refused"),
        (0, BEFORE.replace("2.5", "2.6"), "", "changed"),
        (0, BEFORE.replace("2.5", "null"), "", "not finite"),
        (3, "", LINE, "status"),
        (1, "", "gatewise: run: perplexity is inf: the model is of no use\n", "status"),
        (4, BEFORE, LINE, "output"),
        (4, "", LINE + LINE, "lines"),
        (4, "", "damaged\n", "lines"),
        (4, "", LINE.replace("damaged", "x" * 2000), "long"),
        (4, "", LINE.replace("damaged", "\x1b[2J"), "unclean"),
        (1, "", "gatewise: unforeseen: KeyError: 'x'\n", "unforeseen"),
        (1, "", "gatewise: x: Is a directory; nothing that was saved before is lost\n", "unforeseen"),
        (-11, "", "", "crash"),
    ],
)
def test_verdicts(status: int, out: str, err: str, kind: str, tmp_path: Path) -> None:
    for folder in ("case", "base"):
        (tmp_path / folder / "run").mkdir(parents=True)
        (tmp_path / folder / "run/labels.json").write_text("{}")
    ended = Ended(status, False, out, err, 0.1, 0)
    assert judge(TARGET, "flip-bit", BEFORE, tmp_path / "case", tmp_path / "base", ended).kind == kind


def test_a_changed_neighbour_is_a_fault(tmp_path: Path) -> None:
    for folder, content in (("case", "{"), ("base", "{}")):
        (tmp_path / folder / "run").mkdir(parents=True)
        (tmp_path / folder / "run/labels.json").write_text(content)
    ended = Ended(0, False, BEFORE, "", 0.1, 0)
    assert judge(TARGET, "flip-bit", BEFORE, tmp_path / "case", tmp_path / "base", ended).kind == "harm"


WRITER = """
import os, sys
from pathlib import Path
from random import Random
from tests.robustness.crash_points import CrashPoints

folder, flush, at, seed = Path(sys.argv[1]), sys.argv[2] == "flush", int(sys.argv[3]), int(sys.argv[4])
CrashPoints(folder, at, Random(seed) if seed else None).start()
with open(folder / "part", "w") as file:
    file.write("new")
    file.flush()
    if flush:
        os.fsync(file.fileno())
os.replace(folder / "part", folder / "file")
if flush:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
(folder / "last").touch()
"""


def left_by(folder: Path, flush: bool, at: int, seed: int) -> str:
    """Return what a file holds, ``old`` at first, after a program that replaces it died at a moment."""
    folder.mkdir()
    (folder / "file").write_text("old")
    words = ["-c", WRITER, str(folder), "flush" if flush else "", str(at), str(seed)]
    assert subprocess.run([sys.executable, *words], env={**os.environ}).returncode == -9
    return (folder / "file").read_text()


def test_a_power_cut_loses_what_was_not_flushed(tmp_path: Path) -> None:
    """With fsync of file and folder the new content stands, whatever is lost; without, it may be empty or the old."""
    assert {left_by(tmp_path / f"flushed-{seed}", True, 6, seed) for seed in range(1, 9)} == {"new"}
    lost = {left_by(tmp_path / f"not-{seed}", False, 4, seed) for seed in range(1, 9)}
    assert "old" in lost
    assert lost - {"old", "new"}
    assert left_by(tmp_path / "kill", False, 4, 0) == "new"
    assert left_by(tmp_path / "before", False, 3, 0) == "old"
