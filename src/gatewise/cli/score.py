"""``gatewise score``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder, or a model.gatewise.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN...", help="Tables (.parquet, .csv, .tsv, .jsonl), texts with one per line (.txt), or folders."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write; scores in it that are finished are kept.")],
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column to read.  [text or x, or the only one that fits]")
    ] = None,
    prefix: Annotated[str, typer.Option(metavar="NAME_", help="What the names of the new columns begin with.")] = "",
    weights: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="Of a run folder: fp32, bf16 or int8.  [fp32]")
    ] = None,
) -> None:
    """Score each row of large files, one fragment at a time, with one thread and without PyTorch.

    Each row is written with what the model says about it: of a language model, nll, tokens and perplexity; of a tagger,
    words and tags; of a classifier, label, probability and probabilities; of a regressor, prediction. The folder gets a
    Parquet file for each row group of Parquet or 16,384 rows of text, in order. Run the same command again after an
    interruption: finished files are kept.
    """
    from gatewise.cli.output import remark, write
    from gatewise.predict.score import score

    done = score(run, files, out, column=column, weights=weights, prefix=prefix, note=remark)
    kept = f", {done.kept:,} kept from before" if done.kept else ""
    nulls = f", {done.nulls:,} without input" if done.nulls else ""
    fragments = f"{done.fragments:,} fragment{'s' * (done.fragments != 1)}"
    write(f"scored {done.rows:,} row{'s' * (done.rows != 1)}{nulls} in {fragments}{kept}: {out}")
