"""A whole run inside a file of another framework: what a format keeps of it beside the weights, and makes of it."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config, load_config, to_toml
from gatewise.errors import DataError, GatewiseError
from gatewise.models.loading import MAKERS
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.runtime.intervals import Intervals

NO_DATA: Mapping[str, Any] = {"path": "", "train_file": "", "valid_file": "", "test_file": "", "builtin": ""}
"""The settings that name data; a file that leaves this machine does not."""


@dataclass(frozen=True)
class CarriedRun:
    """A run as a file holds it.

    Attributes:
        config: its configuration, without the names of its data.
        parts: the files beside the weights, by name.
        model: the model, in eval mode.
        intervals: the prediction intervals of a forecaster, or None.
    """

    config: Config
    parts: Mapping[str, bytes]
    model: nn.Module
    intervals: Intervals | None = None


def texts_of(run: RunFolder, model: nn.Module) -> dict[str, str]:
    """Return the files of a run that make its weights a model, by name: ``config.toml`` without data, and its parts.

    Raises:
        RunError: a file is invalid.
    """
    config = run.read_config()
    config = config.model_copy(update={"data": config.data.model_copy(update=dict(NO_DATA))})
    parts = {part.name: part.read_text(encoding="utf-8") for part in run.parts if part.is_file()}
    if isinstance(model, SequenceRegressor) and (intervals := run.read_intervals(model.horizon)):
        parts[run.intervals_file.name] = intervals.to_json()
    return {run.config_file.name: to_toml(config), **parts}


def read_texts(
    source: Path, texts: Mapping[str, str], count: int, weights_of: Callable[[nn.Module], Mapping[str, Any]]
) -> CarriedRun:
    """Return the run of the texts that ``texts_of`` gave.

    Args:
        source: the file that holds them, for messages.
        texts: its texts, by name.
        count: the number of arrays that the file holds, of which each layer needs one or more.
        weights_of: returns the arrays of a model that is still without weights, by the names of its ``state_dict``.

    Raises:
        DataError: a text is invalid, or does not fit the weights.
    """
    with tempfile.TemporaryDirectory(prefix="gatewise-") as folder:
        run = RunFolder(folder)
        known = {part.name: part for part in (run.config_file, run.intervals_file, *run.parts)}
        for name, text in texts.items():
            if name in known:
                known[name].write_text(text, encoding="utf-8")
        try:
            config = load_config(run.config_file, error=DataError)
            if config.model.num_layers > count:
                raise DataError(f"{source}: model.num_layers is {config.model.num_layers}, more than the file holds")
            make = MAKERS[config.task.name](run, config)
            with torch.device("meta"):
                model = make()
            intervals = None
            if isinstance(model, SequenceRegressor) and run.intervals_file.name in texts:
                intervals = Intervals.read(run.intervals_file, model.horizon)
        except GatewiseError as problem:
            raise DataError(str(problem).replace(folder, str(source))) from None
        except (RuntimeError, TypeError, OverflowError) as problem:
            reason = str(problem).splitlines()[0]
            raise DataError(f"{source}: a model cannot have the sizes of its config.toml ({reason})") from None
    config = config.model_copy(update={"data": config.data.model_copy(update=dict(NO_DATA))})
    arrays = weights_of(model)
    for name, tensor in model.state_dict().items():
        if arrays[name].shape != tuple(tensor.shape):
            raise DataError(f"{source}: {name} has shape {arrays[name].shape}; expected {tuple(tensor.shape)}")
    model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, assign=True)
    if config.model.tie_weights:
        model.decoder.weight = model.embedding.weight  # type: ignore[union-attr]
    parts = {part.name: texts[part.name].encode() for part in run.parts if part.name in texts}
    return CarriedRun(config, parts, model.eval(), intervals)
