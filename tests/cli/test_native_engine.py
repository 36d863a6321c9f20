"""What the commands report on the native engine: its instruction set, and why it is not available."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatewise.engines import ENGINES
from gatewise.engines.native import module
from gatewise.engines.native.layer import NOT_COMPUTED
from gatewise.runtime import library
from tests.cli.conftest import TINY_OPTIONS, Gatewise

needs_native = pytest.mark.skipif("native" not in ENGINES, reason=f"native: {module.why_not_built()}")


def line_of(text: str, name: str) -> str:
    """Return the line of ``gatewise doctor`` with this label."""
    return next(line[17:].strip() for line in text.splitlines() if line[:17].strip() == name)


@needs_native
def test_doctor_names_the_instructions_and_what_goes_elsewhere(gatewise: Gatewise) -> None:
    line = line_of(gatewise("doctor").out, "engine native")
    chosen, every = module.instructions()
    assert line.startswith("available")
    assert f"instruction set: {chosen}, of {', '.join(every)} " in line
    assert f"with auto, falls back to the torch engine for: {NOT_COMPUTED}" in line


@needs_native
def test_doctor_of_a_process_with_lower_instructions() -> None:
    command = [sys.executable, "-m", "gatewise", "doctor"]
    environment = {**os.environ, "GATEWISE_INSTRUCTIONS": "portable"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "instruction set: portable, of portable" in line_of(ran.stdout, "engine native")


@needs_native
@pytest.mark.parametrize("engine", ["native", "auto", ""])
def test_wrong_instructions_are_one_line_and_status_2(engine: str, corpus: Path, tmp_path: Path) -> None:
    """For ``train`` with the engines that could use them, and for ``doctor``."""
    train = ["train", "demo", "--data", str(corpus), *TINY_OPTIONS, "--set", f"runtime.engine={engine}"]
    command = [sys.executable, "-m", "gatewise", *([*train, "--out", str(tmp_path / "run")] if engine else ["doctor"])]
    environment = {**os.environ, "GATEWISE_INSTRUCTIONS": "sse9"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stderr
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert line.startswith(
        "gatewise: GATEWISE_INSTRUCTIONS is 'sse9', which this processor or this build does not support"
    )
    assert f"expected one of {', '.join(module.instructions()[1])}" in line
    assert not (tmp_path / "run").exists()


def without(monkeypatch: pytest.MonkeyPatch, problem: str = "", compiler: str | None = None) -> None:
    """Simulate an extension module that is missing or cannot be loaded."""
    monkeypatch.setattr(module, "native", None)
    monkeypatch.setattr(module, "_PROBLEM", problem)
    monkeypatch.setattr(library.shutil, "which", lambda name: compiler and f"/usr/bin/{name}")
    monkeypatch.delitem(ENGINES, "native", raising=False)


@pytest.mark.parametrize(
    ("problem", "compiler", "fragments"),
    [
        (
            "",
            None,
            ["it was not built", "no C++ compiler was found", "install g++ or clang++, then reinstall Gatewise"],
        ),
        ("", "c++", ["it was not built although /usr/bin/c++ exists", "pip install -v"]),
        ("_native.so: undefined symbol: x", "c++", ["its module cannot be loaded (_native.so: undefined symbol: x)"]),
    ],
)
def test_where_it_is_not_there_doctor_and_train_say_why_and_what_to_do(
    gatewise: Gatewise,
    monkeypatch: pytest.MonkeyPatch,
    corpus: Path,
    problem: str,
    compiler: str | None,
    fragments: list[str],
) -> None:
    without(monkeypatch, problem, compiler)
    shown = gatewise("doctor")
    refused = gatewise("train", "demo", "--data", corpus, "--set", "runtime.engine=native", "--out", "run")
    refused.check_refused(2, "runtime.engine 'native' is not available: ", "; use auto or torch", *fragments)
    assert shown.status == 0
    assert line_of(shown.out, "engine native").startswith("not available: ")
    for fragment in fragments:
        assert fragment in line_of(shown.out, "engine native")
    assert not Path("run").exists()


@needs_native
def test_a_module_that_does_not_load_is_not_taken_for_one_that_is_not_there(tmp_path: Path) -> None:
    """With a damaged file first on the path, importing still works, and the problem is reported."""
    native = Path(str(module.native.__file__))
    (tmp_path / native.name).write_bytes(b"no library")
    program = (
        "import gatewise, gatewise.engines\nfrom gatewise.engines.native import module\nprint(module.why_not_built())\n"
    )
    # A package's path can be extended before its modules are imported: a finder puts the damaged file first.
    finder = (
        "import importlib.machinery, importlib.util, sys\n"
        "class Damaged:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'gatewise._native':\n"
        f"            return importlib.util.spec_from_file_location(name, {str(tmp_path / native.name)!r})\n"
        "sys.meta_path.insert(0, Damaged())\n"
    )
    ran = subprocess.run([sys.executable, "-c", finder + program], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"its module cannot be loaded ({tmp_path / native.name}: ")
    assert ran.stdout.endswith("); reinstall Gatewise\n")
