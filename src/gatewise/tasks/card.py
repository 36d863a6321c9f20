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
