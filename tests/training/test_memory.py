"""Memory that a step frees serves the next one."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from gatewise.training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for step in range(60):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    part = torch.ones(12_000_000 + 1000 * step)  # 48 MB: above what the library keeps by its own rules
    del part
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's C library can be told")
def test_pages_are_not_mapped_anew_at_each_step() -> None:
    def faults(kind: str) -> int:
        command = [sys.executable, "-c", PROGRAM, kind]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    given_back = faults("given back")
    kept = faults("kept")
    assert kept * 10 < given_back, (kept, given_back)  # a system may take pages back by itself, but not at each step
