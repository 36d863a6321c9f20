"""Loading models from run folders."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.config.tasks import TaskName
from gatewise.errors import RunError, UsageError
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.models.text_classifier import TextClassifier

M = TypeVar("M", bound=nn.Module)


class _NoNormals(TorchFunctionMode):
    """Skips ``normal_`` initialization: on meta, PyTorch runs it through its compiler, whose import takes a second."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return kwargs["tensor"] if function is nn.init.normal_ else function(*args, **kwargs or {})


@overload
def load(path: str | Path, kind: None = None, *, device: str | torch.device = "cpu") -> Any: ...


@overload
def load(path: str | Path, kind: type[M], *, device: str | torch.device = "cpu") -> M: ...


def load(path: str | Path, kind: type[M] | None = None, *, device: str | torch.device = "cpu") -> Any:
    """Load the best model of a run, in eval mode.

    Args:
        path: the run folder.
        kind: the class of the model. It is checked, and editors complete its methods.
        device: the device for the weights.

    Returns:
        A ``LanguageModel``, ``Tagger``, ``SequenceClassifier``, ``TextClassifier`` or ``SequenceRegressor``.

    Raises:
        UsageError: the model is of another class than ``kind``.
        RunError: something in the folder is missing or invalid.
    """
    model = _load(path, device)
    if kind is not None and not isinstance(model, kind):
        task = RunFolder.existing(path).read_config().task.name
        raise UsageError(
            f"{path}: a {task} run, which holds a {type(model).__name__}; expected one that holds a {kind.__name__}"
        )
    return model


def _load(path: str | Path, device: str | torch.device) -> nn.Module:
    run = RunFolder.existing(path)
    config = run.read_config()
    header = run.open_weights(config.meaning())
    make = MAKERS[config.task.name](run, config)
    try:
        with torch.device("meta"), _NoNormals():  # shapes only: nothing is allocated or initialized
            model = make()
    except (RuntimeError, TypeError, OverflowError) as problem:
        reason = str(problem).splitlines()[0]
        raise RunError(f"{run.config_file}: a model cannot have these sizes ({reason}); restore them") from None
    arrays, _ = run.read_weights({name: tensor.shape for name, tensor in model.state_dict().items()}, header)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, assign=True)
    if isinstance(model, LanguageModel) and config.model.tie_weights:
        run.check_tied(torch.equal(model.decoder.weight, model.embedding.weight))
        model.decoder.weight = model.embedding.weight
    return model.to(device).eval()


def load_fresh(path: str | Path) -> Any:
    """Return the model of a run with its initial weights, from the same seed, in eval mode, on the CPU.

    The state of torch's default generator is preserved.

    Raises:
        RunError: something in the folder is missing or invalid.
    """
    run = RunFolder.existing(path)
    config = run.read_config()
    make = MAKERS[config.task.name](run, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return make().eval()


Maker = Callable[[], nn.Module]


def _language_model(run: RunFolder, config: Config) -> Maker:
    return partial(LanguageModel, config.model, run.read_vocabulary(config.data.level))


def _classifier(run: RunFolder, config: Config) -> Maker:
    found = run.read_labels("input_size")
    assert found.input_size is not None
    return partial(SequenceClassifier, config.model, found.input_size, found.labels, steps=found.steps)


def _text_classifier(run: RunFolder, config: Config) -> Maker:
    words, characters = run.read_words()
    return partial(TextClassifier, config.model, words, characters, run.read_names(), config.data.level)


def _tagger(run: RunFolder, config: Config) -> Maker:
    words, characters = run.read_words()
    return partial(Tagger, config.model, words, characters, run.read_names("seen_words"))


def _regressor(run: RunFolder, config: Config) -> Maker:
    size, scaling, window = run.read_forecaster(config.data.window, config.data.horizon)
    return partial(SequenceRegressor, config.model, size, scaling, window=window)


MAKERS: dict[TaskName, Callable[[RunFolder, Config], Maker]] = {
    "language-model": _language_model,
    "scratch-language-model": _language_model,
    "tagger": _tagger,
    "classifier": _classifier,
    "text-classifier": _text_classifier,
    "regressor": _regressor,
    "memory-task": _regressor,
}
"""For each task, a function that reads the files of a run, except the weights, and returns a model constructor."""


def load_weights(model: nn.Module, run: RunFolder) -> Mapping[str, Any]:
    """Load the weights of a model from ``model.safetensors``; return the metadata saved with them.

    Raises:
        RunError: the file does not fit the model.
    """
    own = model.state_dict()
    arrays, facts = run.read_weights({name: tensor.shape for name, tensor in own.items()})
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(arrays[name]))
    return facts


def save_weights(model: nn.Module, run: RunFolder, config: Config, facts: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` atomically, with metadata and the configuration that the weights depend on."""
    arrays = {name: tensor.cpu().numpy() for name, tensor in weights_to_save(model).items()}
    run.write_weights(arrays, {"task": config.task.name, **facts, "config": config.meaning()})


def weights_to_save(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every weight by name; the weight of a decoder tied to the embedding is copied."""
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if len({tensor.data_ptr() for tensor in weights.values()}) < len(weights):
        weights["decoder.weight"] = weights["decoder.weight"].clone()
    return weights
