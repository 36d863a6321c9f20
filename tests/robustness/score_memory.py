"""How much memory ``gatewise score`` takes while it reads Parquet of many row groups.

``python -m tests.robustness.score_memory --megabytes 100`` trains a small language model, writes a file, scores it in a
process of its own and exits with 1 where memory grows or exceeds 500 MiB. Then it kills such processes at random times,
lets one finish, and exits with 1 where the scores differ.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MOST, GROWTH = 500, 16
"""MiB at the peak, and between the first and the last fragments."""

PROGRAM = """
import resource, sys
from pathlib import Path
from gatewise.predict import score as module

used = []
kept = module._write_fragment

def write_fragment(*arguments):
    done = kept(*arguments)
    used.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20)
    return done

module._write_fragment = write_fragment
module.score(sys.argv[1], [sys.argv[2]], sys.argv[3])
assert "torch" not in sys.modules
tenth = len(used) // 10
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]  # ru_maxrss is inherited from a parent
print(int(peak) >> 10, max(used[tenth : 2 * tenth]), max(used[-tenth:]))
"""


@dataclass(frozen=True)
class Memory:
    """MiB of a process that scores.

    Attributes:
        peak: the most.
        early: the most after a fragment of the second tenth.
        late: the most after a fragment of the last tenth.
    """

    peak: int
    early: int
    late: int


def memory(run: Path, file: Path, out: Path) -> Memory:
    """Score a file in a new process, and return the memory that it took."""
    command = [sys.executable, "-c", PROGRAM, str(run), str(file), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Memory(*map(int, done.stdout.split()))


def write_texts(path: Path, megabytes: int, rows: int = 500) -> int:
    """Write texts of 5 to 40 words, uncompressed; return how many row groups they have."""
    draw, groups = np.random.default_rng(1), 0
    words = np.array(["the", "dog", "ate", "that", "apple", *(f"w{k}" for k in range(3000))])
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression=None, use_dictionary=False) as writer:
        while path.stat().st_size < megabytes * 10**6:
            texts = [" ".join(draw.choice(words, int(draw.integers(5, 41)))) for _ in range(rows)]
            writer.write_table(pa.table({"id": range(groups * rows, (groups + 1) * rows), "text": texts}, schema))
            groups += 1
    return groups


def killed(run: Path, file: Path, out: Path, seconds: float, times: int) -> int:
    """Kill processes that score, the last one excepted; return how many fragments were kept in all."""
    rng, kept = random.Random(1), 0
    command = [sys.executable, "-m", "gatewise", "score", str(run), str(file), "--out", str(out)]
    for _ in range(times):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, seconds / times))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = len(list(out.glob("[0-9]*")))
    subprocess.run(command, check=True)
    return kept


def main(words: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.score_memory", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--kills", type=int, default=6)
    given = parser.parse_args(words)
    from tests.conftest import TINY

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = "import sys, gatewise as gw; gw.train('demo', out=sys.argv[1], overrides=eval(sys.argv[2]))"
        tiny = {**TINY, "model.hidden_size": 32, "training.max_steps": 20}
        subprocess.run([sys.executable, "-c", train, str(folder / "run"), repr(tiny)], check=True)
        groups = write_texts(folder / "in.parquet", given.megabytes)
        began = time.monotonic()
        found = memory(folder / "run", folder / "in.parquet", folder / "whole")
        seconds = time.monotonic() - began
        size = (folder / "in.parquet").stat().st_size / 1e6
        print(f"{size:.0f} MB in {groups} row groups: {seconds:.0f} s, {size / seconds:.1f} MB/s")
        print(f"memory: {found.peak} MiB at the peak, {found.early} early, {found.late} late")
        kept = killed(folder / "run", folder / "in.parquet", folder / "out", seconds, given.kills)
        pairs = [sorted(path.name for path in (folder / out).glob("[0-9]*")) for out in ("whole", "out")]
        equal = pairs[0] == pairs[1] and all(
            (folder / "whole" / one).read_bytes() == (folder / "out" / one).read_bytes() for one in pairs[0]
        )
        print(f"killed {given.kills} times, {kept} of {groups} fragments kept: {'equal' if equal else 'other'} bytes")
    return int(not equal or found.peak > MOST or found.late > found.early + GROWTH)


if __name__ == "__main__":
    sys.exit(main())
