"""``python -m benchmarks.gpu DATA``: proves on a GPU that training is right, and times it.

DATA contains Penn Treebank in the folder ptb. Needs PyTorch and what training needs, but not the native engine: in a
copy of the repository, ``PYTHONPATH=src python -m benchmarks.gpu DATA``. Sized for four minutes on an H100. Each part
says what it proves, prints its figures and ``passed`` or ``FAILED``; the exit status is 1 if one failed. At the end, or
in the file ``--out``, is the record for ``benchmarks/results/gpu.json``.
"""

import argparse
import json
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_proofs, gpu_speed
from benchmarks.gpu_proofs import Outcome, Setting
from gatewise.bench.harness import circumstances
from gatewise.errors import GatewiseError
from gatewise.training.precision import choose_device

PARTS: Mapping[str, Callable[[Setting], Outcome]] = {
    "parity": gpu_proofs.parity,
    "graph": gpu_proofs.graph,
    "resume": gpu_proofs.resume,
    "bad-steps": gpu_proofs.bad_steps,
    "perplexity": gpu_speed.perplexity,
    "speed": gpu_speed.speed,
}
ON_A_CPU = ("parity", "graph", "resume", "bad-steps")
"""The parts that run on a CPU unless others are named: the rest takes hours there."""
NEEDS_DATA = ("perplexity", "speed")


def main(words: Sequence[str]) -> int:
    """Run the parts; return the exit status."""
    options = _options(words)
    command = shlex.join(["python", "-m", "benchmarks.gpu", *words])
    try:
        device = choose_device(options.device)
    except GatewiseError as reason:
        return _refuse(str(reason))
    if device.index is not None:
        torch.cuda.set_device(device)
    names = options.parts.split(",") if options.parts else list(PARTS if device.type == "cuda" else ON_A_CPU)
    if unknown := [name for name in names if name not in PARTS]:
        return _refuse(f"--parts names {', '.join(unknown)}; expected some of {','.join(PARTS)}")
    if {*names} & {*NEEDS_DATA} and not (options.data / "ptb").is_dir():
        return _refuse(f"{options.data / 'ptb'}: no such folder; expected Penn Treebank in it")
    result = {"bench": "gpu", **circumstances(command), **_versions(device), "parts": {}, "rows": []}
    print(", ".join(f"{key} {value}" for key, value in _versions(device).items()), flush=True)

    def report(line: str) -> None:
        print(f"   {line}", flush=True)

    precisions = gpu_proofs.available_precisions(device, report)
    setting = Setting(device, options.data, precisions, options.seconds, options.turns, report)
    run_parts(names, setting, result, options.out)
    print("```json\n" + json.dumps(result, indent=2) + "\n```", flush=True)
    return int(not all(part["passed"] for part in result["parts"].values()))


def run_parts(names: Sequence[str], setting: Setting, result: dict[str, Any], out: Path | None) -> None:
    """Run parts one after the other, and add what they found to the result, which is written after each of them."""
    for name in names:
        print(f"== {name}: {(PARTS[name].__doc__ or '').partition(chr(10))[0]}", flush=True)
        began = time.perf_counter()
        try:
            outcome = PARTS[name](setting)
        except Exception as problem:  # the machine is borrowed: the other parts are tried, too
            traceback.print_exc()
            outcome = Outcome(False, {"error": f"{type(problem).__name__}: {problem}".partition("\n")[0]})
            setting.report(outcome.figures["error"])
        seconds = round(time.perf_counter() - began, 1)
        result["parts"][name] = {"passed": outcome.passed, "seconds": seconds, **outcome.figures}
        result["rows"] += outcome.rows
        print(f"   {name} {'passed' if outcome.passed else 'FAILED'} ({seconds} s)", flush=True)
        if out is not None:
            out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _versions(device: torch.device) -> dict[str, Any]:
    """Return the device and the versions of what computes there."""
    if device.type != "cuda":
        return {"device": device.type, "torch": str(torch.__version__)}
    facts = torch.cuda.get_device_properties(device)
    return {
        "device": facts.name,
        "memory_gib": round(facts.total_memory / 2**30, 1),
        "compute_capability": f"{facts.major}.{facts.minor}",
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def _refuse(line: str) -> int:
    print(f"benchmarks.gpu: {line}", file=sys.stderr)
    return 2


def _options(words: Sequence[str]) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=about.partition(": ")[2], epilog=details)
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder that contains Penn Treebank in ptb")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--parts", default="", help=f"some of {','.join(PARTS)}; all by default")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of a timing, for the slowest side")
    parser.add_argument("--turns", type=int, default=3, help="number of timings of each side")
    parser.add_argument("--out", type=Path, help="write the record to this file")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
