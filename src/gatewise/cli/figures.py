"""Formatting of metrics and remarks as the lines that commands print."""

import csv
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from gatewise.cli.steps import step_lines
from gatewise.config.tasks import ACCURACY, BASELINES, PERPLEXITY, RMSE
from gatewise.printable import cell


def evaluation_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return what ``evaluate`` prints: the metric, the number of tokens and the data's hash, on one line."""
    data = f"data {figures['data_hash'][:12]}"
    over = f"over {figures['tokens']:,}"
    unknown = f"out of vocabulary {100 * figures['oov_rate']:.2f}%; " if figures["task"] in _WITH_WORDS else ""
    if "perplexity" in figures:
        lines = [
            f"{figures['split']} perplexity {figures['perplexity']:.2f} (nll {figures['nll']:.4f} nats per token) "
            f"{over} tokens; {unknown}{data}"
        ]
        if "weights" in figures:
            lines.append(
                f"with {figures['weights']} weights {figures['weights_perplexity']:.2f} (nll "
                f"{figures['weights_nll']:.4f}), {figures['weights_ratio']:.4f} times that; a step reads "
                f"{figures['weights_bytes'] / 1e6:,.2f} MB of weights"
            )
    elif "rmse" in figures:
        lines = [f"{figures['split']} RMSE {figures['rmse']:.4g}, MAE {figures['mae']:.4g} {over} values; {data}"]
    elif "accuracy_unseen" in figures:
        lines = [
            f"{figures['split']} accuracy {100 * figures['accuracy']:.2f}% {over} words, of words not seen in training "
            f"{_percent(figures['accuracy_unseen'])}; {unknown}{data}"
        ]
        lines.append(f"baseline: accuracy {100 * figures['baseline_accuracy']:.2f}% (always the most frequent tag)")
    else:
        lines = [f"{figures['split']} accuracy {100 * figures['accuracy']:.2f}% {over} examples; {unknown}{data}"]
        lines.append(f"baseline: accuracy {100 * figures['baseline_accuracy']:.2f}% (always the most frequent label)")
    if strange := figures.get("unknown_labels"):
        some = "1 of them has a label" if strange == 1 else f"{strange:,} of them have labels"
        lines.append(f"{some} that the training data lacks; each counts as an error")
    lines += [*_entity_lines(figures), *_label_lines(figures), *_mistake_lines(figures), *step_lines(figures)]
    if figures["split"] == "train":
        lines.append("this is what the run was trained on; to evaluate on new data, give another --data")
    return lines


def result_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return what ``train`` prints for the final metrics: the metric and the baselines."""
    best = f"epoch {metrics['best_epoch']} was best"
    if "best_step" in metrics:
        best = f"step {metrics['best_step']:,} was best"
    if "train_loss" in metrics:
        return [
            f"train loss {metrics['train_loss']:.4f} nats per token over {metrics['train_tokens']:,} tokens ({best}; "
            f"out of vocabulary {100 * metrics['train_oov_rate']:.2f}%; data {metrics['train_data_hash'][:12]})",
            f"baseline: {metrics['unigram_train_loss']:.4f} ({_NAMES['unigram']}); no other text was scored",
        ]
    over = f"over {metrics['test_tokens']:,}"
    data = f"data {metrics['test_data_hash'][:12]}"
    if "test_perplexity" in metrics:
        return [
            f"test perplexity {metrics['test_perplexity']:.2f} {over} tokens ({best}; out of vocabulary "
            f"{100 * metrics['test_oov_rate']:.2f}%; {data})",
            f"baseline: perplexity {metrics['unigram_test_perplexity']:.2f} ({_NAMES['unigram']})",
        ]
    if "test_rmse" in metrics:
        lines = [f"test RMSE {metrics['test_rmse']:.4g}, MAE {metrics['test_mae']:.4g} {over} values ({best}; {data})"]
    elif "test_accuracy_unseen" in metrics:
        lines = [
            f"test accuracy {100 * metrics['test_accuracy']:.2f}% {over} words, of words not seen in training "
            f"{_percent(metrics['test_accuracy_unseen'])} ({best}; {data})"
        ]
        if "test_entity_f1" in metrics:
            lines.append(f"test F1 of entities {_percent(metrics['test_entity_f1'])}")
            lines.append(
                f"baseline: F1 of entities {_percent(metrics['commonest_tag_test_entity_f1'])} "
                f"({_NAMES['commonest_tag']})"
            )
    else:
        lines = [f"test accuracy {100 * metrics['test_accuracy']:.2f}% {over} examples ({best}; {data})"]
    for key, value in metrics.items():
        if key.endswith(BASELINES):
            name, _, metric = key.partition("_test_")
            shown = f"accuracy {100 * value:.2f}%" if metric == ACCURACY.name else f"RMSE {value:.4g}"
            lines.append(f"baseline: {shown} ({baseline_name(name)})")
    return lines


_NAMES = {
    "unigram": "a unigram model, word frequencies alone",
    "majority": "always the most frequent label",
    "commonest_tag": "each word's most frequent tag",
    "logistic_regression": "logistic regression on word counts",
    "mean": "always the mean",
    "persistence": "the last known value",
    "seasonal_naive": "the value one season before",
    "always_1": "always 1",
}


def baseline_name(name: str) -> str:
    """Return a baseline's name in words, from its name in the metrics, such as ``majority``."""
    order = name.removeprefix("autoregression_")
    return f"autoregression of order {order}" if order != name else _NAMES.get(name, name.replace("_", " "))


def baseline_line(metrics: Mapping[str, Any]) -> str | None:
    """Return a remark if a finished run is no better than its simplest baseline, or None."""
    for metric, name in _SIMPLEST:
        own = f"test_{metric.name}"
        baseline = f"{name}_{own}"
        if own not in metrics or baseline not in metrics or (metric is ACCURACY and metrics[own] == 1):
            continue
        if metric.to_minimize(metrics[own]) >= metric.to_minimize(metrics[baseline]):
            return (
                f"this model is no better than its baseline ({baseline_name(name)}): there may be too few examples, "
                "too few epochs (training.epochs) or too high a learning rate (training.learning_rate), or the input "
                "may not determine the answer"
            )
    return None


_SIMPLEST = (
    (PERPLEXITY, "unigram"),
    (ACCURACY, "majority"),
    (ACCURACY, "commonest_tag"),
    (RMSE, "mean"),
    (RMSE, "persistence"),
    (RMSE, "seasonal_naive"),
)
"""The simplest baselines of each metric."""


_WITH_WORDS = ("language-model", "scratch-language-model", "tagger", "text-classifier")
_MOST_LABELS = 40
_MOST_MISTAKES = 3


def _entity_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return precision, recall and F1 of all entities, and the F1 of each type."""
    if "entity_f1" not in figures:
        return []
    shares = (f"{name} {_percent(figures[f'entity_{name.lower()}'])}" for name in ("precision", "recall", "F1"))
    start = "entity_f1_"
    each = (
        f"{cell(key.removeprefix(start))} {_percent(value)}" for key, value in figures.items() if key.startswith(start)
    )
    types = f"; F1 of {', '.join(islice(each, _MOST_LABELS))}"
    return [f"entities: {', '.join(shares)} over {figures['entities']:,}" + (types if figures["entities"] else "")]


def _mistake_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return the worst mistakes of a classifier, from the file that the evaluation has written."""
    path = figures.get("mistakes")
    if path is None:
        return []
    rows = list[dict[str, str]]()
    with suppress(OSError), Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(islice(csv.DictReader(file), _MOST_MISTAKES))
    lines = [f"worst mistakes, the least probable labels first, in {path}:"] if rows else ["no mistakes"]
    for row in rows:
        text = f": {cell(row['text'])}" if row["text"] else ""
        share = 100 * float(row["probability"])
        lines.append(f"  {row['where']}: {cell(row['label'])}, predicted {cell(row['predicted'])} ({share:.1f}%){text}")
    return lines


def _label_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return a table with a line per label, if there are per-label metrics, and the location of the matrix."""
    labels = [name.removeprefix("f1_") for name in figures if name.startswith("f1_")]
    if not labels:
        return []
    width = max(len(cell(label)) for label in labels)
    counted = "words" if figures["task"] == "tagger" else "examples"
    lines = [f"{'':{width}}  precision   recall       F1 {counted:>8}"]
    for label in labels[:_MOST_LABELS]:
        shares = (_percent(figures[f"{name}_{label}"]) for name in ("precision", "recall", "f1"))
        count = f"{figures[f'tokens_{label}']:>9,}"
        lines.append(f"{cell(label):{width}}  " + "".join(f"{share:>9}" for share in shares) + count)
    if len(labels) > _MOST_LABELS:
        lines.append(f"and {len(labels) - _MOST_LABELS:,} less frequent labels; --json lists all")
    where = figures["confusion"]
    return [*lines, f"confusion matrix: {where or 'not saved, the run folder is not writable'}"]


def unknown_line(unknown: Iterable[str]) -> str:
    """Return the remark on words that a model does not know, each listed once."""
    return f"not in the vocabulary, read as <unk>: {', '.join(repr(token) for token in dict.fromkeys(unknown))}"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.2f}%"
