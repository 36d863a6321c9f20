"""The model card: a run folder's README.md, with its metrics and the commands that reproduce them."""

import shlex
from collections.abc import Callable
from pathlib import Path

from gatewise.artifact.run_folder import Metrics
from gatewise.config import Config
from gatewise.config.tasks import TaskName


def model_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the model card of a finished run as Markdown."""
    return _CARDS[config.task.name](path, config, metrics)


def imported_card(path: Path, config: Config, framework: str, source: Path, parameters: int) -> str:
    """Return the model card of a run that was imported from a file of another framework, as Markdown.

    Args:
        path: the run folder.
        config: its configuration.
        framework: the name of the format.
        source: the file.
        parameters: the number of weights.
    """
    where = shlex.quote(str(path))
    data = "" if config.task.name == "memory-task" else " --data DATA"  # that task draws its data
    use, beside = _IMPORTED[config.task.name]
    commands = "\n".join([f"gatewise evaluate {where}{data}", *([use.format(where)] if use else [])])
    return f"""# {path.name}: a {config.task.name}, imported from {framework}

{_stack(config)}, {parameters:,} parameters, read from `{source.name}`, a file of {framework}. It was not trained here,
and has no metrics.

To evaluate and use the model:

```
{commands}
```

`model.safetensors` holds the weights under the names of `torch.nn.LSTM` and `torch.nn.Linear`, `config.toml` the
settings, {beside}.
"""


_WORDS = "`tokenizer.json` the vocabulary in the format of the `tokenizers` library"
_IMPORTED = {
    "language-model": ("gatewise generate {} --max-tokens 50", _WORDS),
    "scratch-language-model": ("gatewise generate {} --max-tokens 50", _WORDS),
    "tagger": (
        "gatewise tag {} FILE",
        "`labels.json` the tags, `tokenizer.json` and `characters.json` the known words and characters",
    ),
    "text-classifier": (
        "gatewise classify {} DATA",
        "`labels.json` the labels, `tokenizer.json` and `characters.json` the known words and characters",
    ),
    "classifier": ("gatewise classify {} DATA", "`labels.json` the labels"),
    "regressor": ("", "`scaling.json` the standardization"),
    "memory-task": ("", "`scaling.json` an empty standardization"),
}
"""Of each task, a command that uses a model, and the files beside it."""


def _language_model_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the model card of a language model as Markdown."""
    *epochs, final = metrics
    best = next(line for line in epochs if line["epoch"] == final["best_epoch"])
    model, training = config.model, config.training
    where = shlex.quote(str(path))
    return f"""# {path.name}: a {config.data.level} language model

{model.num_layers} {model.cell} layer(s) of {model.hidden_size}, trained by truncated backpropagation through time
({config.data.batch_size} rows, windows of {config.data.tbptt_length}) for {len(epochs)} epoch(s) with
{training.optimizer}, precision {training.precision}, seed {training.seed}.

| metric | value |
|---|---|
| test perplexity, {final["test_tokens"]:,} tokens as one sequence | {final["test_perplexity"]:.2f} |
| out-of-vocabulary rate of the test text | {100 * final["test_oov_rate"]:.2f}% |
| baseline: perplexity of the same tokens under a unigram model | {final["unigram_test_perplexity"]:.2f} |
| validation perplexity, {config.data.batch_size} rows, epoch {best["epoch"]} | {best["valid_perplexity"]:.2f} |
| training perplexity of that epoch | {best["train_perplexity"]:.2f} |
| SHA-256 of the test text | `{final["test_data_hash"]}` |

{_again(path, f"gatewise generate {where} --max-tokens 50")} `tokenizer.json` the
vocabulary in the format of the `tokenizers` library, `config.toml` all settings, `metrics.jsonl` the metrics of each
epoch.
"""


def _scratch_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the model card of a scratch language model as Markdown."""
    *epochs, final = metrics
    model, training, where = config.model, config.training, shlex.quote(str(path))
    return f"""# {path.name}: a word language model, trained in NumPy

One LSTM layer of {model.hidden_size} over one-hot words, trained for {len(epochs)} epoch(s) of
{final["train_sentences"]:,} sentences, one per step, with SGD from a learning rate of {training.learning_rate:g}, seed
{training.seed}. No text was held out: the metrics are those of the training sentences and say nothing about new text.

| metric on the training sentences | value |
|---|---|
| loss after epoch {final["best_epoch"]}, nats per token | {final["train_loss"]:.4f} |
| loss of a unigram model | {final["unigram_train_loss"]:.4f} |
| tokens (words and sentence ends) | {final["train_tokens"]:,} |
| out-of-vocabulary rate | {100 * final["train_oov_rate"]:.2f}% |
| SHA-256 of the file | `{final["train_data_hash"]}` |

{_again(path, f"gatewise generate {where} --max-tokens 50", split="")} `tokenizer.json` the
vocabulary in the format of the `tokenizers` library, `config.toml` all settings, `metrics.jsonl` the metrics of each
epoch.
"""


def _classifier_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the model card of a sequence classifier as Markdown."""
    *evaluations, final = metrics
    return f"""# {path.name}: a sequence classifier

{_stack(config)}, trained on {_length(config, evaluations)}.

| metric | value |
|---|---|
| test accuracy, {final["test_tokens"]:,} sequences | {100 * final["test_accuracy"]:.2f}% |
| baseline: accuracy of always predicting the most frequent label | {100 * final["majority_test_accuracy"]:.2f}% |
| validation accuracy, {_best(final)} | {100 * _at_best(metrics)["valid_accuracy"]:.2f}% |
| SHA-256 of the test split | `{final["test_data_hash"]}` |

{_again(path, "gatewise classify " + shlex.quote(str(path)) + " FILE")}
`labels.json` holds the labels, `config.toml` all settings, `metrics.jsonl` the metrics of each evaluation. `figures/`
holds the confusion matrix and the worst mistakes of the split evaluated last.
"""


def _tagger_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the model card of a tagger as Markdown."""
    *evaluations, final = metrics
    model, unseen = config.model, final["test_accuracy_unseen"]
    spelled = {"none": "", "lstm": " and an LSTM over its characters", "cnn": " and a convolution over its characters"}
    chosen = "a linear-chain CRF over the sentence" if model.output == "crf" else "a softmax per word"
    entities = "".join(
        f"| {what}F1 of entities | {100 * final[key]:.2f}% |\n"
        for what, key in (("test ", "test_entity_f1"), ("baseline: ", "commonest_tag_test_entity_f1"))
        if final.get(key) is not None
    )
    return f"""# {path.name}: a tagger

{_stack(config)}, over each word's embedding{spelled[model.character_encoder]}, with {chosen}; trained on
{_length(config, evaluations)}.

| metric | value |
|---|---|
| test accuracy, {final["test_tokens"]:,} words | {100 * final["test_accuracy"]:.2f}% |
| test accuracy on words not seen in training | {"no such words" if unseen is None else f"{100 * unseen:.2f}%"} |
| baseline: accuracy of each word's most frequent training tag | {100 * final["commonest_tag_test_accuracy"]:.2f}% |
{entities}| words of the test split read as `<unk>` | {100 * final["test_oov_rate"]:.2f}% |
| validation accuracy, {_best(final)} | {100 * _at_best(metrics)["valid_accuracy"]:.2f}% |
| SHA-256 of the test split | `{final["test_data_hash"]}` |

`figures/` holds the confusion matrix of the split evaluated last, as a table and, if Matplotlib is installed, as an
image; `gatewise evaluate` prints precision, recall and F1 of each tag.

{_again(path, "gatewise tag " + shlex.quote(str(path)) + " FILE")}
`tokenizer.json` and `characters.json` hold the vocabularies of words and characters in the format of the `tokenizers`
library, `labels.json` the tags and the words seen in training, `config.toml` all settings, `metrics.jsonl` the metrics
of each evaluation.
"""


def _regressor_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the model card of a regressor as Markdown."""
    *evaluations, final = metrics
    where, end = shlex.quote(str(path)), "_test_rmse"
    beside = [
        f"| baseline: test RMSE of {name.removesuffix(end).replace('_', ' ')} | {value:.4g} |\n"
        for name, value in final.items()
        if name.endswith(end)
    ]
    if config.task.name == "memory-task":
        what = f"the adding problem, {config.data.length} steps"
        use = f"gatewise inspect memory-task {where} --out error.png"
    elif "persistence_test_rmse" in final:
        what = f"a forecast from {config.data.window} values, {config.data.horizon} step(s) ahead"
        use = f"gatewise forecast {where} --steps {config.data.horizon}"
    else:
        what, use = "a sequence regressor", f"python -c \"import gatewise; gatewise.load('{path}').predict(x)\""
    return f"""# {path.name}: {what}

{_stack(config)}, trained on {_length(config, evaluations)}.

| metric | value |
|---|---|
| test RMSE, {final["test_tokens"]:,} values, in the data's units | {final["test_rmse"]:.4g} |
| test MAE | {final["test_mae"]:.4g} |
{"".join(beside)}{_coverage(final)}| validation RMSE, {_best(final)} | {_at_best(metrics)["valid_rmse"]:.4g} |
| SHA-256 of the test split | `{final["test_data_hash"]}` |

{_again(path, use)}
`scaling.json` holds the mean and standard deviation of the training split, `config.toml` all settings, `metrics.jsonl`
the metrics of each evaluation.
"""


def _coverage(final: Metrics) -> str:
    """Return the row of a forecaster's measured coverage; empty for other regressors."""
    share = final.get("test_coverage_90")
    return (
        "" if share is None else f"| test values within the 90% intervals of `intervals.json` | {100 * share:.1f}% |\n"
    )


def _stack(config: Config) -> str:
    """Describe the recurrent stack."""
    model = config.model
    ways = "bidirectional" if model.bidirectional else "unidirectional"
    return f"{model.num_layers} {model.cell} layer(s) of {model.hidden_size}, {ways}"


def _length(config: Config, evaluations: list[Metrics]) -> str:
    """Describe how long the training took, and its optimizer, precision and seed."""
    training = config.training
    length = f"{training.max_steps:,} steps" if training.max_steps else f"{evaluations[-1]['epoch']} epoch(s)"
    return (
        f"{length} of {config.data.batch_size} sequences with {training.optimizer}, precision {training.precision}, "
        f"seed {training.seed}"
    )


def _best(final: Metrics) -> str:
    return f"step {final['best_step']}" if "best_step" in final else f"epoch {final['best_epoch']}"


def _at_best(metrics: list[Metrics]) -> Metrics:
    """Return the metrics of the best evaluation."""
    *evaluations, final = metrics
    key = "step" if "best_step" in final else "epoch"
    return next(line for line in evaluations if line[key] == final[f"best_{key}"])


def _again(path: Path, use: str, split: str = " --split test") -> str:
    """Return the commands that reproduce the metrics, use the model and repeat the training."""
    where = shlex.quote(str(path))
    return f"""To reproduce the metrics, use the model, and repeat the whole training:

```
gatewise evaluate {where}{split}
{use}
gatewise train {where}/config.toml --out ANOTHER-FOLDER
```

`model.safetensors` holds the weights under the names of `torch.nn.LSTM` and `torch.nn.Linear`,"""


_CARDS: dict[TaskName, Callable[[Path, Config, list[Metrics]], str]] = {
    "language-model": _language_model_card,
    "scratch-language-model": _scratch_card,
    "tagger": _tagger_card,
    "classifier": _classifier_card,
    "text-classifier": _classifier_card,
    "regressor": _regressor_card,
    "memory-task": _regressor_card,
}
