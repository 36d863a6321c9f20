"""The C library, built from csrc as a user builds it, and model files for it."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gatewise import runtime
from gatewise.runtime.model_file import read_run
from tests.conftest import REPOSITORY
from tests.runtime.rig import CASES, Case, drawn_run

BUILD = REPOSITORY / "build"
SANITIZED = {"GATEWISE_SANITIZE": "ON", "GATEWISE_QUICK": "ON"}
WEIGHTS = ("fp32", "bf16", "int8")


def tool(name: str) -> str:
    """The path of a program: the test environment's or the system's; skips the test where there is none."""
    here = Path(sys.executable).parent / name
    found = str(here) if here.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"needs {name}")
    return found


def run(*command: str | Path, **options: Any) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def built(name: str, options: Mapping[str, str], target: str = "all") -> Path:
    """Build csrc with options of CMake in build/NAME, which later tests and runs reuse."""
    cmake, folder = tool("cmake"), BUILD / name
    tool("c++"), tool("make")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        run(cmake, "-S", REPOSITORY / "csrc", "-B", folder, "-G", "Unix Makefiles",
            *(f"-D{key}={value}" for key, value in options.items()))  # fmt: skip
        run(cmake, "--build", folder, "--target", target)
    return folder


def model_file(folder: Path, case: Case | str, weights: str = "fp32", **model: Any) -> Path:
    """Write a model file with drawn weights, of one of the cases of ``tests.runtime.rig`` or another."""
    name = case if isinstance(case, str) else case.task
    drawn = drawn_run(folder / f"{name} {weights}", CASES[case] if isinstance(case, str) else case, **model)
    path = folder / f"{name} {weights}.gatewise".replace(" ", "-")
    path.write_bytes(read_run(drawn, weights).content)
    return path


def model_files(folder: Path) -> Sequence[Path]:
    """Write a model file of every case, stored in turn as fp32, bf16 and int8."""
    return [model_file(folder, name, WEIGHTS[k % 3]) for k, name in enumerate(CASES)]


def varied(folder: Path, case: str, answer: Callable[[Any], Sequence[str]], least: int) -> Path:
    """Write a model file with the first drawn weights whose answer has at least so many different parts."""
    for seed in range(50):
        path = model_file(folder, case, seed=seed)
        if len(set(answer(runtime.load(path)))) >= least:
            return path
    raise AssertionError(f"no weights of {case} answer with {least} different parts")


def varied_language(folder: Path) -> Path:
    """Write a language model that goes on after "the dog" with several tokens."""
    return varied(folder, "lm lstm", lambda m: m.generate("the dog", max_tokens=12, temperature=0.0).split(), 5)


def varied_tagger(folder: Path) -> Path:
    """Write a tagger in one direction that gives "the dog ate xyzzy" several tags."""
    return varied(folder, "tagger", lambda m: m.tag([["the", "dog", "ate", "xyzzy"]])[0], 2)
