"""The engines by name, and the choice between them."""

from collections.abc import Callable

import torch

from gatewise.engines.contract import Engine, cannot_run
from gatewise.engines.native.engine import NativeEngine
from gatewise.engines.native.module import check_instructions, why_not_built
from gatewise.engines.reference import ReferenceEngine
from gatewise.engines.torch.engine import TorchEngine

EVERY: dict[str, Engine] = {engine.name: engine for engine in (ReferenceEngine(), TorchEngine(), NativeEngine())}
"""All engines."""


class _Engines(dict[str, Engine]):
    def __missing__(self, name: str) -> Engine:
        raise ValueError(f"engine {name!r} is not available; expected one of {', '.join(self)}")


ENGINES: dict[str, Engine] = _Engines(
    (name, engine) for name, engine in EVERY.items() if name != "native" or why_not_built() is None
)
"""The engines that are available."""

AUTO = ("native", "torch")
"""The engines that ``auto`` tries, in this order; the last one supports everything."""

NAMES = ("auto", *EVERY)
"""All valid names."""

CPU = torch.device("cpu")


def why_not(name: str, device: torch.device | str = CPU) -> str | None:
    """Return the reason why an engine is not available, in a few words, or None. On meta, every engine is available."""
    if name == "auto":
        return None
    if name not in EVERY:
        return f"there is no such engine; expected one of {', '.join(NAMES)}"
    device = torch.device(device)
    return EVERY[name].why_not(CPU if device.type == "meta" else device)


def engine_named(name: str, device: torch.device | str = CPU) -> Engine:
    """Return the engine for a name on a device.

    ``auto`` is ``native`` on the CPU if that was built, else ``torch``: in ``gatewise bench native``, ``native`` is
    as fast or faster for every cell, shape and way of batching.

    Raises:
        ValueError: the engine is not available; a one-line message gives the reason.
        UsageError: ``GATEWISE_INSTRUCTIONS`` names an instruction set that is not available.
    """
    if name in ("auto", "native"):
        check_instructions()
    if name == "auto":
        return next(EVERY[each] for each in AUTO if not why_not(each, device))
    if reason := why_not(name, device):
        raise ValueError(f"engine {name!r} is not available: {reason}")
    return EVERY[name]


def engine_for(name: str, device: torch.device, why_not_this: Callable[[Engine], str | None]) -> Engine:
    """Return the engine for a request: the first in ``AUTO`` that supports it, or the named engine.

    Args:
        name: a name in ``NAMES``.
        device: the device of the tensors.
        why_not_this: returns the reason why an engine does not support the request, by one of its ``why_not_…``
            methods, or None.

    Raises:
        ValueError: the named engine does not support the request; a one-line message gives the reason.
    """
    chosen = engine_named(name, device)
    if device.type == "meta" or not (reason := why_not_this(chosen)):
        return chosen
    if name != "auto":
        raise ValueError(cannot_run(name, reason))
    return EVERY[AUTO[-1]]


def streaming_engine() -> Engine:
    """Return the engine that runs stacks one step at a time on packed weights; only one does."""
    return EVERY["native"]
