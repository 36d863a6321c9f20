"""``gatewise score`` with what the extra ``scoring`` brings, and no more memory for more rows."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from gatewise.predict.score import score
from tests.cli.test_score_interrupted import scores, write_texts
from tests.robustness.score_memory import memory

EXTRA = ("numpy", "pyarrow", "typer", "filelock")


def needed(*packages: str) -> set[str]:
    """The top-level modules of packages and of all that they require."""
    homes: dict[str, set[str]] = {}
    for module, names in packages_distributions().items():
        for name in names:
            homes.setdefault(_normal(name), set()).add(module)
    found, ahead = set[str](), list(packages)
    while ahead:
        name = _normal(ahead.pop())
        if name in homes and name not in found:
            found.add(name)
            lines = [line for line in requires(name) or [] if "extra ==" not in line]
            ahead += [re.match(r"[\w.-]+", line)[0] for line in lines]  # type: ignore[index]
    return {module for name in found for module in homes[name]}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


ALONE = """
import sys

allowed = set(sys.argv.pop(1).split())

class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in allowed and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Nothing())
from gatewise.__main__ import run
run()
"""


def alone(*words: str | Path, packages: tuple[str, ...] = EXTRA) -> tuple[int, str, str]:
    """Run ``gatewise`` where only these packages and what they require can be imported."""
    command = [sys.executable, "-c", ALONE, " ".join(needed(*packages) | {"gatewise"}), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_extra_is_enough(tiny_run: Path, tmp_path: Path) -> None:
    file, out = write_texts(tmp_path / "in.parquet", 2, 5), tmp_path / "out"
    assert "torch" not in needed(*EXTRA)
    assert alone("score", tiny_run, file, "--out", out) == (0, f"scored 10 rows in 2 fragments: {out}\n", "")
    score(tiny_run, [file], tmp_path / "here")
    assert scores(out) == scores(tmp_path / "here")
    said = "gatewise: this command needs tomli_w, which is not installed; it comes with the extra 'train'\n"
    assert alone("generate", tiny_run) == (2, "", said)
    status, _, said = alone("score", tiny_run, file, "--out", tmp_path / "new", packages=("numpy", "typer", "filelock"))
    assert (status, said) == (
        2,
        "gatewise: scoring needs pyarrow, which is not installed; it comes with the extra 'scoring'\n",
    )
    status, _, said = alone("score", tiny_run, file, "--out", tmp_path / "new", packages=("numpy",))
    assert (status, said) == (
        2,
        "gatewise: the command line needs typer, which is not installed; it comes with the extra 'scoring'\n",
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_flat(tiny_run: Path, tmp_path: Path) -> None:
    """4 MB; ``python -m tests.robustness.score_memory`` measures 100 MB."""
    file = write_texts(tmp_path / "in.parquet", 60, 500, 25)
    found = memory(tiny_run, file, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("[0-9]*"))) == 60
    assert found.peak < 500
    assert found.late <= found.early + 16
