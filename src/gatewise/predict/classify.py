"""Classification of files (images, arrays or texts) with a run's best model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gatewise.artifact.run_folder import RunFolder, reading_for
from gatewise.data.labelled import read_texts
from gatewise.data.sequence_files import read_sequence_file
from gatewise.errors import UsageError
from gatewise.models.loading import load
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.text_classifier import TextClassifier
from gatewise.runtime.answers import Verdict as Verdict
from gatewise.wording import option


def classify(
    run: str | Path,
    files: Sequence[Path],
    *,
    resize: bool = False,
    invert: bool = False,
    over_time: bool = False,
    note: Callable[[str], object] = lambda line: None,
) -> list[Verdict]:
    """Classify the contents of files; all files are read before the first prediction.

    Args:
        run: a classifier's run folder.
        files: images (``data/images.py`` lists the formats) or arrays of sequences; for a text model, tables with the
            text column that it was trained on, or texts with one text per line, from a pipe or, as ``-``, standard
            input. Empty texts are left out.
        resize: resize images to the size the model expects.
        invert: invert the brightness of images.
        over_time: predict after each step.
        note: called with a line for each file that says how many of its texts are empty, if any are.

    Raises:
        UsageError: the run belongs to another task.
        DataError: a file is invalid.
    """
    model = load(run)
    if isinstance(model, TextClassifier):
        if resize or invert:
            switches = f"{option('resize', True)} and {option('invert', True)}"
            raise UsageError(f"{switches} apply to images; this model reads texts, omit them")
        return _classify_texts(model, _texts(RunFolder.existing(run), files, note), over_time)
    if not isinstance(model, SequenceClassifier):
        raise UsageError(f"{run}: its model is a {type(model).__name__}; expected a classifier's run")
    resize = resize or RunFolder.existing(run).read_config().data.image_size > 0  # as the training pictures were
    inputs = [read_sequence_file(file, model.steps, model.input_size, resize=resize, invert=invert) for file in files]
    verdicts = []
    for file, (x, _, lengths) in zip(files, inputs, strict=True):
        if over_time:
            p: Sequence[npt.NDArray[np.floating]] = list(model.predict_proba_over_time(x))
            if lengths is not None:
                p = [model.predict_proba_over_time(one[None, :steps])[0] for one, steps in zip(x, lengths, strict=True)]
        else:
            p = list(model.predict_proba(x, lengths=lengths)[:, None])
        names = [str(file)] if len(x) == 1 else [f"{file}[{k}]" for k in range(len(x))]
        verdicts += [Verdict(name, model.labels, rows) for name, rows in zip(names, p, strict=True)]
    return verdicts


def _texts(run: RunFolder, files: Sequence[Path], note: Callable[[str], object]) -> Iterator[tuple[str, str]]:
    """Yield the name and the content of each text that is not empty."""
    column = run.read_config().data.column
    for file in files:
        with reading_for(run, file):
            found = read_texts(file, column)
        texts = [(line, text) for line, text in found if text.strip()]
        if empty := [line for line, text in found if not text.strip()]:
            note(
                f"{file}: skipped {len(empty):,} of {len(found):,} texts, which are empty, the first in line {empty[0]}"
            )
        yield from ((f"{file}:{line}", text) for line, text in texts)


def _classify_texts(model: TextClassifier, texts: Iterable[tuple[str, str]], over_time: bool) -> list[Verdict]:
    named = list(texts)
    if over_time:
        p = [model.predict_proba_over_time(text).numpy() for _, text in named]
    else:
        p = [row[None] for row in model.predict_proba([text for _, text in named]).numpy()]
    return [Verdict(name, model.labels, rows) for (name, _), rows in zip(named, p, strict=True)]
