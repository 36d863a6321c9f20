"""The configuration of a run, section by section; each key is documented beside its field."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

Positive = Annotated[int, Field(ge=1, lt=2**31)]
NotNegative = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(ge=0, lt=1)]

LM, SCRATCH, TAGGER = "language-model", "scratch-language-model", "tagger"
CLASSIFIER, TEXT, REGRESSOR, MEMORY = "classifier", "text-classifier", "regressor", "memory-task"
WORDS = (TAGGER, TEXT)
BATCHES = (TAGGER, CLASSIFIER, TEXT, REGRESSOR, MEMORY)
"""Tasks of sequences that stand alone, in shuffled batches."""


@dataclass(frozen=True, init=False)
class For:
    """Marks a key that only some tasks read; a key without this mark is read by all."""

    tasks: tuple[str, ...]

    def __init__(self, *tasks: str) -> None:
        object.__setattr__(self, "tasks", tasks)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TaskConfig(_Section):
    """``[task]``: what is trained."""

    name: Literal[
        "language-model",
        "scratch-language-model",
        "tagger",
        "classifier",
        "text-classifier",
        "regressor",
        "memory-task",
    ] = "language-model"
    """The kind of model. ``scratch-language-model`` is an LSTM of one layer over sentences, trained in NumPy alone, one
    sentence a step, the gradient summed over it. ``tagger`` labels each word; ``classifier`` reads images row by row or
    other sequences of numbers, ``text-classifier`` text; ``regressor`` answers one number, of sequences or of a series'
    next step; ``memory-task`` is a regressor of the adding problem. A key that means nothing to a task must be left as
    it is."""


class DataConfig(_Section):
    """``[data]``: where the data lies and how it is cut."""

    path: str = ""
    """A folder. Of a language-model: one ``*.train.txt``, one ``*.valid.txt``, one ``*.test.txt``. Of a tagger: three
    ``*-ud-*.conllu``, or those names with a word and its tag a line. Of a classifier: the four IDX files, or
    ``*.train.npz``, ``*.valid.npz``, ``*.test.npz`` with x (N, T, I) and y (N,); so too of a regressor, or a CSV file.
    Of a text-classifier: ``*.train.csv`` or ``.jsonl`` and so on, or the CoNLL-U files. Of a scratch-language-model: a
    CSV file."""
    column: Annotated[str, For(SCRATCH, TEXT)] = "body"
    """The column of the CSV (or key of the JSONL) file that holds the text."""
    label_column: Annotated[str, For(TEXT)] = "label"
    """The column that holds the label. Of CoNLL-U it is always the genre: ``sent_id`` up to its first hyphen."""
    columns: Annotated[list[str], For(REGRESSOR)] = []
    """The numeric columns of a CSV file that a regressor reads; none named takes all that are numeric."""
    target: Annotated[str, For(REGRESSOR)] = ""
    """The column that is forecast; the first of ``columns`` where not given."""
    window: Annotated[NotNegative, For(REGRESSOR)] = 0
    """Steps of a series that are read before each forecast."""
    horizon: Annotated[Positive, For(REGRESSOR)] = 1
    """Steps from a window's last value to the one that is forecast."""
    length: Annotated[int, Field(ge=1, le=10_000), For(MEMORY)] = 200
    """T of the adding problem: steps of each sequence."""
    max_sentences: Annotated[NotNegative, For(SCRATCH)] = 0
    """Train on so many sentences, the first of the CSV file; 0 takes all. The vocabulary is that of all of them."""
    train_file: Annotated[str, For(LM)] = ""
    """Instead of ``path``: the training text. ``valid_file`` and ``test_file`` go with it."""
    valid_file: Annotated[str, For(LM)] = ""
    """The text that chooses the best epoch."""
    test_file: Annotated[str, For(LM)] = ""
    """The text that is scored once, at the end."""
    builtin: Annotated[
        Literal["", "python-docs", "toy-sentences", "digits", "sunspots"], For(LM, TAGGER, CLASSIFIER, REGRESSOR)
    ] = ""
    """Data that needs no download: ``python-docs`` is the language reference that every CPython carries (a
    language-model), ``toy-sentences`` two tagged sentences (a tagger), ``digits`` scikit-learn's 8x8 digits (a
    classifier), ``sunspots`` the yearly numbers that statsmodels carries (a regressor)."""
    level: Annotated[Literal["word", "character", "prose"], For(LM, SCRATCH, TEXT)] = "word"
    """What a token is: a word between white space, a character, or in ``prose`` a lower-cased word, number or mark as
    the rules of ``data/prose.py`` cut them."""
    vocabulary_size: Annotated[NotNegative, For(LM, SCRATCH)] = 0
    """The most frequent tokens to keep, ``<unk>`` and the start and end tokens counted among them; 0 keeps all."""
    min_count: Annotated[Positive, For(*WORDS)] = 1
    """Words that the training text has fewer times read as ``<unk>`` (their characters are still seen)."""
    lowercase: Annotated[bool, For(*WORDS)] = False
    """Words are looked up in lower case; their characters keep their case."""
    valid_size: Annotated[NotNegative, For(CLASSIFIER, REGRESSOR)] = 0
    """Examples kept for validation, the last of the training part, where the data has no validation part of its own;
    of a series the windows whose targets stand just before the test's."""
    test_size: Annotated[NotNegative, For(CLASSIFIER, REGRESSOR)] = 0
    """Examples kept for the test, the last of the data, where it has no test part of its own; of a series the last
    values."""
    batch_size: Positive = 20
    """B: the contiguous rows that a language model's text is cut into and read side by side; elsewhere the sequences in
    a step (over all processes together)."""
    tbptt_length: Annotated[Positive, For(LM)] = 35
    """T: the steps of one window, and so how far the gradient flows back (truncated backpropagation through time)."""


class ModelConfig(_Section):
    """``[model]``: what reads the input, recurrent stack and decoder."""

    cell: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"] = "lstm"
    """The recurrent cell."""
    hidden_size: Positive = 200
    """H: units in each layer (and direction)."""
    embedding_size: Annotated[NotNegative, For(LM, *WORDS)] = 0
    """E: numbers in a word's embedding; 0 means ``hidden_size``."""
    character_encoder: Annotated[Literal["none", "lstm", "cnn"], For(*WORDS)] = "none"
    """What reads the characters of each word beside its embedding: a bidirectional LSTM, or a convolution of three
    characters with the largest answer kept."""
    character_embedding_size: Annotated[Positive, For(*WORDS)] = 32
    """Numbers in a character's embedding."""
    character_hidden_size: Annotated[Positive, For(*WORDS)] = 64
    """Units of the character LSTM in each direction, or filters of the convolution."""
    num_layers: Positive = 2
    """L: recurrent layers, one above the other."""
    bidirectional: Annotated[bool, For(*BATCHES)] = False
    """A second set of weights reads each sequence from its end."""
    pooling: Annotated[Literal["last", "mean", "max"], For(CLASSIFIER, TEXT, REGRESSOR, MEMORY)] = "last"
    """What of the last layer's outputs the decoder sees: those at each row's own end (of the direction from the end,
    at its start), their mean, or the largest of each unit."""
    output: Annotated[Literal["softmax", "crf"], For(TAGGER)] = "softmax"
    """Tags drawn for each word by itself, or a linear-chain conditional random field over the sentence."""
    dropout: Annotated[Share, For(LM, *BATCHES)] = 0.0
    """Probability of dropping a number of a word's vector, between layers and of the last output; never along time.
    Input that is numbers already is never dropped."""
    word_dropout: Annotated[Share, For(*WORDS)] = 0.0
    """Probability of reading a known word as ``<unk>`` in training, so that the characters learn to stand in for it."""
    forget_bias: Annotated[float, For(LM, *BATCHES)] = 0.0
    """Added to the forget gate's bias when the weights are made (LSTM only)."""
    init_scale: Annotated[float, Field(ge=0)] = 0.1
    """Weights start uniform in ±init_scale. 0 is each module's own draw: of recurrent layers ±1/√H, of a decoder ±1/√n
    with n its inputs (of a scratch-language-model ±1/√n, n the numbers that a matrix reads: V for the input's weights
    and the gates' biases, H for the recurrent weights, the decoder and its bias)."""
    decoder_std: Annotated[float, Field(ge=0), For(CLASSIFIER, TEXT, REGRESSOR, MEMORY)] = 0.0
    """Above 0 the decoder's weights start normal with this deviation, cut at two deviations."""
    decoder_bias: Annotated[float, For(CLASSIFIER, TEXT, REGRESSOR, MEMORY)] = 0.0
    """Where the decoder's bias starts if ``decoder_std`` is above 0."""
    one_hot: Annotated[bool, For(LM, SCRATCH)] = False
    """Words enter as one-hot vectors: the first layer's input has V numbers, and there is no embedding."""
    tie_weights: Annotated[bool, For(LM)] = False
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
    """Passes over the training data."""
    max_steps: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """Above 0, training ends after so many steps, however many epochs that is, and ``epochs`` is not read."""
    eval_every: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """Steps between two evaluations; 0 evaluates after each epoch. A run of ``max_steps`` ends with one."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Plain SGD, Adam, or AdamW (decoupled weight decay)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1.0
    """The rate of the first epochs. A language model's cost is the sum over a window's steps of the mean over its rows;
    elsewhere the cost is the mean over the words (a tagger) or the sequences of a step."""
    lr_decay: Annotated[float, Field(gt=0, le=1), For(LM, *BATCHES)] = 1.0
    """Each epoch after ``lr_decay_after_epoch`` multiplies the learning rate by this."""
    lr_decay_after_epoch: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """The learning rate is constant up to and with this epoch (epochs count from 1)."""
    lr_decay_on_rise: Annotated[float, Field(gt=0, le=1), For(SCRATCH)] = 1.0
    """After an epoch whose training loss is above that of the epoch before, the learning rate is multiplied by this."""
    average_decay: Annotated[Share, For(LM, *BATCHES)] = 0.0
    """Above 0, what is evaluated and kept is not the last weights but their running average, ``average ←
    average_decay · average + (1 − average_decay) · weights`` after each step, the first steps with a smaller decay,
    ``(1 + step) / (10 + step)`` (Polyak and Juditsky 1992)."""
    weight_decay: Annotated[float, Field(ge=0), For(LM, *BATCHES)] = 0.0
    """L2 penalty (SGD, Adam) or decoupled decay (AdamW)."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 5.0
    """Gradients are scaled down to this global L2 norm; 0 does not clip."""
    precision: Annotated[Literal["fp32", "bf16", "fp16", "high"], For(LM, *BATCHES)] = "fp32"
    """Of the matrix products; weights, gradients, optimizer and cell state are fp32 in each. ``high`` is fp32 through
    three products of bf16 (16 bits of 24), by the native engine, where the processor has AMX; elsewhere fp32."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Of initial weights, dropout, sampling and the order of the examples."""
    checkpoint_every: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints within an epoch (one also follows each epoch)."""
    max_bad_steps: Annotated[Positive, For(LM, *BATCHES)] = 10
    """Steps in a row with a loss or gradient that is not finite (each is skipped) before training stops."""


class RuntimeConfig(_Section):
    """``[runtime]``: what computes."""

    engine: Annotated[Literal["auto", "torch", "reference", "native"], For(LM, *BATCHES)] = "auto"
    """What computes the recurrent layers: ``auto`` (``native`` where it can, else ``torch``), ``native``, ``torch``, or
    ``reference`` (NumPy, slow, to check with); ``gatewise doctor`` says which can be had. One that is named computes
    all of them, or refuses."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``; ``auto`` takes a GPU where there is one."""
    threads: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """Processor threads; 0 leaves the choice to PyTorch."""


class LoggingConfig(_Section):
    """``[logging]``: what is written besides results; changes no result."""

    tensorboard: bool = True
    """Write scalars under ``tensorboard/`` in the run folder."""
    tensorboard_every: Positive = 10
    """Steps between two points of the training loss in TensorBoard."""


_ONLY_IN_TRAINING = ("dropout", "word_dropout", "forget_bias", "init_scale", "decoder_std", "decoder_bias")
"""Keys of ``[model]`` that a trained model is the same without."""


class Config(_Section):
    """A whole run."""

    task: TaskConfig = TaskConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    logging: LoggingConfig = LoggingConfig()

    def meaning(self) -> dict[str, Any]:
        """Return by dotted key what a model's weights mean nothing without; all else may be changed after training."""
        model = {f"model.{key}": value for key, value in self.model if key not in _ONLY_IN_TRAINING}
        kept = {"task.name": self.task.name, "data.level": self.data.level, "data.horizon": self.data.horizon}
        return {**kept, **model}

    def unread(self) -> str | None:
        """Return in one line what is wrong with the first key that was changed and that the task does not read."""
        for section, part in self:
            for key, field in type(part).model_fields.items():
                value = getattr(part, key)
                for mark in field.metadata:
                    if isinstance(mark, For) and self.task.name not in mark.tasks and value != field.default:
                        return (
                            f"{section}.{key} is {value!r}; a {self.task.name} does not read it (for: "
                            f"{', '.join(mark.tasks)}): leave it out"
                        )
        return None
