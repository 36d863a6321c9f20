"""Formatting of metrics and remarks as the lines that commands print."""

from collections.abc import Iterable, Mapping
from typing import Any

from gatewise.cli.steps import step_lines
from gatewise.config.tasks import ACCURACY, BASELINES, PERPLEXITY, RMSE
from gatewise.printable import cell


def evaluation_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return what ``evaluate`` prints: the metric, the number of tokens and the data's hash, on one line."""
    data = f"data {figures['data_hash'][:12]}"
    over = f"over {figures['tokens']:,}"
    unknown = f"out of vocabulary {100 * figures['oov_rate']:.2f}%"
    if "perplexity" in figures:
        lines = [
            f"{figures['split']} perplexity {figures['perplexity']:.2f} (nll {figures['nll']:.4f} nats per token) "
            f"{over} tokens; {unknown}; {data}"
        ]
    elif "rmse" in figures:
        lines = [f"{figures['split']} RMSE {figures['rmse']:.4g}, MAE {figures['mae']:.4g} {over} values; {data}"]
    elif "accuracy_unseen" in figures:
        lines = [
            f"{figures['split']} accuracy {100 * figures['accuracy']:.2f}% {over} words, of words not seen in training "
            f"{_percent(figures['accuracy_unseen'])}; {unknown}; {data}"
        ]
    else:
        lines = [f"{figures['split']} accuracy {100 * figures['accuracy']:.2f}% {over} sequences; {unknown}; {data}"]
    lines += _label_lines(figures) + step_lines(figures)
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
            f"a unigram model, word frequencies alone: {metrics['unigram_train_loss']:.4f}; no other text was scored",
        ]
    over = f"over {metrics['test_tokens']:,}"
    data = f"data {metrics['test_data_hash'][:12]}"
    if "test_perplexity" in metrics:
        return [
            f"test perplexity {metrics['test_perplexity']:.2f} {over} tokens ({best}; out of vocabulary "
            f"{100 * metrics['test_oov_rate']:.2f}%; {data})",
            f"a unigram model, word frequencies alone: {metrics['unigram_test_perplexity']:.2f}",
        ]
    if "test_rmse" in metrics:
        lines = [f"test RMSE {metrics['test_rmse']:.4g}, MAE {metrics['test_mae']:.4g} {over} values ({best}; {data})"]
    elif "test_accuracy_unseen" in metrics:
        lines = [
            f"test accuracy {100 * metrics['test_accuracy']:.2f}% {over} words, of words not seen in training "
            f"{_percent(metrics['test_accuracy_unseen'])} ({best}; {data})"
        ]
    else:
        lines = [f"test accuracy {100 * metrics['test_accuracy']:.2f}% {over} sequences ({best}; {data})"]
    return lines + [
        f"{name.partition('_test_')[0].replace('_', ' ')}: "
        + (f"{100 * value:.2f}%" if name.endswith(ACCURACY.name) else f"{value:.4g}")
        for name, value in metrics.items()
        if name.endswith(BASELINES)
    ]


def baseline_line(metrics: Mapping[str, Any]) -> str | None:
    """Return a remark if a finished run is no better than its simplest baseline, or None."""
    for metric, name in _SIMPLEST:
        own = f"test_{metric.name}"
        baseline = f"{name}_{own}"
        if own not in metrics or baseline not in metrics or (metric is ACCURACY and metrics[own] == 1):
            continue
        if metric.to_minimize(metrics[own]) >= metric.to_minimize(metrics[baseline]):
            return (
                f"this model is no better than its baseline ({name.replace('_', ' ')}): there may be too few examples, "
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


def _label_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return a table with a line per label, if there are per-label metrics, and the location of the matrix."""
    labels = [name.removeprefix("f1_") for name in figures if name.startswith("f1_")]
    if not labels:
        return []
    width = max(len(cell(label)) for label in labels)
    lines = [f"{'':{width}}  precision   recall       F1    words"]
    for label in labels:
        shares = (_percent(figures[f"{name}_{label}"]) for name in ("precision", "recall", "f1"))
        counted = f"{figures[f'tokens_{label}']:>9,}"
        lines.append(f"{cell(label):{width}}  " + "".join(f"{share:>9}" for share in shares) + counted)
    where = figures["confusion"]
    return [*lines, f"confusion matrix: {where or 'not saved, the run folder is not writable'}"]


def unknown_line(unknown: Iterable[str]) -> str:
    """Return the remark on words that a model does not know, each listed once."""
    return f"not in the vocabulary, read as <unk>: {', '.join(repr(token) for token in dict.fromkeys(unknown))}"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.2f}%"
