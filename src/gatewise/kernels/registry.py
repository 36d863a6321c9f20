"""The engines by name, and why one cannot be had."""

import torch

from gatewise.kernels import native_engine
from gatewise.kernels.contract import Engine, LayerInputs, LayerOptions
from gatewise.kernels.reference_engine import ReferenceEngine
from gatewise.kernels.torch_engine import TorchEngine


class _Engines(dict[str, Engine]):
    def __missing__(self, name: str) -> Engine:
        raise ValueError(f"engine {name!r} is no engine that is here; expected one of {', '.join(self)}")


ENGINES: dict[str, Engine] = _Engines(reference=ReferenceEngine(), torch=TorchEngine())
"""Those that can be had."""
if native_engine.why_not_built() is None:
    ENGINES["native"] = native_engine.NativeEngine()

NAMES = ("auto", "reference", "torch", "native")
"""All that may be asked for."""


def why_not(name: str, device: torch.device | str = "cpu") -> str | None:
    """Say in a few words why an engine cannot be had; None where it can. On meta nothing is computed: any can."""
    device = torch.device(device)
    if device.type == "meta":
        device = torch.device("cpu")
    if name == "native":
        if device.type != "cpu":
            return f"it computes on the CPU, but the tensors are on {device}"
        return native_engine.why_not_built()
    if name not in NAMES:
        return f"there is no such engine; expected one of {', '.join(NAMES)}"
    if name == "reference" and device.type != "cpu":
        return f"it computes in NumPy, on the CPU, but the tensors are on {device}"
    return None


def engine_named(name: str, device: torch.device | str = "cpu") -> str:
    """Return the engine that a name stands for on a device.

    ``auto`` takes ``native`` on the CPU where it was built, else ``torch``: ``gatewise bench recurrent`` finds it as
    fast or faster on each cell, shape and way of batching that it measures.

    Raises:
        ValueError: it cannot be had; the reason in one line.
        UsageError: ``GATEWISE_INSTRUCTIONS`` asks the native engine for what cannot be had.
    """
    if name in ("auto", "native"):
        native_engine.check_instructions()
    if reason := why_not(name, device):
        raise ValueError(f"engine {name!r} is not available: {reason}")
    if name == "auto":
        return "torch" if why_not("native", device) else "native"
    return name


def engine_for(name: str, inputs: LayerInputs, options: LayerOptions) -> str:
    """Return the engine that computes a pass: ``auto`` leaves to torch what the native engine does not compute.

    Raises:
        ValueError: the engine that was named cannot; the reason in one line.
    """
    chosen = engine_named(name, inputs.x.device)
    if chosen != "native" or inputs.x.is_meta:
        return chosen
    reason = native_engine.why_not(inputs, options)
    if reason and name == "native":
        raise ValueError(native_engine.refusal(reason))
    return "torch" if reason else "native"
