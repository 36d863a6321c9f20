"""``gatewise evaluate``."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Split(str, Enum):
    """A split of the corpus."""

    train = "train"
    valid = "valid"
    test = "test"


class Weights(str, Enum):
    """The storage types of streamed weights."""

    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    data: Annotated[
        Path | None, typer.Option(help="A folder or a file as for train; - is standard input.  [the run's own data]")
    ] = None,
    split: Annotated[Split | None, typer.Option(help="The split.  [test; train if the run has no test]")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse labels that do not occur in the training data.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(help="Write the forecasts of a series: each origin and step, as .csv.")
    ] = None,
    weights: Annotated[
        Weights | None, typer.Option(help="Score a language-model with its weights stored in this way, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Evaluate a run's best weights on a split of its data, in fp32.

    A language-model is scored on every token except the first, as one sequence with carried state; a
    scratch-language-model on each sentence separately; a tagger on words, a classifier on sequences, a regressor on
    values. A series is forecast from every step of the split, or of the whole file of --data, with the weights
    unchanged (a rolling origin); the table shows the errors by step, beside the baselines.

    With --weights, a language-model is scored once more, one token at a time on the CPU, with its weights stored as
    in a stream: bf16 or int8, which need a half and a quarter of the memory. The second line shows what they cost.
    """
    from gatewise.artifact.run_folder import RunFolder, to_json
    from gatewise.cli.figures import evaluation_lines
    from gatewise.cli.output import remark, write
    from gatewise.tasks.evaluate import evaluate

    figures = evaluate(
        run,
        data=data,
        split=split.value if split else None,
        strict=strict,
        save=save and save.expanduser(),
        weights=weights.value if weights else None,
    )
    final = (RunFolder.existing(run).read_history().final if data is None else None) or {}
    if figures["data_hash"] != final.get(f"{figures['split']}_data_hash", figures["data_hash"]):
        remark("the data has changed since training: the model may have been trained on some of these examples")
    if as_json:
        write(to_json(figures))
    else:
        for line in evaluation_lines(figures):
            write(line)
