"""Run folders made from files of other frameworks, and files of other frameworks made from run folders."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.card import imported_card
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.data.text import read_lines
from gatewise.errors import DataError, MissingPackage, NotVerified, UsageError
from gatewise.files import file_hash
from gatewise.interchange.composition import compose, config_of
from gatewise.interchange.formats import check_options, format_named, format_of, framework_of, staged, taken_by
from gatewise.interchange.model import ModelWeights
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

    A language model is an embedding, a stack in one direction, and a decoder with an output for each word. A classifier
    reads sequences of numbers and has a softmax of what its decoder makes of the last state; a regressor, one number.
    The labels of a classifier are 0 … C − 1.

    Args:
        path: the file.
        out: the run folder to create.
        framework: a name in ``FORMATS``; None if the file identifies itself.
        vocabulary: of a language model, a text file with one token a line, in the order of the ids; or its training
            text, whose words are counted as ``Vocabulary`` does.
        options: those of the format; one that is None counts as not given.

    Raises:
        DataError: the file or the vocabulary is missing or damaged, or holds no model of a task of Gatewise.
        UsageError: there is no such framework, an option is missing or does not apply, or ``out`` is in use.
    """
    path, run = Path(path).expanduser(), RunFolder(out)
    if run.config_file.exists():
        raise UsageError(f"{run.path} contains another run; choose another {option('out')}")
    run.check_free(resume=False)
    found = format_of(path, framework, "from")
    name = framework_of(found)
    given = check_options(found.load_model, name, options)
    load_run = getattr(found, "load_run", None)
    carried = load_run(path) if load_run is not None else None
    if carried is None:
        weights = found.load_model(path, **given)
        config = config_of(weights, path)
        carried = compose(weights, config, _words(weights, config, path, vocabulary))
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


def _words(weights: ModelWeights, config: Config, path: Path, vocabulary: str | Path | None) -> Vocabulary | None:
    """Return the words of a language model; None for a model of numbers."""
    if config.task.name != "language-model":
        if vocabulary is not None:
            raise UsageError(
                f"{option('vocabulary', vocabulary)}: {path} holds a {config.task.name} of numbers, not words; omit it"
            )
        return None
    if vocabulary is None:
        raise UsageError(
            f"{path}: a language model, whose file does not hold its words; add {option('vocabulary', 'FILE')}, a text "
            "with one token a line, in the order of the ids, or the training text"
        )
    assert weights.embedding is not None
    return read_vocabulary(Path(vocabulary).expanduser(), len(weights.embedding))


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
        NotVerified: a difference exceeds ``TOLERANCE``, or what the format says of it; no file is kept.
    """
    found, path = format_named(framework, "to"), Path(out).expanduser()
    save_run = getattr(found, "save_run", None)
    given = check_options(save_run or found.save_model, framework, options)
    limits_of = getattr(found, "limits", None)
    model = load(run)
    differences, reason = dict[str, float](), ""
    with staged(path) as beside:
        if save_run is not None:
            save_run(RunFolder(run), model, beside, **given)
        else:
            found.save_model(model, beside, **given)
        try:
            differences = dict(found.differences(model, beside, **taken_by(found.differences, given)))
        except MissingPackage as problem:
            reason = str(problem)
        limits = {} if limits_of is None else limits_of(**taken_by(limits_of, given))
        for name, difference in differences.items():
            if not difference <= (most := limits.get(name, TOLERANCE)):
                raise NotVerified(
                    f"{path}: {name} differ by {difference:.1e} in {framework}; expected at most {most:.0e}: the file "
                    "is not kept"
                )
    return differences, reason


def read_vocabulary(path: Path, size: int) -> Vocabulary:
    """Read a text file with one token a line or, if its first line has several, a training text, and count its words.

    Args:
        path: the file.
        size: V, the number of words of the model.

    Raises:
        DataError: it is missing or no text; a training text does not have V words; or, of one token a line, one is
            empty, repeated or has white space, there are not V, or ``<eos>`` or ``<unk>`` is missing.
    """
    first = next(read_lines(path), "")
    if len(first.split()) > 1:
        counted = Vocabulary.from_lines(read_lines(path))
        if len(counted) != size:
            raise DataError(
                f"{path}: a text with {len(counted):,} different words, {EOS} and {UNK} included; expected the "
                f"training text of the model, with {size:,}, or one token a line"
            )
        return counted
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
