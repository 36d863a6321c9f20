"""Break each backward pass in every small way there is, and see the tests fail each time.

``python -m tests.mutation.run`` prints what survives and exits with 1 where anything does; ``--out FOLDER`` keeps the
table, ``--only lstm`` runs the targets whose file's name has that in it (the other files' rows stay in the table while
their mutants are the same), ``--list`` runs nothing. The mutants are written to copies of the source tree; the tree
itself is not touched. Of the native engine, only the portable instruction set is built for each mutant: the others are
compiled from the same lines.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mutation import cpp
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.table import Equivalent, Verdict, kept, rows_of, write_table

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = ("numpy", "torch", "torch._inductor.config", "hypothesis", "jaxtyping", "beartype")
"""Of torch's: what ``use_deterministic_algorithms`` loads, for seconds."""

# Read when pytest and the libraries start: no plugin that the tests do not need, one thread, no files left behind.
os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
sys.dont_write_bytecode = True


class Target(NamedTuple):
    """Functions to mutate in a file of ``src/gatewise`` or of ``csrc``, and the quick tests that must see it."""

    file: str
    functions: list[str]
    tests: list[str]

    @property
    def native(self) -> bool:
        """Whether the file is part of the native engine, which is then built for each mutant."""
        return self.file.startswith("csrc/")

    @property
    def path(self) -> Path:
        """The file, from the repository's root."""
        return Path(self.file) if self.native else Path("src", "gatewise", self.file)


GRADIENTS = "tests/reference/test_gradients.py::test_every_gradient"
ENGINES = "tests/engines/test_engines.py"
CUDNN, SECOND = "tests/engines/test_cudnn.py", "tests/engines/test_second_derivatives.py"
OWN, BOUNDARY = "tests/engines/test_own_cell.py", "tests/engines/test_boundary.py"
NUMBERS = "test_every_number_is_the_references"
ABSENT = "test_each_result_has_its_name or test_dx_is_left_out"
SAVED = "test_what_a_forward_pass_saved"
TARGETS = [
    Target("reference/lstm.py", ["backward"], [GRADIENTS, "-k", "lstm"]),
    Target("reference/gru.py", ["backward"], [GRADIENTS, "-k", "gru"]),
    Target("reference/rnn.py", ["backward"], [GRADIENTS, "-k", "rnn"]),
    Target("reference/cell.py", ["input_gradients", "outer"], ["tests/reference/test_cell.py", GRADIENTS]),
    Target("reference/softmax.py", ["cross_entropy"], ["tests/reference/test_softmax.py"]),
    Target("reference/stack.py", ["layer_backward", "backward"], [GRADIENTS, "tests/reference/test_stack.py"]),
    Target(
        "engines/torch/cells.py",
        ["lstm_backward", "gru_backward", "rnn_backward"],
        [f"{ENGINES}::{NUMBERS}", ENGINES, "-k", f"{NUMBERS} or test_nothing_given_is_changed and torch"],
    ),
    Target(
        "engines/torch/engine.py",
        ["TorchEngine.backward", "_backward_by_steps"],
        [
            f"{ENGINES}::{NUMBERS}",
            OWN,
            ENGINES,
            "-k",
            f"{NUMBERS} or own_cell or ({ABSENT}) and torch",
        ],
    ),
    Target(
        "engines/torch/onednn.py",
        ["backward"],
        [f"{ENGINES}::{NUMBERS}", ENGINES, BOUNDARY, "-k", f"{NUMBERS} or ({ABSENT}) and torch or {SAVED}"],
    ),
    Target("engines/torch/cudnn.py", ["backward", "stack_backward"], [CUDNN]),
    Target("engines/stack.py", ["_Stack.backward", "_pass_by_pass"], [CUDNN]),
    Target(
        "engines/reference.py",
        ["ReferenceEngine.backward"],
        [f"{ENGINES}::{NUMBERS}", ENGINES, "-k", f"{NUMBERS} or {ABSENT}"],
    ),
    Target(
        "engines/layer_operator.py",
        ["_differentiate", "_differentiate_operator", "_Pass.backward"],
        [
            SECOND,
            "tests/engines/test_operators.py",
            "tests/nn/test_contexts.py",
            "-k",
            "not (pytorchs or shapes or contexts) or gradients_of_a_batch",
        ],
    ),
    Target(
        "engines/differentiable.py",
        ["differentiable_forward", "gradients_again"],
        ["tests/engines/test_differentiable.py", SECOND],
    ),
    Target(
        "engines/steps.py",
        ["lstm", "gru", "rnn_tanh", "rnn_relu"],
        ["tests/engines/test_differentiable.py", SECOND],
    ),
    Target(
        "scratch/model.py",
        ["ScratchModel._backward", "ScratchModel.step", "ScratchModel.gradients"],
        ["tests/scratch/test_model.py"],
    ),
    Target(
        "training/device_step.py",
        [f"DeviceStep.{name}" for name in ("make", "read", "scaled", "_begin", "_run", "_compute", "_update_scale")],
        ["tests/training/test_device_step.py"],
    ),
    Target(
        "csrc/cells.hpp",
        [f"{cell}.backward" for cell in ("Lstm", "Gru", "RnnTanh", "RnnRelu")],
        [f"{ENGINES}::{NUMBERS}", "-k", "native"],
    ),
    Target(
        "csrc/recurrence.hpp",
        ["backward"],
        [f"{ENGINES}::{NUMBERS}", ENGINES, "-k", f"({NUMBERS} or {ABSENT} or test_what_stands_past) and native"],
    ),
]
REFUSED = 98
"""The exit status where a mutant does not compile."""
BUILD = ("-G", "Ninja", "-DGATEWISE_QUICK=ON", f"-DPython_EXECUTABLE={sys.executable}")
MEMORY = 12 << 30
"""Bytes of address space for a test of the native engine: a wrong pointer asks for all there is."""

CELLS, ONEDNN = "engines/torch/cells.py", "engines/torch/onednn.py"
HOW = "(options.reverse, _LSTM, inputs.units, 1, True, True, False, [], False)"
KEPT = "dh_kept = dy if w_hr is None else torch.empty_like(dy)"
BLANK = "for (Index k = 0; k < row; ++k) operand[0][r * row + k] = operand[1][r * row + k] = 0"
EQUIVALENT: Equivalent = {
    (CELLS, KEPT, "dh_kept = torch.empty_like(dy)"): "without a projection nobody reads it",
    (CELLS, KEPT, "dh_kept = 0 * dy if w_hr is None else torch.empty_like(dy)"): "as above",
    (CELLS, KEPT, "dh_kept = -dy if w_hr is None else torch.empty_like(dy)"): "as above",
    (
        "engines/stack.py",
        "found = [d if n else None for d, n in zip(every, needed, strict=True)]",
        "found = [d for d, n in zip(every, needed, strict=True)]",
    ): "autograd drops a gradient that nobody needs",
    (ONEDNN, f"how: tuple[Any, ...] = {HOW}", f"how: tuple[Any, ...] = (-{HOW[1:]}"): "-1 is as true as 1",
    (
        "csrc/recurrence.hpp",
        BLANK,
        BLANK.partition(" operand")[0],
    ): "what stands past the last term is read by tiles alone",
    ("csrc/recurrence.hpp", BLANK, BLANK.replace("operand[1][r * row + k] = ", "")): "as above",
}
"""Mutants that compute the same; they are not run. One that is no longer made is an error."""


class Watch:
    """A pytest plugin: it says what failed first, and sees to it that the mutant is what was tested."""

    def __init__(self, copy: Path, target: Target) -> None:
        built = [*(copy / "src" / "gatewise").glob("_native*.so")]
        self.file = built[0] if target.native else copy / target.path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = (crash.message if crash else str(report.when)).strip().partition("\n")[0]
            print(f"\nKILLED-BY\t{report.nodeid}\t{message}")

    def pytest_sessionfinish(self) -> None:
        files = [getattr(m, "__file__", None) for name, m in sys.modules.items() if name.startswith("gatewise")]
        if not any(file and Path(file).resolve() == self.file.resolve() for file in files):
            pytest.exit(f"{self.file.name} was not imported from the copy: something else was tested", returncode=99)


def build(copy: Path) -> bool:
    """Build a copy's native engine into its package; False where the compiler refuses it."""
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["cmake", *BUILD, "-S", copy, "-B", copy / "build"], env=tools, check=True)
    if subprocess.run(["cmake", "--build", copy / "build"], env=tools, check=False).returncode:
        return False
    for file in (copy / "build").glob("_native*.so"):
        shutil.copy(file, copy / "src" / "gatewise")
    return True


def run_tests(copy: Path, target: Target) -> None:
    """Be the process that runs a target's tests on a copy of the source; its output goes to a file there."""
    with (copy / "output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    if target.native:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if not build(copy):
            os._exit(REFUSED)
    os.chdir(ROOT)
    sys.path[:0] = [str(copy / "src"), str(ROOT)]
    # An editable installation leads the package's imports to the working tree, past sys.path.
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
    assert "gatewise" not in sys.modules
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *target.tests]
    code = pytest.main(options, [Watch(copy, target)])
    sys.stdout.flush()
    os._exit(code)


def verdict_of(code: int | None, output: str, file: str) -> tuple[str | None, str]:
    """Return the test that failed first, and how; None where all passed.

    Raises:
        RuntimeError: the tests could not be run.
    """
    if code == 0:
        return None, ""
    if code == REFUSED:
        return "the compiler", ""
    if code is not None and code < 0:
        return f"signal {-code}", ""
    line = next((line for line in output.splitlines() if line.startswith("KILLED-BY\t")), None)
    if code != 1 or line is None:
        raise RuntimeError(f"pytest exited with {code} on {file}:\n{output[-3000:]}")
    _, test, message = line.split("\t", 2)
    return test, message


def examine(
    jobs: Sequence[tuple[Target, Mutant | None]], width: int, timeout: float
) -> Iterator[tuple[int, str | None, str]]:
    """Yield, in the order in which they end, each job's place, the test that killed it and how.

    What the tests import beside the package is loaded once, here; each mutant is tested in a fork.
    """
    for name in PRELOADED:
        import_module(name)
    with tempfile.TemporaryDirectory(prefix="gatewise-mutants-") as folder:
        free, todo = list[Path](), list(enumerate(jobs))[::-1]
        running = dict[ForkProcess, tuple[int, Path, Path, float]]()
        for k in range(width):
            free.append(Path(folder) / str(k))
            # No engine that happens to lie there: its tests are another target's.
            shutil.copytree(ROOT / "src", free[-1] / "src", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            if any(target.native for target, _ in jobs):
                shutil.copytree(ROOT / "csrc", free[-1] / "csrc")
                shutil.copy(ROOT / "CMakeLists.txt", free[-1])
        while todo or running:
            while todo and free:
                place, (target, mutant) = todo.pop()
                copy, file = free.pop(), target.path
                source = (ROOT / file).read_text(encoding="utf-8") if mutant is None else mutant.source
                (copy / file).write_text(source, encoding="utf-8")
                process = ForkProcess(daemon=True, target=run_tests, args=(copy, target))
                process.start()
                running[process] = place, copy, file, time.monotonic() + timeout
            wait([process.sentinel for process in running], 1.0)
            for process, (place, copy, file, deadline) in list(running.items()):
                late = process.is_alive() and time.monotonic() > deadline
                if late:
                    process.kill()
                elif process.is_alive():
                    continue
                process.join()
                output = (copy / "output").read_text(encoding="utf-8", errors="replace")
                (copy / file).write_text((ROOT / file).read_text(encoding="utf-8"), encoding="utf-8")
                del running[process]
                free.append(copy)
                yield place, *(("timeout", "") if late else verdict_of(process.exitcode, output, str(file)))


def wanted(target: Target) -> Iterator[Mutant]:
    """Yield a target's mutants but the equivalent ones."""
    excluded = {key[1:] for key in EQUIVALENT if key[0] == target.file}
    make = cpp.mutants if target.native else mutants
    for mutant in make((ROOT / target.path).read_text(encoding="utf-8"), target.functions):
        if (mutant.original, mutant.mutated) in excluded:
            excluded.discard((mutant.original, mutant.mutated))
        else:
            yield mutant
    if excluded:
        raise RuntimeError(f"{target.file}: listed as equivalent, but not made: {excluded}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of the file's name")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument("--out", type=Path, help="where mutations.md and mutations.json are written")
    parser.add_argument("--verbose", action="store_true", help="print what killed each mutant")
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    options = parser.parse_args()
    targets = [target for target in TARGETS if options.only in target.file]
    if not targets:
        parser.error(f"no target's file has {options.only!r} in its name")
    if options.list:
        for target in targets:
            for mutant in wanted(target):
                print(f"{target.file}:{mutant.line} {mutant.function}: {mutant.original}  ->  {mutant.mutated}")
        return 0
    start = time.monotonic()
    for place, failed, message in examine([(target, None) for target in targets], options.jobs, 600):
        if failed:
            raise RuntimeError(f"{failed} fails on {targets[place].file} as it is: {message}")
    timeout = 30 + 3 * (time.monotonic() - start)
    jobs = [(target, mutant) for target in targets for mutant in wanted(target)]
    found = dict[int, Verdict]()
    for place, killed_by, message in examine(jobs, options.jobs, timeout):
        target, mutant = jobs[place]
        found[place] = Verdict(target.file, *mutant[:4], killed_by, message)
        if killed_by is None or options.verbose:
            print(found[place].text, flush=True)
        if len(found) % 50 == 0:
            print(f"{len(found)} of {len(jobs)} mutants, {time.monotonic() - start:.0f} s", flush=True)
    verdicts = [found[place] for place in range(len(jobs))]
    survived = sum(verdict.killed_by is None for verdict in verdicts)
    print(f"{len(verdicts)} mutants, {survived} survived, {time.monotonic() - start:.0f} s")
    if options.out is not None:
        current = {target.file: [*wanted(target)] for target in TARGETS}
        rows = kept(options.out, current) | rows_of(verdicts, EQUIVALENT, current)
        if missing := sorted(current.keys() - rows.keys()):
            print(f"not in the table, since it has changed or was never run: {', '.join(missing)}")
        write_table(rows, list(current), options.out)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
