"""A new environment that has the wheel of this tree and NumPy, and nothing else."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


def run(*command: str | Path) -> str:
    """Run a command; return what it prints."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def missing() -> str | None:
    """Return what is missing to build a wheel, or None."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = {
        "pip": importlib.util.find_spec("pip"),
        "scikit-build-core": importlib.util.find_spec("scikit_build_core"),
        "nanobind": importlib.util.find_spec("nanobind"),
        "a C++ compiler (g++ or clang++)": os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++"),
        "cmake": shutil.which("cmake", path=search),
    }
    return next((what for what, there in found.items() if not there), None)


def build_wheel(out: Path) -> Path:
    """Build the wheel with ``pip``; what ``make`` compiled for this environment is not compiled again."""
    options = ["--no-deps", "--no-build-isolation", "-C", f"build-dir={REPOSITORY}/build/{{wheel_tag}}"]
    run(*PIP, "wheel", REPOSITORY, *options, "-w", out)
    (built,) = out.glob("*.whl")
    return built


def make_environment(wheel: Path, folder: Path) -> Path:
    """Install the wheel beside a copy of this environment's NumPy, which needs no network; return the interpreter."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip())
    for name in ["numpy"] + ["tomli"] * (sys.version_info < (3, 11)):
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), packages / file)
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel)
    run(*PIP, "--python", python, "check")
    return python
