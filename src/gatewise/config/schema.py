"""The configuration of a run, section by section; each key is documented beside its field."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TaskConfig(_Section):
    """``[task]``: what is trained."""

    name: Literal["language-model", "scratch-language-model"] = "language-model"
    """The kind of model. ``scratch-language-model`` is an LSTM of one layer over sentences, trained in NumPy alone, one
    sentence a step, the gradient summed over it; keys that mean nothing there must be left as they are."""


class DataConfig(_Section):
    """``[data]``: where the text lies and how it is cut."""

    path: str = ""
    """A folder with one ``*.train.txt``, one ``*.valid.txt`` and one ``*.test.txt``; of a scratch-language-model a CSV
    file, or a folder with one."""
    column: str = "body"
    """The column of the CSV file that holds the text."""
    max_sentences: Annotated[int, Field(ge=0)] = 0
    """Train on so many sentences, the first of the CSV file; 0 takes all. The vocabulary is that of all of them."""
    train_file: str = ""
    """Instead of ``path``: the training text. ``valid_file`` and ``test_file`` go with it."""
    valid_file: str = ""
    """The text that chooses the best epoch."""
    test_file: str = ""
    """The text that is scored once, at the end."""
    builtin: Literal["", "python-docs"] = ""
    """A corpus that needs no download: ``python-docs`` is the language reference that every CPython carries."""
    level: Literal["word", "character", "prose"] = "word"
    """What a token is: a word between white space, a character, or in ``prose`` a lower-cased word, number or mark as
    the rules of ``data/prose.py`` cut them."""
    vocabulary_size: Annotated[int, Field(ge=0)] = 0
    """The most frequent tokens to keep, ``<unk>`` and the start and end tokens counted among them; 0 keeps all."""
    batch_size: Positive = 20
    """B: the contiguous rows that the text is cut into and read side by side (over all processes together)."""
    tbptt_length: Positive = 35
    """T: the steps of one window, and so how far the gradient flows back (truncated backpropagation through time)."""


class ModelConfig(_Section):
    """``[model]``: embedding, recurrent stack and decoder."""

    cell: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"] = "lstm"
    """The recurrent cell."""
    hidden_size: Positive = 200
    """H: units in each layer."""
    embedding_size: Annotated[int, Field(ge=0)] = 0
    """E: numbers in a word's embedding; 0 means ``hidden_size``."""
    num_layers: Positive = 2
    """L: recurrent layers, one above the other."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping a unit of the embedding, between layers and of the last output; never along time."""
    forget_bias: float = 0.0
    """Added to the forget gate's bias when the weights are made (LSTM only)."""
    init_scale: Annotated[float, Field(ge=0)] = 0.1
    """Weights start uniform in ±init_scale. 0 (a scratch-language-model) is ±1/√n, n the numbers that a matrix reads:
    V for the input's weights and the gates' biases, H for the recurrent weights, the decoder and its bias."""
    one_hot: bool = False
    """Words enter as one-hot vectors: the first layer's input has V numbers, and there is no embedding."""
    tie_weights: bool = False
    """The decoder shares the embedding's matrix (needs ``embedding_size`` = ``hidden_size``)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.forget_bias != 0 and self.cell != "lstm":
            raise ValueError(
                f"forget_bias is {self.forget_bias} but a {self.cell} cell has no forget gate; set it to 0"
            )
        if self.tie_weights and self.embedding_size not in (0, self.hidden_size):
            raise ValueError(
                f"tie_weights needs embedding_size = hidden_size, found {self.embedding_size} and {self.hidden_size}"
            )
        if self.one_hot and (self.embedding_size or self.tie_weights):
            raise ValueError("one_hot leaves no embedding; leave embedding_size at 0 and tie_weights at false")
        return self


class TrainingConfig(_Section):
    """``[training]``: the optimisation."""

    epochs: Positive = 13
    """Passes over the training text."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Plain SGD, Adam, or AdamW (decoupled weight decay)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1.0
    """The rate of the first epochs. The cost is the sum over a window's steps of the mean over its rows."""
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each epoch after ``lr_decay_after_epoch`` multiplies the learning rate by this."""
    lr_decay_after_epoch: Annotated[int, Field(ge=0)] = 0
    """The learning rate is constant up to and with this epoch (epochs count from 1)."""
    lr_decay_on_rise: Annotated[float, Field(gt=0, le=1)] = 1.0
    """After an epoch whose training loss is above that of the epoch before, the learning rate is multiplied by this (a
    scratch-language-model only)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty (SGD, Adam) or decoupled decay (AdamW)."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 5.0
    """Gradients are scaled down to this global L2 norm; 0 does not clip."""
    precision: Literal["fp32", "bf16", "fp16", "high"] = "fp32"
    """Of the matrix products; weights, gradients, optimizer and cell state are fp32 in each."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Of initial weights, dropout and sampling."""
    checkpoint_every: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints within an epoch (one also follows each epoch)."""
    max_bad_steps: Positive = 10
    """Steps in a row with a loss or gradient that is not finite (each is skipped) before training stops."""


class RuntimeConfig(_Section):
    """``[runtime]``: what computes."""

    engine: Literal["auto", "torch", "reference", "native"] = "auto"
    """What computes the recurrent layers: ``torch``, or ``reference`` (NumPy, slow, to check with); ``gatewise doctor``
    says which can be had."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``; ``auto`` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Processor threads; 0 leaves the choice to PyTorch."""


class LoggingConfig(_Section):
    """``[logging]``: what is written besides results; changes no result."""

    tensorboard: bool = True
    """Write scalars under ``tensorboard/`` in the run folder."""
    tensorboard_every: Positive = 10
    """Steps between two points of the training loss in TensorBoard."""


class Config(_Section):
    """A whole run."""

    task: TaskConfig = TaskConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    logging: LoggingConfig = LoggingConfig()
