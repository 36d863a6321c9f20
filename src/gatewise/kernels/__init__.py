"""One contract of a layer pass, and the engines behind it."""

from gatewise.kernels.operators import layer
from gatewise.kernels.registry import ENGINES, engine_for, engine_named, why_not

__all__ = ["ENGINES", "engine_for", "engine_named", "layer", "why_not"]
