"""PyTorch's switches that say how to compute: read here and nowhere else, and handed on as arguments."""

from typing import NamedTuple, TypeVar

import torch

from gatewise.engines.contract import LayerOptions, LossOptions

AT_RUN_TIME = 0
"""Threads, in a compiled graph: as many as PyTorch has when the graph is run."""


class Switches(NamedTuple):
    """How to compute.

    Attributes:
        threads: ``torch.get_num_threads()``.
        high: whether float32 products may be less than exact: ``torch.set_float32_matmul_precision("high")``.
    """

    threads: int
    high: bool


def switches() -> Switches:
    """Return PyTorch's switches; while a graph is made, that they are to be read when it is run."""
    if torch.compiler.is_compiling():
        return Switches(AT_RUN_TIME, False)
    return Switches(torch.get_num_threads(), not _exact())


Options = TypeVar("Options", LayerOptions, LossOptions)


def as_switched(options: Options) -> Options:
    """Return options in which the switches that a graph left open are as they are now."""
    if options.threads != AT_RUN_TIME:
        return options
    threads, high = torch.get_num_threads(), not _exact()
    return options._replace(threads=threads, high=high)


def _exact() -> bool:
    """Whether products of fp32 are to be computed in fp32."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # a program has set the devices' own switches (PyTorch 2.9) unlike each other
        return torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")  # type: ignore[attr-defined]
