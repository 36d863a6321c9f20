"""The model card: a run folder's README.md, with its figures and the commands that give them again."""

import shlex
from pathlib import Path

from gatewise.artifact.run_folder import Metrics
from gatewise.config import Config


def model_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the card as Markdown."""
    *epochs, final = metrics
    best = next(line for line in epochs if line["epoch"] == final["best_epoch"])
    model, training = config.model, config.training
    where = shlex.quote(str(path))
    return f"""# {path.name}: a {config.data.level} language model

{model.num_layers} {model.cell} layer(s) of {model.hidden_size}, trained by truncated backpropagation through time
({config.data.batch_size} rows, windows of {config.data.tbptt_length}) for {len(epochs)} epoch(s) with
{training.optimizer}, precision {training.precision}, seed {training.seed}.

| figure | value |
|---|---|
| test perplexity, {final["test_tokens"]:,} tokens in one row | {final["test_perplexity"]:.2f} |
| out-of-vocabulary rate of the test text | {100 * final["test_oov_rate"]:.2f}% |
| perplexity of the same tokens by word frequency alone | {final["unigram_test_perplexity"]:.2f} |
| validation perplexity, {config.data.batch_size} rows, epoch {best["epoch"]} | {best["valid_perplexity"]:.2f} |
| training perplexity of that epoch | {best["train_perplexity"]:.2f} |
| SHA-256 of the test text | `{final["test_data_hash"]}` |

The test figure again, text from the model, and the whole training again:

```
gatewise evaluate {where} --split test
gatewise generate {where} --max-tokens 50
gatewise train {where}/config.toml --out ANOTHER-FOLDER
```

`model.safetensors` holds the weights under the names of `torch.nn.LSTM` and `torch.nn.Linear`, `tokenizer.json` the
vocabulary in the format of the `tokenizers` library, `config.toml` every setting, `metrics.jsonl` the figures of
each epoch.
"""


def scratch_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the card of a scratch language model as Markdown."""
    *epochs, final = metrics
    model, training, where = config.model, config.training, shlex.quote(str(path))
    return f"""# {path.name}: a word language model, trained in NumPy

One LSTM layer of {model.hidden_size} over one-hot words, trained for {len(epochs)} epoch(s) of
{final["train_sentences"]:,} sentences, one a step, with SGD from a learning rate of {training.learning_rate:g},
seed {training.seed}. No text was kept apart: the figures are those of the training sentences, and say nothing about
new text.

| figure of the training sentences | value |
|---|---|
| loss after epoch {final["best_epoch"]}, nats a token | {final["train_loss"]:.4f} |
| loss by word frequency alone | {final["unigram_train_loss"]:.4f} |
| tokens, words and sentence ends | {final["train_tokens"]:,} |
| out-of-vocabulary rate | {100 * final["train_oov_rate"]:.2f}% |
| SHA-256 of the file | `{final["train_data_hash"]}` |

The figure again, text from the model, and the whole training again:

```
gatewise evaluate {where}
gatewise generate {where} --max-tokens 50
gatewise train {where}/config.toml --out ANOTHER-FOLDER
```

`model.safetensors` holds the weights under the names of `torch.nn.LSTM` and `torch.nn.Linear`, `tokenizer.json` the
vocabulary in the format of the `tokenizers` library, `config.toml` every setting, `metrics.jsonl` the figures of
each epoch.
"""


def classifier_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the card of a classifier of sequences as Markdown."""
    *evaluations, final = metrics
    return f"""# {path.name}: a classifier of sequences

{_stack(config)}, trained on {_length(config, evaluations)}.

| figure | value |
|---|---|
| test accuracy, {final["test_tokens"]:,} sequences | {100 * final["test_accuracy"]:.2f}% |
| always the commonest label | {100 * final["majority_test_accuracy"]:.2f}% |
| validation accuracy, {_best(final)} | {100 * _at_best(metrics)["valid_accuracy"]:.2f}% |
| SHA-256 of the test part | `{final["test_data_hash"]}` |

{_again(path, "gatewise classify " + shlex.quote(str(path)) + " FILE")}
`labels.json` holds the labels, `config.toml` every setting, `metrics.jsonl` the figures of each evaluation.
"""


def tagger_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the card of a tagger as Markdown."""
    *evaluations, final = metrics
    model, unseen = config.model, final["test_accuracy_unseen"]
    spelled = {"none": "", "lstm": " and an LSTM over its characters", "cnn": " and a convolution of its characters"}
    chosen = "a linear-chain CRF over the sentence" if model.output == "crf" else "a softmax for each word"
    return f"""# {path.name}: a tagger

{_stack(config)}, over each word's embedding{spelled[model.character_encoder]}, with {chosen}; trained on
{_length(config, evaluations)}.

| figure | value |
|---|---|
| test accuracy, {final["test_tokens"]:,} words | {100 * final["test_accuracy"]:.2f}% |
| of the words that training did not see | {"none there" if unseen is None else f"{100 * unseen:.2f}%"} |
| each word's commonest tag in training | {100 * final["commonest_tag_test_accuracy"]:.2f}% |
| words of the test part that read as `<unk>` | {100 * final["test_oov_rate"]:.2f}% |
| validation accuracy, {_best(final)} | {100 * _at_best(metrics)["valid_accuracy"]:.2f}% |
| SHA-256 of the test part | `{final["test_data_hash"]}` |

`figures/` holds which tag was given for which on the part scored last, as a table and, where Matplotlib is installed, a
picture; `gatewise evaluate` prints precision, recall and F1 of each tag.

{_again(path, "gatewise tag " + shlex.quote(str(path)) + " FILE")}
`tokenizer.json` and `characters.json` the known words and characters in the format of the `tokenizers` library,
`labels.json` the tags and the words that training saw, `config.toml` every setting, `metrics.jsonl` the figures of each
evaluation.
"""


def regressor_card(path: Path, config: Config, metrics: list[Metrics]) -> str:
    """Return the card of a regressor as Markdown."""
    *evaluations, final = metrics
    where, end = shlex.quote(str(path)), "_test_rmse"
    beside = [
        f"| test RMSE of {name.removesuffix(end).replace('_', ' ')} | {value:.4g} |\n"
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
        what, use = "a regressor of sequences", f"python -c \"import gatewise; gatewise.load('{path}').predict(x)\""
    return f"""# {path.name}: {what}

{_stack(config)}, trained on {_length(config, evaluations)}.

| figure | value |
|---|---|
| test RMSE, {final["test_tokens"]:,} values, in the data's units | {final["test_rmse"]:.4g} |
| test MAE | {final["test_mae"]:.4g} |
{"".join(beside)}| validation RMSE, {_best(final)} | {_at_best(metrics)["valid_rmse"]:.4g} |
| SHA-256 of the test part | `{final["test_data_hash"]}` |

{_again(path, use)}
`scaling.json` holds mean and deviation of the training part, `config.toml` every setting, `metrics.jsonl` the figures
of each evaluation.
"""


def _stack(config: Config) -> str:
    """Name the recurrent stack."""
    model = config.model
    ways = "read from both ends" if model.bidirectional else "read from the beginning"
    return f"{model.num_layers} {model.cell} layer(s) of {model.hidden_size}, {ways}"


def _length(config: Config, evaluations: list[Metrics]) -> str:
    """Say how long the training was, and with what."""
    training = config.training
    length = f"{training.max_steps:,} steps" if training.max_steps else f"{evaluations[-1]['epoch']} epoch(s)"
    return (
        f"{length} of {config.data.batch_size} sequences with {training.optimizer}, precision {training.precision}, "
        f"seed {training.seed}"
    )


def _best(final: Metrics) -> str:
    return f"step {final['best_step']}" if "best_step" in final else f"epoch {final['best_epoch']}"


def _at_best(metrics: list[Metrics]) -> Metrics:
    """Return the line of the best evaluation."""
    *evaluations, final = metrics
    key = "step" if "best_step" in final else "epoch"
    return next(line for line in evaluations if line[key] == final[f"best_{key}"])


def _again(path: Path, use: str) -> str:
    """Say how to get the figure again, use the model, and train it again."""
    where = shlex.quote(str(path))
    return f"""The test figure again, the model at work, and the whole training again:

```
gatewise evaluate {where} --split test
{use}
gatewise train {where}/config.toml --out ANOTHER-FOLDER
```

`model.safetensors` holds the weights under the names of `torch.nn.LSTM` and `torch.nn.Linear`,"""
