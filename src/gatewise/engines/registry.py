"""The engines by name, and which of them computes what is asked for."""

from collections.abc import Callable

import torch

from gatewise.engines.contract import Engine, cannot_run
from gatewise.engines.native.engine import NativeEngine
from gatewise.engines.native.module import check_instructions, why_not_built
from gatewise.engines.reference import ReferenceEngine
from gatewise.engines.torch.engine import TorchEngine
from gatewise.spec import RecurrentSpec

EVERY: dict[str, Engine] = {engine.name: engine for engine in (ReferenceEngine(), TorchEngine(), NativeEngine())}
"""All that there are."""


class _Engines(dict[str, Engine]):
    def __missing__(self, name: str) -> Engine:
        raise ValueError(f"engine {name!r} is no engine that is here; expected one of {', '.join(self)}")


ENGINES: dict[str, Engine] = _Engines(
    (name, engine) for name, engine in EVERY.items() if name != "native" or why_not_built() is None
)
"""Those that can be had."""

AUTO = ("native", "torch")
"""What ``auto`` tries, in this order; the last computes everything."""

NAMES = ("auto", *EVERY)
"""All that may be asked for."""

CPU = torch.device("cpu")


def why_not(name: str, device: torch.device | str = CPU) -> str | None:
    """Say in a few words why an engine cannot be had; None where it can. On meta nothing is computed: any can."""
    if name == "auto":
        return None
    if name not in EVERY:
        return f"there is no such engine; expected one of {', '.join(NAMES)}"
    device = torch.device(device)
    return EVERY[name].why_not(CPU if device.type == "meta" else device)


def engine_named(name: str, device: torch.device | str = CPU) -> Engine:
    """Return the engine that a name stands for on a device.

    ``auto`` takes ``native`` on the CPU where it was built, else ``torch``: ``gatewise bench recurrent`` finds it as
    fast or faster on each cell, shape and way of batching that it measures.

    Raises:
        ValueError: it cannot be had; the reason in one line.
        UsageError: ``GATEWISE_INSTRUCTIONS`` asks the native engine for what cannot be had.
    """
    if name in ("auto", "native"):
        check_instructions()
    if name == "auto":
        return next(EVERY[each] for each in AUTO if not why_not(each, device))
    if reason := why_not(name, device):
        raise ValueError(f"engine {name!r} is not available: {reason}")
    return EVERY[name]


def engine_for(name: str, device: torch.device, why_not_this: Callable[[Engine], str | None]) -> Engine:
    """Return the engine that computes something: the first of ``AUTO`` that can, or the one that was named.

    Args:
        name: what was asked for.
        device: where the tensors are.
        why_not_this: says why an engine does not compute it, by one of its own ``why_not_…``.

    Raises:
        ValueError: the engine that was named cannot; the reason in one line.
    """
    chosen = engine_named(name, device)
    if device.type == "meta" or not (reason := why_not_this(chosen)):
        return chosen
    if name != "auto":
        raise ValueError(cannot_run(name, reason))
    return EVERY[AUTO[-1]]


def why_no_stream(spec: RecurrentSpec, device: torch.device, dtype: torch.dtype) -> str | None:
    """Say why no engine streams a stack; None where ``streaming_engine`` does."""
    return streaming_engine().why_not_stream(spec, device, dtype)


def streaming_engine() -> Engine:
    """Return the engine that runs stacks one step at a time on packed weights: there is one."""
    return EVERY["native"]
