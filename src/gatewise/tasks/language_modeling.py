"""Language modelling: the corpus, the training workload, evaluation, and the unigram baseline."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import Metrics, RunFolder, reading_for
from gatewise.config import TASKS, Config, DataConfig
from gatewise.config.tasks import PERPLEXITY
from gatewise.data.configured import find_text, open_corpus, with_rows
from gatewise.data.streams import TokenStream
from gatewise.data.text import read_lines
from gatewise.data.token_cache import TokenizedText, tokenize_file
from gatewise.data.tokenizer_file import vocabulary_json
from gatewise.errors import DataError, UsageError
from gatewise.models.language_model import LanguageModel
from gatewise.models.loading import load, save_weights
from gatewise.nn.recurrent import State
from gatewise.runtime.vocabulary import Vocabulary
from gatewise.tasks.task import Task, settled, tested
from gatewise.training.distributed import Group
from gatewise.training.feed import moved

PLURAL = {"word": "words", "character": "characters", "prose": "words"}


@dataclass(frozen=True)
class LanguageModelData:
    """A corpus as token ids, with the vocabulary of its training text."""

    vocabulary: Vocabulary
    texts: Mapping[str, TokenizedText]
    files: Mapping[str, Path]

    @classmethod
    def read(cls, files: Mapping[str, Path], settings: DataConfig) -> "LanguageModelData":
        """Read the three texts; the vocabulary is built from the training text."""
        vocabulary = Vocabulary.from_lines(read_lines(files["train"]), settings.level, settings.vocabulary_size)
        texts = {name: tokenize_file(file, vocabulary) for name, file in files.items()}
        check_scorable(texts["test"], files["test"])
        return cls(vocabulary, texts, files)

    def unigram_perplexity(self, split: str) -> float:
        """Return the perplexity of a split under a unigram model: ``p(v) = (count(v) + 1) / (N + V)``."""
        size = len(self.vocabulary)
        counts = _count(self.texts["train"].ids, size)
        seen = _count(self.texts[split].ids[1:], size)
        nll = -(seen * np.log((counts + 1) / (counts.sum() + size))).sum() / seen.sum()
        return float(np.exp(nll))


class LanguageModelTask(Task):
    """A language model run with its data loaded.

    Raises:
        UsageError: a setting has an unsupported value.
        DataError: the data is missing or invalid.
    """

    def __init__(self, config: Config) -> None:
        if not config.model.init_scale:
            raise UsageError("model.init_scale is 0, so the model cannot learn; expected a number above 0, such as 0.1")
        opened = open_corpus(config.data)
        what = PLURAL[opened.settings.level]
        self.notes = [
            *opened.notes,
            f"perplexity: the number of equally likely {what} that would be as hard to choose from; 1 is certainty",
        ]
        self.data = LanguageModelData.read(opened.parts, opened.settings)
        train, valid = (len(self.data.texts[split].ids) for split in ("train", "valid"))
        settings = with_rows(opened.settings, min(train, valid))
        self.config = settled(config, settings, train // (settings.batch_size * settings.tbptt_length))
        self.parts = self.data.texts

    @property
    def summary(self) -> str:
        """The numbers of training tokens and vocabulary entries."""
        data, what = self.data, PLURAL[self.config.data.level]
        reasons = [text.not_kept for text in data.texts.values() if text.not_kept]
        not_kept = f" ({reasons[0]})" if reasons else ""
        return f"{len(data.texts['train'].ids):,} {what} to train on, vocabulary {len(data.vocabulary):,}{not_kept}"

    def make_model(self) -> LanguageModel:
        """Create the model."""
        return LanguageModel(self.config.model, self.data.vocabulary, engine=self.config.runtime.engine)

    def write_parts(self, run: RunFolder) -> None:
        """Write the vocabulary."""
        write_atomically(run.tokenizer_file, vocabulary_json(self.data.vocabulary))

    def workload(self, model: torch.nn.Module, run: RunFolder, group: Group) -> "LanguageModelling":
        """Return a workload of windows over contiguous rows."""
        assert isinstance(model, LanguageModel)
        return LanguageModelling(self.config, self.data, model, run, group)

    def final(self, model: torch.nn.Module, run: RunFolder) -> Metrics:
        """Evaluate on the test text, and score the unigram baseline."""
        assert isinstance(model, LanguageModel)
        scores = score_text(model, self.data.texts["test"], self.data.files["test"])
        return {**tested(self.config, scores), "unigram_test_perplexity": self.data.unigram_perplexity("test")}


class LanguageModelling:
    """The training workload: windows over contiguous rows, with state carried from each window to the next."""

    def __init__(self, config: Config, data: LanguageModelData, model: LanguageModel, run: RunFolder, group: Group):
        self.config, self.model, self.run, self.group = config, model, run, group
        rows, settings = group.rows(config.data.batch_size), config.data
        sizes = (settings.batch_size, settings.tbptt_length, rows)
        self._train = TokenStream(data.texts["train"].ids, *sizes, str(data.files["train"]))
        self._valid = TokenStream(data.texts["valid"].ids, *sizes, str(data.files["valid"]))
        self.steps_per_epoch = len(self._train)
        self.token_name = PLURAL[settings.level]
        self._forward: torch.nn.Module = model
        if group.world_size > 1:
            self._forward = DistributedDataParallel(model)
        self._state = self._next = self.model.initial_state(self._train.batch_size)

    def tokens_in(self, step: int) -> int:
        """Return the batch size times the window length."""
        return self.config.data.batch_size * self.config.data.tbptt_length

    def begin_epoch(self, epoch: int) -> None:
        """Reset the carried state to zeros."""
        self._next = self.model.initial_state(self._train.batch_size)
        self._set_state(self._next)

    def inputs(self, step: int) -> tuple[Tensor, ...]:
        """Return inputs and targets of a window, (T, B) each."""
        return self._window(self._train, step)

    def _window(self, stream: TokenStream, index: int) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, stream[index]))

    def cost(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, float]:
        """Return the sum over the window's T steps of the mean over the batch, as Zaremba et al. minimise it."""
        ids, targets = inputs
        cost, self._next = self._forward(ids, self._state, targets)
        return cost, ids.shape[0]

    def carry_on(self, made: Tensor | None = None) -> None:
        """Detach the state after this window and carry it over to the next."""
        after = self._next.detach()
        if made is not None:
            kept = zip(after, self._state, strict=True)
            after = type(after)(*(torch.where(made, part, before) for part, before in kept))
        self._set_state(after)

    def _set_state(self, state: State) -> None:
        """Set the carried state; on a device, in place, for a captured step reads it."""
        if not self.group.runs_ahead:
            self._state = state
        else:
            torch._foreach_copy_(list(self._state), list(state))

    def carried(self) -> dict[str, Tensor]:
        """Gather the state of all rows, (L, B, H) each."""
        return {str(k): torch.cat(self.group.gather(part), dim=1) for k, part in enumerate(self._state)}

    def restore(self, carried: Mapping[str, Tensor]) -> None:
        """Restore this process's rows of a gathered state."""
        first = self._train.batch_size * self.group.rank
        rows = slice(first, first + self._train.batch_size)
        parts = [carried[str(k)][:, rows].to(self.group.device) for k in range(len(carried))]
        self._set_state(type(self._next)(*parts))

    def describe(self, loss: float) -> tuple[str, float]:
        """Return the perplexity, the ``exp`` of the mean nll."""
        return "perplexity", _exp(loss)

    @torch.no_grad()
    def validate(self) -> tuple[Metrics, float]:
        """Evaluate on the validation text in ``batch_size`` rows with carried state, in fp32."""
        self.model.eval()
        device, count = self.group.device, 0
        state, total_cost = self.model.initial_state(self._valid.batch_size), torch.zeros((), dtype=torch.float64)
        for window in range(len(self._valid)):
            inputs, targets = moved(self._window(self._valid, window), device)
            cost, state = self.model(inputs, state, targets)
            total_cost = total_cost.to(device) + cost.double() * inputs.shape[1]
            count += targets.numel()
        nll, total = self.group.sum(float(total_cost), count)
        perplexity = _exp(nll / total)
        return {TASKS["language-model"].evaluated: perplexity}, PERPLEXITY.to_minimize(perplexity)

    def save_best(self, facts: Mapping[str, int]) -> None:
        """Write ``model.safetensors``."""
        save_weights(self.model, self.run, self.config, facts)


def evaluate_language_model(
    run: RunFolder,
    config: Config,
    data: str | Path | None,
    split: str,
    device: torch.device,
    weights: str | None = None,
) -> dict[str, Any]:
    """Score every token of a split except the first, as one sequence with carried state, in fp32.

    Args:
        run: the run folder.
        config: the run's configuration.
        data: a folder with the split, or a text file; defaults to the run's own data.
        split: ``train``, ``valid`` or ``test``.
        device: the device to compute on.
        weights: score the text a second time, through a stream with weights stored in this way.

    Returns:
        ``perplexity, nll`` (nats per token), ``tokens`` (scored), ``oov_rate, data_hash``; of the second time
        ``weights, weights_perplexity, weights_nll, weights_ratio`` (of the perplexities, to that in fp32) and
        ``weights_bytes`` (what a step reads).

    Raises:
        UsageError: the model cannot be streamed in this way.
    """
    model = load(run.path, LanguageModel, device=device)
    stream = None if weights is None else model.stream(weights)  # before the data is read: it may be refused
    with reading_for(run, data):
        path = find_text(config.data, split, data)
    text = tokenize_file(path, model.vocabulary)
    figures = score_text(model, text, path)
    if stream is None:
        return figures
    nll = model.score_stepwise(text.ids, stream) / figures["tokens"]
    return {
        **figures,
        "weights": weights,
        "weights_perplexity": _exp(nll),
        "weights_nll": nll,
        "weights_ratio": _exp(nll - figures["nll"]),
        "weights_bytes": stream.bytes,
    }


def check_scorable(text: TokenizedText, path: Path) -> None:
    """Check that the text has a token after the first one.

    Raises:
        DataError: it has none.
    """
    if len(text.ids) < 2:
        raise DataError(f"{path}: {len(text.ids)} token; expected at least 2, since the first token is not predicted")


def score_text(model: LanguageModel, text: TokenizedText, path: Path) -> dict[str, Any]:
    """Return perplexity, nll, tokens, oov_rate and data_hash of one text."""
    check_scorable(text, path)
    nll, tokens = model.score(text.ids)
    return {
        "perplexity": _exp(nll / tokens),
        "nll": nll / tokens,
        "tokens": tokens,
        "oov_rate": text.oov_rate,
        "data_hash": text.data_hash,
    }


def _count(ids: npt.NDArray[np.unsignedinteger], size: int) -> npt.NDArray[np.int64]:
    """Count each id, reading the memory map in chunks."""
    total = np.zeros(size, dtype=np.int64)
    for start in range(0, len(ids), 1 << 20):
        total += np.bincount(ids[start : start + (1 << 20)], minlength=size)
    return total


def _exp(nll: float) -> float:
    return math.exp(nll) if nll < 700 else math.inf
