"""PyTorch's global settings for threads and precision: read only here, then passed on as arguments."""

from typing import NamedTuple, TypeVar

import torch

from gatewise.engines.contract import LayerOptions, LossOptions

AT_RUN_TIME = 0
"""Number of threads in a compiled graph: the number that PyTorch has set when the graph runs."""


class Switches(NamedTuple):
    """PyTorch's settings.

    Attributes:
        threads: ``torch.get_num_threads()``.
        high: whether float32 products may have reduced precision: ``torch.set_float32_matmul_precision("high")``.
    """

    threads: int
    high: bool


def switches() -> Switches:
    """Return PyTorch's settings; while a graph is compiled, a marker to read them when it runs."""
    if torch.compiler.is_compiling():
        return Switches(AT_RUN_TIME, False)
    return _now()


Options = TypeVar("Options", LayerOptions, LossOptions)


def as_switched(options: Options) -> Options:
    """Return options with PyTorch's current settings in place of those that a graph left open."""
    if options.threads != AT_RUN_TIME:
        return options
    return options._replace(**_now()._asdict())


def _now() -> Switches:
    return Switches(torch.get_num_threads(), not _exact())


def _exact() -> bool:
    """Return whether fp32 products must be computed in fp32."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # a program has set the per-backend settings (PyTorch 2.9) to different values
        return torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")  # type: ignore[attr-defined]
