"""Out of memory or threads: a call raises, the next one is correct, and the process survives."""

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gatewise.engines import ENGINES
from gatewise.engines.contract import LayerInputs, LayerOptions, LossInputs, LossOptions
from gatewise.engines.native.dropout import draw
from gatewise.engines.native.loss import compute
from gatewise.engines.native.module import instructions
from gatewise.engines.native.stream import Stream
from gatewise.engines.native.update import gradient_norm, step
from gatewise.nn import LSTMState
from gatewise.spec import RecurrentSpec

pytestmark = pytest.mark.skipif(
    "native" not in ENGINES or sys.platform != "linux", reason="no native engine, or no limit of a process's memory"
)

LIMITS = (1, 120)
"""MB above what the process has."""


def vast() -> dict[str, Callable[[], object]]:
    """Return calls that take some hundred MB each, of which little is their arguments'."""
    T, B, I, H = 900, 64, 4, 128
    x = torch.randn(T, B, I)
    state = torch.randn(B, H)
    weights = [torch.randn(4 * H, n) / 10 for n in (I, H)] + [torch.randn(4 * H) for _ in range(2)]
    inputs = LayerInputs(x, (state, state), (*weights, None), None, None)
    long = inputs._replace(x=torch.randn(2200, B, I))  # y does not fit into the 64 MB that malloc keeps for a thread
    options = LayerOptions("lstm", save=True, threads=torch.get_num_threads())
    engine = ENGINES["native"]
    outputs = engine.forward(inputs, options)
    decoder = torch.randn(40000, 24), torch.randn(40000)
    rows, targets = torch.randn(600, 24), torch.randint(40000, (600,))
    spec = RecurrentSpec("lstm", 64, 1400)
    parameters = {name: torch.randn(shape) for name, shape in spec.parameters().items()}
    parameter = torch.nn.Parameter(torch.zeros(20_000_000))
    parameter.grad = torch.ones(1).expand(20_000_000)  # copied to be read
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    return {  # in the order of what they need, since the scratch is kept
        "loss": lambda: compute(LossInputs(rows, *decoder, targets), LossOptions(threads=2))[0],
        "LSTM forward": lambda: engine.forward(long, options._replace(save=False)).y,
        "LSTM forward, for training": lambda: engine.forward(inputs, options).y,
        "LSTM backward": lambda: engine.backward(inputs, outputs, outputs.y, outputs.state, options, True).params[1],
        "norm": lambda: gradient_norm([parameter], 2),
        "update": lambda: step(optimizer, 1.0, 2),
        "stream": lambda: Stream(spec, parameters, state=LSTMState, one_hot=False, threads=2).bytes,
        "dropout": lambda: draw(torch.empty(20_000_000), 1, 1, 2.0, 2).sum(),
    }


def inference() -> None:
    """Read 28 steps of 4000 rows: y takes 57 MB, all gates would take 229."""
    state, weights = torch.zeros(4000, 128), [torch.zeros(512, n) for n in (4, 128)] + [torch.zeros(512)] * 2
    given = LayerInputs(torch.zeros(28, 4000, 4), (state, state), (*weights, None), None, None)
    ENGINES["native"].forward(given, LayerOptions("lstm", threads=2))


def limit(megabytes: int | None) -> None:
    """Let the process have so much more memory; any for None."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft = hard if megabytes is None else pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def under(megabytes: int, call: Callable[[], object]) -> str:
    """Say what a call does under a limit."""
    limit(megabytes)
    try:
        call()
        return "done"
    except (MemoryError, RuntimeError) as problem:
        return type(problem).__name__
    finally:
        limit(None)


def child() -> None:
    """Make every call under every limit, then without one; print what came of it."""
    # The first calls of a thread find no room for the stacks of others: it has none yet.
    torch.set_num_threads(4)
    layer, x = torch.nn.LSTM(64, 64), torch.randn(50, 20, 64)
    state = torch.zeros(20, 64)
    inputs = LayerInputs(x, (state, state), (*layer.all_weights[0], None), None, None)
    four, two = LayerOptions("lstm", threads=4), LayerOptions("lstm", threads=2)
    found: dict[str, object] = {"instructions": instructions()[0]}
    ready, go = threading.Event(), threading.Event()
    alone: list[torch.Tensor] = []

    def first() -> None:
        ready.set()
        go.wait()
        alone.append(ENGINES["native"].forward(inputs, four).y)

    thread = threading.Thread(target=first)
    thread.start()
    ready.wait()
    expected = ENGINES["native"].forward(inputs, four).y  # what it needs but threads is there from here on
    limit(6)  # less than a thread's stack
    go.set()
    thread.join()
    limit(None)
    found["threads"] = torch.equal(alone[0], expected)
    torch.set_num_threads(2)
    found["inference"] = under(120, inference)
    for name, call in vast().items():
        outcomes = [under(megabytes, call) for megabytes in LIMITS]
        call()
        found[name] = outcomes
        found["next"] = torch.equal(ENGINES["native"].forward(inputs, two).y, expected)
        assert found["next"], name
    print(json.dumps(found))


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """What a process says that lives through it all."""
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def test_without_memory_a_call_raises_and_the_next_is_right(found: dict[str, list[str]]) -> None:
    of_calls = {name: outcomes for name, outcomes in found.items() if isinstance(outcomes, list)}
    assert len(of_calls) == 8
    for name, outcomes in of_calls.items():
        assert outcomes[0] != "done", name
    assert found["next"]
    assert any(
        "MemoryError" in outcomes for outcomes in of_calls.values()
    )  # from C++, not only from PyTorch's allocator


def test_inference_holds_the_gates_of_a_few_steps_only(found: dict[str, object]) -> None:
    assert found["inference"] == "done"


def test_without_room_for_threads_a_call_runs_alone(found: dict[str, list[str]]) -> None:
    assert found["threads"]


if __name__ == "__main__":
    child()
