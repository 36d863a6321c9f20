"""From a run folder to a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gatewise.artifact.run_folder import RunFolder
from gatewise.data.vocabulary import Vocabulary
from gatewise.errors import RunError
from gatewise.models.language_model import LanguageModel


def load(path: str | Path, *, device: str | torch.device = "cpu") -> LanguageModel:
    """Load the best model of a run, in eval mode.

    Args:
        path: the run folder.
        device: where the weights go.

    Raises:
        RunError: something in the folder is missing or wrong.
    """
    run = RunFolder.existing(path)
    config = run.read_config()
    model = LanguageModel(config.model, Vocabulary.load(run.tokenizer_file, config.data.level))
    load_weights(model, run)
    return model.to(device).eval()


def load_weights(model: LanguageModel, run: RunFolder) -> dict[str, Any]:
    """Fill a model from ``model.safetensors``; return the facts that were saved with it.

    Raises:
        RunError: the file does not fit the model.
    """
    own = model.state_dict()
    arrays, metadata = run.read_weights({name: tensor.shape for name, tensor in own.items()})
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(arrays[name]))
    try:
        return dict(json.loads(metadata.get("gatewise", "{}")))
    except (ValueError, TypeError):
        raise RunError(f"{run.weights_file}: its metadata is no JSON object; train again") from None


def save_weights(model: LanguageModel, run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` in one piece, the facts as one JSON string in its metadata."""
    run.write_weights({name: tensor.cpu().numpy() for name, tensor in weights_to_save(model).items()}, facts)


def weights_to_save(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return every weight by its name in the contract; a decoder tied to the embedding is written out as its copy."""
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if len({tensor.data_ptr() for tensor in weights.values()}) < len(weights):
        weights["decoder.weight"] = weights["decoder.weight"].clone()
    return weights
