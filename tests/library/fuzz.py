"""Damage model files, states and inputs of the C library: python -m tests.library.fuzz [FILES [SEED]]."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.library.builds import SANITIZED, built, model_files


def fuzz(folder: Path, files: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Read damaged files of every task; the status is 0 if all answers were right. csrc/tests/fuzz.cpp tells more."""
    program = built("sanitized", SANITIZED, "fuzz") / "fuzz"
    models = [str(path) for path in model_files(folder)]
    return subprocess.run(
        [str(program), str(files), str(seed), *models],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800, check=False,
    )  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        done = fuzz(Path(place), *(int(text) for text in (*sys.argv[1:], "10000", "1")[:2]))
    print(done.stdout, end="")
    sys.exit(done.returncode)
