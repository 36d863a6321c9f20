"""Model files of ``gatewise.runtime``: for Python without PyTorch, for C and for the browser. Written, not imported."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gatewise import runtime
from gatewise.artifact.run_folder import RunFolder
from gatewise.artifact.sealed import write_sealed
from gatewise.errors import DataError, MissingPackage, UsageError
from gatewise.interchange.model import ModelWeights
from gatewise.interchange.onnx_verify import gap
from gatewise.interchange.stack import StackWeights
from gatewise.models.language_model import LanguageModel
from gatewise.models.loading import weights_to_save
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_reader import SequenceReader
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.models.text_classifier import TextClassifier
from gatewise.nn import in_eval_mode
from gatewise.nn.words import WordEncoder
from gatewise.runtime.library import library
from gatewise.runtime.model_file import read_tensors, stored_run

_MARK = b'\\", \\"format\\":1,\\"runtime\\":{'
_LENGTHS = (1, 7, 4)
"""The steps of the sequences that are compared."""
_ROUNDING = {"fp32": 0.0, "bf16": 2.0**-8, "int8": 1 / 250}
"""How far weights may differ from those of the run: by half of the last of 8 bits or of one of 127 steps, and a bit."""
_LIMITS = {"fp32": 1e-5, "bf16": 1e-5, "int8": 1e-3}
"""How far outputs may differ from those of a PyTorch model with the weights in the file: with int8, activations are
rounded, too, to 16 bits, in each step."""

Arrays = Sequence[npt.NDArray[np.floating]]


def recognises(path: Path) -> bool:
    """Return whether a file is a model file, by its first bytes."""
    try:
        with path.open("rb") as file:
            return _MARK in file.read(256)
    except OSError:
        return False


def load_stack(path: Path) -> StackWeights:
    """Refuse.

    Raises:
        DataError: always.
    """
    _refuse(path)


def load_model(path: Path) -> ModelWeights:
    """Refuse.

    Raises:
        DataError: always.
    """
    _refuse(path)


def _refuse(path: Path) -> NoReturn:
    raise DataError(
        f"{path}: a model file of gatewise.runtime, which lacks the settings of its run; expected a file of another "
        "framework: use the run folder that it was exported from, or load it with gatewise.runtime.load"
    )


def save_stack(weights: StackWeights, path: Path) -> None:
    """Refuse.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{path}: a model file holds a whole model; expected a run: export it, or choose another format")


def save_run(run: RunFolder, model: nn.Module, path: Path, *, weights: str = "fp32") -> None:
    """Write the model file of a run.

    Args:
        run: the run folder.
        model: its model.
        path: the file.
        weights: how to store matrices: ``fp32``; ``bf16``, rounded to nearest even; ``int8``, a scale for each row.

    Raises:
        UsageError: ``weights`` is unknown.
        RunError: the run is invalid.
    """
    about, tensors = stored_run(run, weights)
    write_sealed(path, tensors, {"runtime": about})


def limits(weights: str = "fp32") -> dict[str, float]:
    """Return how far each output may differ; see ``differences``. Those of rounded weights from exact ones: freely."""
    return {"weights": _ROUNDING[weights], "outputs": _LIMITS[weights], _UNROUNDED: np.inf}


_UNROUNDED = "outputs from those of unrounded weights"


def differences(model: nn.Module, path: Path, *, weights: str = "fp32") -> dict[str, float]:
    """Run a model and its file on random and ragged input.

    Returns:
        ``weights``: between those in the file and those of the model: what rounding changes.
        ``outputs``: between the file and a PyTorch model with the weights in the file.
        And unless the weights are ``fp32``, between the file and the model: what rounding costs.

    Raises:
        MissingPackage: the library of ``gatewise.runtime`` was not built.
    """
    try:
        library()
    except UsageError as problem:
        raise MissingPackage(str(problem)) from None
    stored, own = read_tensors(path), {name: one.cpu().numpy() for name, one in weights_to_save(model).items()}
    if getattr(model.config, "tie_weights", False):
        stored["decoder.weight"] = stored["embedding.weight"]
    rounded = deepcopy(model).cpu().eval()
    rounded.load_state_dict({name: torch.from_numpy(array) for name, array in stored.items()})
    read = runtime.load(path)
    found, theirs = {"weights": max(gap(stored[name], own[name]) for name in own)}, _runtime_outputs(read, model)
    for name, expected in {"outputs": rounded, **({} if weights == "fp32" else {_UNROUNDED: model})}.items():
        found[name] = max(gap(one, other) for one, other in zip(theirs, _torch_outputs(expected), strict=True))
    return found


def _ids(model: LanguageModel) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).integers(len(model.vocabulary), size=(max(_LENGTHS), len(_LENGTHS)))


def _numbers(model: SequenceReader) -> list[npt.NDArray[np.float64]]:
    draw, scaling = np.random.default_rng(0), getattr(model, "scaling", None)
    x = [draw.standard_normal((T, model.rnn.input_size)) for T in _LENGTHS]
    if scaling is None or not scaling.x_mean:
        return x
    return [one * np.array(scaling.x_std) + np.array(scaling.x_mean) for one in x]


def _sentences(model: WordEncoder) -> list[list[str]]:
    """Draw words, of which some are only known by their characters."""
    draw, words = np.random.default_rng(0), [word for word in model.lexicon.tokens if word]
    characters = [one for one in model.alphabet.tokens if len(one) == 1] or ["a"]
    spelled = ["".join(draw.choice(characters, size)) for size in (1, 2, 5, 9)]
    return [[str(draw.choice(spelled if k % 3 == 2 else words)) for k in range(T)] for T in _LENGTHS]


def _runtime_outputs(read: Any, model: nn.Module) -> Arrays:
    if isinstance(model, LanguageModel):
        states = [read.initial_state() for _ in _LENGTHS]
        return [read.step(ids, states) for ids in _ids(model)]
    if isinstance(model, Tagger):
        found: Arrays = read.scores(_sentences(model))
        return found
    if isinstance(model, TextClassifier):
        return [read.predict_proba(_sentences(model))]
    if isinstance(model, SequenceClassifier):
        return [read.predict_proba(_numbers(model))]
    assert isinstance(model, SequenceRegressor)
    return [read.predict(_numbers(model))]


def _torch_outputs(model: nn.Module) -> Arrays:
    with in_eval_mode(model):
        if isinstance(model, LanguageModel):
            ids = torch.from_numpy(_ids(model)).to(model.device)
            return list(model(ids, model.initial_state(len(_LENGTHS)))[0].numpy(force=True))
        if isinstance(model, Tagger):
            return [one.numpy() for one in model.scores(_sentences(model))]
        if isinstance(model, TextClassifier):
            return [model.predict_proba(_sentences(model)).numpy()]
        if isinstance(model, SequenceClassifier):
            return [model.predict_proba(_numbers(model))]
        assert isinstance(model, SequenceRegressor)
        # One at a time: a model that is relative reads windows of one length.
        return [np.concatenate([model.predict(one[None]) for one in _numbers(model)])]
