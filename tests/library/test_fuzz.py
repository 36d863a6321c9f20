"""Damaged files, states and inputs, and failed allocations, under AddressSanitizer: the C interface stays upright."""

import re
from pathlib import Path

import pytest

from tests.library.fuzz import fuzz


@pytest.mark.slow
def test_no_damaged_file_breaks_the_library(tmp_path: Path) -> None:
    """`make fuzz-c` damages 10,000."""
    done = fuzz(tmp_path, 500, seed=1)
    assert done.returncode == 0, done.stdout[-3000:]
    counts = re.fullmatch(r"500 damaged files, of which (\d+) could be read; 0 wrong answers\n", done.stdout)
    assert counts is not None, done.stdout
    assert 10 < int(counts[1]) < 250, "most damage must be found, and some files must still be used"
