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

NO_DATA: Mapping[str, Any] = {"path": "", "train_file": "", "valid_file": "", "test_file": "", "builtin": ""}
"""The settings that name data; a file that leaves this machine does not."""


@dataclass(frozen=True)
class CarriedRun:
    """A run as a file holds it.

    Attributes:
        config: its configuration, without the names of its data.
        parts: the files beside the weights, by name.
        model: the model, in eval mode.
    """

    config: Config
    parts: Mapping[str, bytes]
    model: nn.Module


def texts_of(run: RunFolder) -> dict[str, str]:
    """Return the files of a run that make its weights a model, by name: ``config.toml`` without data, and its parts."""
    config = run.read_config()
    config = config.model_copy(update={"data": config.data.model_copy(update=dict(NO_DATA))})
    parts = {part.name: part.read_text(encoding="utf-8") for part in run.parts if part.is_file()}
    return {run.config_file.name: to_toml(config), **parts}


def read_texts(
    source: Path, texts: Mapping[str, str], weights_of: Callable[[nn.Module], Mapping[str, Any]]
) -> CarriedRun:
    """Return the run of the texts that ``texts_of`` gave.

    Args:
        source: the file that holds them, for messages.
        texts: its texts, by name.
        weights_of: returns the arrays of a model that is still without weights, by the names of its ``state_dict``.

    Raises:
        DataError: a text is invalid, or does not fit the weights.
    """
    with tempfile.TemporaryDirectory(prefix="gatewise-") as folder:
        run = RunFolder(folder)
        known = {part.name: part for part in (run.config_file, *run.parts)}
        for name, text in texts.items():
            if name in known:
                known[name].write_text(text, encoding="utf-8")
        try:
            config = load_config(run.config_file, error=DataError)
            with torch.device("meta"):
                model = MAKERS[config.task.name](run, config)()
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
    parts = {name: text.encode() for name, text in texts.items() if name in known and name != run.config_file.name}
    return CarriedRun(config, parts, model.eval())
