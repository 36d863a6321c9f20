"""The AVX-512 and AMX instruction sets, emulated if the processor lacks them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gatewise.engines.native import module as native
from tests.conftest import REPOSITORY
from tests.engines.emulated import NO_PLUGINS, OF_KERNELS, PRODUCTS, QUIET

pytestmark = pytest.mark.slow

PARITY = ["tests/engines/test_engines.py"]


CHOSEN, REAL = native.instructions() if native.why_not_built() is None else ("", [])
"""The instruction set in use, and all that this processor supports."""


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension module, with the instruction sets emulated that this processor lacks."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for what, found in {
        "a C++ compiler (g++ or clang++)": os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++"),
        "cmake": shutil.which("cmake", path=search),
        "ninja or make": shutil.which("ninja", path=search) or shutil.which("make"),
        "nanobind": importlib.util.find_spec("nanobind"),
    }.items():
        if not found:
            pytest.skip(f"to build the emulation {what} is missing")
    folder = tmp_path_factory.mktemp("emulated")
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=search) else []
    missing = ";".join(name for name in ("avx512", "avx512_bf16", "amx") if name not in REAL)
    options = [f"-DPython_EXECUTABLE={sys.executable}", f"-DGATEWISE_EMULATE={missing}"]
    for command in (
        ["cmake", *generator, "-S", str(REPOSITORY), "-B", str(folder), *options],
        ["cmake", "--build", str(folder), "-j", "2"],
    ):
        ran = subprocess.run(command, env={**os.environ, "PATH": search}, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return next(folder.glob("_native*.so"))


@pytest.mark.parametrize(
    ("instructions", "precision", "tests"),
    [
        ("avx512", "highest", PARITY + PRODUCTS),
        ("avx512_bf16", "highest", PARITY + PRODUCTS),
        ("amx", "highest", PARITY + PRODUCTS),
        ("amx", "high", PARITY),
    ],
    ids=["avx512", "avx512_bf16", "amx", "amx, high"],
)
def test_the_engines_tests_pass_on_the_instruction_set(
    instructions: str, precision: str, tests: list[str], request: pytest.FixtureRequest
) -> None:
    """On emulated instructions; if this processor supports them, on the real ones, which needs no build."""
    if (instructions, precision) == (CHOSEN, "highest"):
        pytest.skip("it is the instruction set in use: this run tests it")
    if instructions in REAL and precision == "highest":
        pytest.skip("test_native_engine.py runs these tests on it")
    module = native.native.__file__ if instructions in REAL else request.getfixturevalue("emulated")
    environment = {**os.environ, **NO_PLUGINS, "GATEWISE_INSTRUCTIONS": instructions}
    options = [*QUIET, "-k", OF_KERNELS]
    command = [sys.executable, "-m", "tests.engines.emulated", str(module), precision, *options, *tests]
    ran = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-10000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout
