"""The examples on Ray Data and Spark, in local mode: the rows of a single process, by workers without PyTorch."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from gatewise.runtime.scoring import Scorer
from tests.conftest import REPOSITORY
from tests.runtime.scored import SENTENCES, sequences_of

NO_TORCH = """
import importlib.util
import os
from importlib.machinery import PathFinder

found = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    missing = name.partition(".")[0] in ("torch", "tokenizers", "safetensors")
    return None if missing else found(name, path, target)

PathFinder.find_spec = find_spec
with open(os.environ["PROCESSES"], "a") as file:
    file.write(f"{os.getpid()} {importlib.util.find_spec('torch')}\\n")
"""
"""Every Python of the example runs this first: the driver and the workers."""


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


NEEDS_RAY = pytest.mark.skipif(not has("ray"), reason="Ray is not installed")
NEEDS_SPARK = pytest.mark.skipif(not has("pyspark"), reason="Spark is not installed")
NEEDS_JAVA = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which is not installed")


def scored_by(example: str, run: Path, table: pa.Table, tmp_path: Path) -> pa.Table:
    """Run an example on a table in three files; return what it wrote, in the order of the ids."""
    files, out, first = tmp_path / "in", tmp_path / "out", tmp_path / "first"
    files.mkdir()
    for part in range(3):
        start, end = part * len(table) // 3, (part + 1) * len(table) // 3
        pq.write_table(table.slice(start, end - start), files / f"{part}.parquet")
    first.mkdir()
    (first / "sitecustomize.py").write_text(NO_TORCH)
    processes = tmp_path / "processes"
    environment = {
        **os.environ,
        "PYTHONPATH": str(first),
        "PROCESSES": str(processes),
        "RAY_USAGE_STATS_ENABLED": "0",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    command = [
        sys.executable,
        str(REPOSITORY / "examples" / "scoring" / f"{example}.py"),
        str(run),
        str(files),
        str(out),
    ]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    started = dict(line.split() for line in processes.read_text().splitlines())
    assert len(started) > 1 and set(started.values()) == {"None"}
    return pyarrow.dataset.dataset(out, format="parquet").to_table().sort_by("id")


def expected(run: Path, table: pa.Table) -> list[dict[str, object]]:
    return Scorer(run)(table).to_pylist()


@pytest.mark.slow
@NEEDS_RAY
def test_ray_data(classifier_run: Path, tmp_path: Path) -> None:
    rows = [row for k in range(4) for row in sequences_of(4, seed=k)]
    table = pa.table({"id": range(len(rows)), "x": pa.array(rows, pa.list_(pa.list_(pa.float32())))})
    assert scored_by("ray_data", classifier_run, table, tmp_path).to_pylist() == expected(classifier_run, table)


@pytest.mark.slow
@NEEDS_SPARK
@NEEDS_JAVA
def test_spark(tagger_run: Path, tmp_path: Path) -> None:
    table = pa.table({"id": range(24), "text": SENTENCES * 6})
    assert scored_by("spark", tagger_run, table, tmp_path).to_pylist() == expected(tagger_run, table)
