"""Hostile tensors at every entry point to C++: a correct result or a one-line error; no signal and no hang."""

import os
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gatewise.engines.native import module as native
from gatewise.spec import CELLS

if native.why_not_built():
    pytest.skip("the native engine was not built", allow_module_level=True)

from tests.engines.hostile import ENTRIES, KINDS, NO_MEMORY, Call, Change, run

EXAMPLES = int(os.environ.get("GATEWISE_HOSTILE_EXAMPLES", "120"))
"""How many calls are drawn; some minutes' worth are 20,000."""

SECONDS = 60
"""After which a call hangs."""

COUNTS = Counter[str]()


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Draw a call."""
    size = st.sampled_from([0, 1, 2, 3, 4, 17])
    entry = draw(st.sampled_from(ENTRIES))
    changes = draw(
        st.lists(st.builds(Change, st.integers(0, 18), st.sampled_from(list(KINDS)), st.integers(0, 6)), max_size=2)
    )
    engines = ["native"] if any(c.kind in NO_MEMORY for c in changes) else ["native", "auto", "torch", "reference"]
    return Call(
        entry,
        draw(st.sampled_from(engines)),
        draw(st.sampled_from(list(CELLS))),
        (draw(size), draw(size), draw(size), draw(size)),
        draw(st.booleans()),
        draw(st.sampled_from(["float32", "float32", "float64", "bfloat16"])),
        tuple(changes),
    )


def in_a_child(call: Call) -> str:
    """Run a call in its own process; return how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # PyTorch's own threads did not come along
            os.write(writer, run(call).encode()[:4000])
        except BaseException as problem:
            os.write(writer, f"wrong: {problem!r}".encode()[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], SECONDS)
        text = os.read(reader, 4096).decode(errors="replace") if ready else "wrong: hangs"
    finally:
        os.close(reader)
        if not ready:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return f"wrong: status {status}" if status and ready else text


@pytest.fixture(scope="module", autouse=True)
def _counts() -> Iterator[None]:
    for kind in KINDS:  # what PyTorch imports late shall be there before the children are
        run(Call("layer", "native", "gru", (2, 1, 2, 2), False, "float32", (Change(0, kind, 0),)))
    yield
    print(dict(COUNTS.most_common(60)))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 1000,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # a call is small as it is
)
@given(calls())
def test_a_call_ends_with_a_right_result_or_one_line(call: Call) -> None:
    began = time.perf_counter()
    outcome = in_a_child(call)
    COUNTS[f"{call.entry}: {outcome.split(':')[0]}"] += 1
    assert not outcome.startswith("wrong"), outcome
    assert time.perf_counter() - began < SECONDS
