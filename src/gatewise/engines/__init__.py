"""The contract of the engines, and the engines that implement it."""

from gatewise.engines.contract import Engine, cannot_run
from gatewise.engines.layer_operator import layer
from gatewise.engines.registry import ENGINES, engine_for, engine_named, why_not
from gatewise.engines.stack import stack

__all__ = ["ENGINES", "Engine", "cannot_run", "engine_for", "engine_named", "layer", "stack", "why_not"]
