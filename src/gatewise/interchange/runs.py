"""Run folders made from files of other frameworks, and files of other frameworks made from run folders."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.card import imported_card
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config, DataConfig, ModelConfig
from gatewise.data.text import read_lines
from gatewise.data.tokenizer_file import vocabulary_json
from gatewise.errors import DataError, MissingPackage, NotVerified, UsageError
from gatewise.files import file_hash
from gatewise.interchange.carried import CarriedRun
from gatewise.interchange.formats import check_options, format_named, format_of, framework_of, staged
from gatewise.interchange.model import ModelWeights
from gatewise.models.language_model import LanguageModel
from gatewise.models.loading import load, save_weights
from gatewise.runtime.vocabulary import EOS, UNK, Vocabulary
from gatewise.wording import option

TOLERANCE = 1e-5
"""How far outputs in float32 may differ, relative to the largest, but at least to 1."""


def import_run(
    path: str | Path,
    out: str | Path,
    framework: str | None = None,
    *,
    vocabulary: str | Path | None = None,
    **options: Any,
) -> RunFolder:
    """Make a run folder from a file of another framework. It has no metrics; evaluating it needs data.

    A language model is an embedding, a stack in one direction, and a decoder with an output for each word.

    Args:
        path: the file.
        out: the run folder to create.
        framework: a name in ``FORMATS``; None if the file identifies itself.
        vocabulary: a text file with one token a line, in the order of the ids; of a language model.
        options: those of the format; one that is None counts as not given.

    Raises:
        DataError: the file or the vocabulary is missing or damaged, or holds no model of a task of Gatewise.
        UsageError: there is no such framework, an option is missing or does not apply, or ``out`` is in use.
    """
    path, run = Path(path).expanduser(), RunFolder(out)
    run.check_free(resume=False)
    found = format_of(path, framework, "from")
    name = framework_of(found)
    given = check_options(found.load_model, name, options)
    load_run = getattr(found, "load_run", None)
    carried = load_run(path) if load_run is not None else None
    if carried is None:
        carried = _of_weights(found.load_model(path, **given), path, vocabulary)
    elif vocabulary is not None:
        raise UsageError(f"{option('vocabulary', vocabulary)}: {path} holds a run of Gatewise with its words; omit it")
    config, model = carried.config, carried.model
    with run.claim(resume=False):
        try:
            for part in run.parts:
                if part.name in carried.parts:
                    write_atomically(part, carried.parts[part.name])
            save_weights(model, run, config, {"imported": {"framework": name, "file": path.name}})
            if carried.intervals is not None:  # they belong to the same weights, in another file
                own = replace(carried.intervals, weights=file_hash(run.weights_file))
                write_atomically(run.intervals_file, own.to_json())
            count = sum(parameter.numel() for parameter in model.parameters())
            write_atomically(run.card_file, imported_card(run.path, config, name, path, count))
            run.write_config(config)  # last: without it, the folder is no run
        except BaseException:
            for written in (run.config_file, run.card_file, run.intervals_file, run.weights_file, *run.parts):
                written.unlink(missing_ok=True)
            raise
    return run


def export_run(run: str | Path, out: str | Path, framework: str, **options: Any) -> tuple[Mapping[str, float], str]:
    """Write the model of a run in the format of another framework, and compare both on random and ragged input.

    Args:
        run: the run folder.
        out: the file; an existing one is replaced.
        framework: a name in ``FORMATS``.
        options: those of the format; one that is None counts as not given.

    Returns:
        The largest difference of each output by its name, relative to the largest output, but at least to 1; and, if
        the other framework is not installed, why nothing was compared.

    Raises:
        RunError: the run folder is invalid.
        UsageError: there is no such framework, it does not take an option, or cannot hold this model.
        NotVerified: a difference exceeds ``TOLERANCE``; no file is kept.
    """
    found, path = format_named(framework, "to"), Path(out).expanduser()
    given = check_options(found.save_model, framework, options)
    model = load(run)
    differences, reason = dict[str, float](), ""
    with staged(path) as beside:
        save_run = getattr(found, "save_run", None)
        if save_run is not None:
            save_run(RunFolder(run), model, beside, **given)
        else:
            found.save_model(model, beside, **given)
        try:
            differences = dict(found.differences(model, beside))
        except MissingPackage as problem:
            reason = str(problem)
        for name, difference in differences.items():
            if not difference <= TOLERANCE:
                raise NotVerified(
                    f"{path}: {name} differ by {difference:.1e} in {framework}; expected at most {TOLERANCE:.0e}: the "
                    "file is not kept"
                )
    return differences, reason


def _of_weights(weights: ModelWeights, path: Path, vocabulary: str | Path | None) -> CarriedRun:
    """Return the run of a language model, whose words are in a file.

    Raises:
        DataError: the weights are not those of a language model, or the vocabulary is missing or damaged.
        UsageError: there is no vocabulary.
    """
    config = _config_of(weights, path)
    if vocabulary is None:
        raise UsageError(
            f"{path}: a language model, whose file does not hold its words; add {option('vocabulary', 'FILE')}, a text "
            "with one token a line, in the order of the ids"
        )
    assert weights.embedding is not None
    words = read_vocabulary(Path(vocabulary).expanduser(), len(weights.embedding))
    parts = {"tokenizer.json": vocabulary_json(words).encode()}
    return CarriedRun(config, parts, _language_model(weights, config, words))


def read_vocabulary(path: Path, size: int) -> Vocabulary:
    """Read a text file with one token a line.

    Args:
        path: the file.
        size: V, the number of words of the model.

    Raises:
        DataError: it is missing or no text, a line is empty, repeated or has white space, there are not V lines, or
            ``<eos>`` or ``<unk>`` is missing.
    """
    seen = dict[str, int]()
    for number, token in enumerate(read_lines(path, kept=True), 1):
        if number > size:
            raise DataError(f"{path}: more than {size:,} lines; expected one for each word of the model, {size:,}")
        if not token or token.split() != [token]:
            raise DataError(f"{path}:{number}: {token!r:.100} is not one token; expected one a line, without spaces")
        if (before := seen.setdefault(token, number)) != number:
            raise DataError(
                f"{path}:{number}: {token!r:.100} stands in line {before} already; expected each token once"
            )
    if len(seen) < size:
        raise DataError(f"{path}: {len(seen):,} lines; expected one for each word of the model, {size:,}")
    for special, use in ((EOS, "which ends each line"), (UNK, "as which other words are read")):
        if special not in seen:
            raise DataError(f"{path}: no line {special}, {use}; name the model's token for it so")
    return Vocabulary(list(seen))


def _config_of(weights: ModelWeights, path: Path) -> Config:
    """Return the configuration of the run for a model.

    Raises:
        DataError: there is no task for it.
    """
    spec, embedding, decoder = weights.stack.spec, weights.embedding, weights.decoder_weight
    if embedding is None and decoder is None:
        raise DataError(
            f"{path}: a bare {spec.cell} stack, which has no task; expected a model with an embedding and a decoder; "
            "load a stack in Python, with gatewise.interchange.load_stack"
        )
    what = "expected a language model: an embedding, a stack in one direction without a projection, a decoder"
    if embedding is None or decoder is None:
        raise DataError(f"{path}: no {'embedding' if embedding is None else 'decoder'} beside the stack; {what}")
    if spec.bidirectional or spec.proj_size:
        raise DataError(f"{path}: {'a bidirectional stack' if spec.bidirectional else 'a projection'}; {what}")
    if len(embedding) != len(decoder):
        raise DataError(f"{path}: {len(embedding):,} words are read and {len(decoder):,} predicted; {what}")
    return Config(
        data=DataConfig(level="word"),
        model=ModelConfig(
            cell=spec.cell,  # type: ignore[arg-type]
            hidden_size=spec.hidden_size,
            num_layers=spec.num_layers,
            embedding_size=0 if weights.tied else spec.input_size,
            dropout=0.0,
            forget_bias=0.0,
            tie_weights=weights.tied,
        ),
    )


def _language_model(weights: ModelWeights, config: Config, vocabulary: Vocabulary) -> LanguageModel:
    """Return the model of checked weights; biases that the file does not have are zeros."""
    with torch.device("meta"):
        model = LanguageModel(config.model, vocabulary)
    given = {"embedding.weight": weights.embedding, "decoder.weight": weights.decoder_weight}
    given |= {"decoder.bias": weights.decoder_bias}
    given |= {f"rnn.{name}": array for name, array in weights.stack.arrays().items()}
    state = {
        name: torch.zeros(tensor.shape) if (array := given.get(name)) is None else torch.from_numpy(np.array(array))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)
    if config.model.tie_weights:
        model.decoder.weight = model.embedding.weight
    return model.eval()
