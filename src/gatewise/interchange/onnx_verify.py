"""A model beside its ONNX file on ONNX Runtime, on random and ragged input."""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gatewise.errors import MissingPackage
from gatewise.extras import import_extra
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_reader import SequenceReader
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.nn.words import WordBatch, WordEncoder

Arrays = Mapping[str, npt.NDArray[Any]]
STEPS, ROWS = (1, 7), (1, 3)
"""T and B of the input. Of 3 rows, one has length 0 and one is shorter than T; a row alone is whole, then empty."""


def session(path: Path) -> Any:
    """Open a file in ONNX Runtime, on the CPU.

    Raises:
        MissingPackage: ONNX Runtime is not installed.
    """
    try:
        runtime = import_extra("onnxruntime", "onnxruntime", "")
    except MissingPackage:
        raise MissingPackage(
            "comparing an ONNX file with its model needs onnxruntime, which is not installed"
        ) from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@torch.no_grad()
def output_differences(model: nn.Module, path: Path) -> dict[str, float]:
    """Run a model and its file on the same input; return the largest difference of each output.

    Each is relative to the largest output, but at least to 1.

    Raises:
        MissingPackage: ONNX Runtime is not installed.
    """
    running = session(path)
    names = [value.name for value in running.get_outputs()]
    step = "lengths" not in {value.name for value in running.get_inputs()}
    found = dict.fromkeys(names, 0.0)
    generator = torch.Generator().manual_seed(0)
    for T, B in product((1,) if step else STEPS, ROWS):
        for lengths in ([T],) if step and B == 1 else ([T], [0]) if B == 1 else ([T, 0, (T + 1) // 2],):
            feed, expected = _case(model, generator, T, B, torch.tensor(lengths), step)
            for name, theirs in zip(names, running.run(names, dict(feed)), strict=True):
                found[name] = max(found[name], gap(theirs, expected[name]))
    return found


def _case(
    model: nn.Module, generator: torch.Generator, T: int, B: int, lengths: Tensor, step: bool
) -> tuple[Arrays, Arrays]:
    """Draw input; return it as the graph takes it, and the model's own outputs by the graph's names."""
    feed = {} if step else {"lengths": lengths}
    if isinstance(model, LanguageModel):
        state = [torch.randn(part.shape, generator=generator) for part in model.initial_state(B)]
        ids = torch.randint(len(model.vocabulary), (T, B), generator=generator)
        y, after = model.features(ids, model.rnn._state_kind(*state), None if step else lengths)
        logits = model.decoder(y)
        parts = model.rnn.spec.about.states
        feed |= {"ids": ids[0] if step else ids, **{f"{p}_0": s for p, s in zip(parts, state, strict=True)}}
        out = {"logits": logits[0] if step else logits, **{f"{p}_n": s for p, s in zip(parts, after, strict=True)}}
    elif isinstance(model, SequenceReader):
        x = torch.randn(T, B, model.rnn.input_size, generator=generator)
        if isinstance(model, SequenceRegressor):
            x = x.double()
            if model.scaling.x_mean:
                x = x * x.new_tensor(model.scaling.x_std) + x.new_tensor(model.scaling.x_mean)
            out = {"predictions": model(x.transpose(0, 1), lengths=lengths)}
        else:
            out = {"probabilities": model(x.transpose(0, 1), lengths=lengths).softmax(1)}
        feed |= {"x": x}
    else:
        assert isinstance(model, WordEncoder)
        batch = _sentences(model, generator, T, B, lengths)
        feed |= {"words": batch.words}
        if model.characters is not None:
            feed |= {name: getattr(batch, name) for name in ("forms", "spellings", "spelling_lengths")}
        if isinstance(model, Tagger):
            out = {"scores": model.decoder(model.features(batch))}
            out |= dict(model.crf.named_parameters()) if model.crf is not None else {}
        else:
            out = {"probabilities": model(batch).softmax(1)}
    return dict(_arrays(feed)), {name: value.numpy() for name, value in out.items()}


def _sentences(model: WordEncoder, generator: torch.Generator, T: int, B: int, lengths: Tensor) -> WordBatch:
    """Draw words, and four spellings of which one is empty."""
    words, spelled = (
        torch.randint(count, shape, generator=generator)
        for count, shape in ((len(model.lexicon), (T, B)), (len(model.alphabet), (3, 4)))
    )
    forms = torch.randint(4, (T, B), generator=generator)
    return WordBatch(words, lengths, forms, spelled, torch.tensor([3, 1, 0, 2]))


def _arrays(feed: Mapping[str, Tensor]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, value in feed.items():
        array = value.numpy()
        yield name, array.astype(np.int32) if name.endswith("lengths") else array


def gap(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest entry, but at least to 1; infinity if it is not finite."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return math.inf
    if not found.size:
        return 0.0
    difference = np.abs(found.astype(np.float64) - expected).max() / max(np.abs(expected).max(), 1.0)
    return float(difference) if math.isfinite(difference) else math.inf
