"""Converts a text or file to the step-by-step input of a model's recurrent stack, with a name for each step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatewise.data.sequence_files import read_sequence_file, read_true_label
from gatewise.data.text import read_lines
from gatewise.errors import DataError, UsageError
from gatewise.files import spooled
from gatewise.inspection.trace import stack_input
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_reader import SequenceReader
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.models.text_classifier import TextClassifier
from gatewise.runtime.level import split_lines
from gatewise.wording import option


@dataclass(frozen=True)
class Steps:
    """One input sequence for a recurrent stack.

    Attributes:
        x: the stack's input, (T, 1, I).
        names: the names of the T steps.
        kind: the unit of a step.
        numbers: the raw numbers, (T, I), for numeric input.
    """

    x: Tensor
    names: list[str]
    kind: str
    numbers: npt.NDArray[np.floating] | None = None


def read_text(model: nn.Module, text: str) -> Steps:
    """Return a text as model input; a language model reads it after ``<eos>`` or ``<bos>``.

    Raises:
        UsageError: the text is empty, has several sentences for a model of single ones, or the model reads numbers.
    """
    if not text.strip():
        raise UsageError("the text is empty; expected at least one word")
    if isinstance(model, LanguageModel):
        sequences = model.vocabulary.sequences(text)
        if len(sequences) > 1:
            raise UsageError(f"the text has {len(sequences)} sentences, this model reads one at a time; give only one")
        ids = torch.tensor(sequences[0][:-1], device=model.device)[:, None]
        x = stack_input(model.rnn, lambda: model.features(ids, model.initial_state()))
        kind = "character" if model.vocabulary.level == "character" else "word"
        return Steps(x, [model.vocabulary.tokens[k] for k in ids[:, 0].tolist()], kind)
    if isinstance(model, Tagger):
        (words,) = split_lines([" ".join(text.split())])
        return Steps(stack_input(model.rnn, lambda: model.tag_probabilities([words])), words, "word")
    if isinstance(model, TextClassifier):
        words = model.split(text)
        kind = "character" if model.level == "character" else "word"
        return Steps(stack_input(model.rnn, lambda: model.predict_proba([words])), words, kind)
    raise UsageError(f"a {type(model).__name__} reads numbers, not text; give a FILE with an image or arrays")


def read_numbers(model: SequenceReader, numbers: npt.NDArray[np.floating]) -> Steps:
    """Return one sequence (T, I) as model input, scaled to the units of a regressor."""
    given: Any = model
    call = given.predict if not hasattr(given, "predict_proba") else given.predict_proba
    x = stack_input(model.rnn, lambda: call(torch.from_numpy(numbers[None])))
    return Steps(x, [str(t + 1) for t in range(len(numbers))], "row" if hasattr(given, "labels") else "step", numbers)


def read_file(
    model: nn.Module, path: Path, index: int | None = None, *, resize: bool = False, invert: bool = False
) -> tuple[Steps, str]:
    """Return the sequence in a file and its name: a UTF-8 text, or a sequence as read by ``read_sequence``."""
    if isinstance(model, SequenceReader):
        numbers, name, _ = read_sequence(model, path, index, resize=resize, invert=invert)
        return read_numbers(model, numbers), name
    with spooled(path) as file:
        text = "\n".join(read_lines(file, kept=True)).strip()
    if not text:
        raise DataError(f"{path}: contains no words; expected text")
    return read_text(model, text), path.name


def read_sequence(
    model: SequenceReader, path: Path, index: int | None = None, *, resize: bool = False, invert: bool = False
) -> tuple[npt.NDArray[np.floating], str, str | None]:
    """Return one sequence from a file, (T, I), its name, and its true label if the data has it.

    Args:
        model: the model that reads it.
        path: an image, or arrays.
        index: the index of the sequence if the file holds several, from 0.
        resize: resize an image to the size the model expects.
        invert: invert the brightness of an image.

    Raises:
        UsageError: the index is out of range, or missing although the file holds several sequences.
        DataError: the file or its labels cannot be read, or the size does not match.
    """
    width, steps = model.rnn.input_size, getattr(model, "steps", None)
    wide = isinstance(model, SequenceRegressor)  # it standardises its input
    sequences, _, lengths = read_sequence_file(path, steps, width, resize=resize, invert=invert, wide=wide)
    if index is None and len(sequences) > 1:
        raise UsageError(
            f"{path}: {len(sequences):,} sequences; choose one with {option('index', 'K')}, 0 to {len(sequences) - 1}"
        )
    if index is not None and not 0 <= index < len(sequences):
        raise UsageError(f"{path}: no sequence {index}; {option('index')} ranges from 0 to {len(sequences) - 1}")
    one = sequences[index or 0][: None if lengths is None else lengths[index or 0]]
    classes = [str(label) for label in getattr(model, "labels", ())]
    true = read_true_label(path, index or 0, len(sequences), classes) if classes else None
    return one, path.name if len(sequences) == 1 else f"{path.name}[{index}]", true
