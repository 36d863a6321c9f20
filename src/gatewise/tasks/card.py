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
