"""The configuration of a run, section by section; each key is documented with its field."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from gatewise.config.spans import parse_span
from gatewise.config.tasks import TASKS, TaskName

Positive = Annotated[int, Field(ge=1, lt=2**31)]
NotNegative = Annotated[int, Field(ge=0, lt=2**31)]


def _automatic(value: Any) -> Any:
    return 0 if value == "auto" else value


def _positive(value: Any) -> Any:
    """Reject a 0 that the user wrote; ``auto`` is read as 0."""
    if type(value) is int and value < 1:
        raise PydanticCustomError("too_small", "input should be 1 or more, or 'auto'")
    return _automatic(value)


def _steps(least: int, *words: str) -> BeforeValidator:
    """Return a check of a number of steps of a series, or of a span of time, or one of some words."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, str):
            try:
                return str(parse_span(value))
            except ValueError as problem:
                raise PydanticCustomError("span", "{reason}", {"reason": str(problem)}) from None
        if type(value) is not int:
            raise PydanticCustomError("steps", "input should be an integer or a span of time such as '24 hours'")
        if not least <= value < 2**31:
            raise PydanticCustomError("steps", f"input should be greater than or equal to {least} and below 2^31")
        return value

    return BeforeValidator(check)


def _true_false_or_auto(value: Any) -> Any:
    if type(value) is not bool and value != "auto":
        raise PydanticCustomError("choice", "input should be true, false or 'auto'")
    return value


_choice = BeforeValidator(_true_false_or_auto)

AutoSize = Annotated[int, BeforeValidator(_automatic), Field(ge=0, lt=2**31)]
"""A size that follows from the data if it is 0 or ``auto``; ``config.toml`` holds the number chosen."""
AutoCount = Annotated[int, BeforeValidator(_positive), Field(ge=0, lt=2**31)]
"""A number that follows from the data if it is ``auto``; ``config.toml`` holds the number chosen."""
Steps = int | str
"""A number of steps of a series, or a span of time such as ``24 hours``; ``config.toml`` holds the number."""
Choice = bool | Literal["auto"]
"""``true`` or ``false``, or ``auto``: then the data decides, and ``config.toml`` holds the choice."""
Share = Annotated[float, Field(ge=0, lt=1)]

LM, SCRATCH, TAGGER, CLASSIFIER, TEXT, REGRESSOR, MEMORY = TASKS
WORDS = (TAGGER, TEXT)
BATCHES = (TAGGER, CLASSIFIER, TEXT, REGRESSOR, MEMORY)
"""Tasks with independent sequences in shuffled batches."""


@dataclass(frozen=True, init=False)
class For:
    """Marks a key that only some tasks read; a key without this annotation is read by all."""

    tasks: tuple[str, ...]

    def __init__(self, *tasks: str) -> None:
        object.__setattr__(self, "tasks", tasks)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TaskConfig(_Section):
    """``[task]``: what to train."""

    name: TaskName = "language-model"
    """The kind of model. ``scratch-language-model`` is a one-layer LSTM over sentences, trained in NumPy alone, one
    sentence per step, with the gradient summed over the sentence. ``tagger`` labels each word. ``classifier`` reads
    images row by row, or other sequences of numbers; ``text-classifier`` reads text. ``regressor`` predicts one number
    from a sequence, or the next steps of a series. ``memory-task`` is a regressor for the adding problem. A key that
    a task does not read must keep its default."""


class DataConfig(_Section):
    """``[data]``: where the data is and how it is split."""

    path: str = ""
    """The data: one file, which is split, or a folder with a file for each split.

    - ``language-model``: a text, or a table with a column of texts; ``*.train.txt``, ``*.valid.txt``, ``*.test.txt``.
    - ``tagger``: CoNLL-U, or a word and its tag per line; ``*-ud-train.conllu`` and so on, ``*.train.txt`` and so on.
    - ``classifier``: ``.npz`` with x (N, T, I) and y (N,), or x with the sequences one after the other and ``lengths``
      (N,); ``*.train.npz`` and so on; the four IDX files; a folder of pictures with a subfolder per class.
    - ``text-classifier``: a table with a column of texts and one of labels; ``*.train.csv`` and so on; CoNLL-U.
    - ``regressor``: a series, which is a table with a row per time step; arrays as for a classifier.
    - ``scratch-language-model``: a CSV file.

    A table is CSV or its relatives, JSONL or Parquet."""
    column: Annotated[str, For(LM, SCRATCH, TEXT)] = "body"
    """The column of a table that holds the text. With ``auto``, it is chosen by its name or its
    content, and a note names it."""
    label_column: Annotated[str, For(TEXT)] = "label"
    """The column that holds the label, or ``auto``. For CoNLL-U, the label is always the genre: ``sent_id`` up to its
    first hyphen."""
    group_column: Annotated[str, For(TEXT)] = ""
    """A column whose rows of one value stay in one split, such as a user or a document."""
    columns: Annotated[list[str], For(REGRESSOR)] = []
    """The numeric columns of a table that a regressor reads; empty means all numeric columns."""
    target: Annotated[str, For(REGRESSOR)] = ""
    """The column to forecast; the first of ``columns`` if empty."""
    known: Annotated[list[str], For(REGRESSOR)] = []
    """Columns whose values are known before they are due, such as a holiday or a planned price: with each step s, the
    model also reads their values at s + ``horizon``. ``forecast`` expects them in rows after the last one."""
    window: Annotated[Steps, _steps(0, "auto"), For(REGRESSOR)] = 0
    """Number of steps of a series to read before each forecast, or a span such as ``"2 weeks"``; ``auto``, or 0, takes
    a tenth of the series, at most 64 steps, but at least a season that fits four times and, with ``known``,
    ``horizon``."""
    horizon: Annotated[Steps, _steps(1), For(REGRESSOR)] = 1
    """Number of steps to forecast from one window, all at once, or a span such as ``"24 hours"``. A span is a whole
    number of steps by the dates of the series; where weekdays are skipped, a day is one row."""
    relative: Annotated[Choice, _choice, For(REGRESSOR)] = False
    """Read and predict the target as its difference from the last value of the window, so that a trend goes on beyond
    the values seen in training (the normalization of NLinear; Zeng et al. 2023). ``auto`` does so if the last fifth of
    the training targets leaves the range of those before at more than a tenth of its steps."""
    season: Annotated[Steps, _steps(0, "auto"), For(REGRESSOR)] = 0
    """Number of steps of a season, for the baseline ``seasonal_naive``; 0 means none. ``auto`` takes a year for
    monthly, quarterly or weekly data, a week for daily data, and a day for shorter steps, if the series has dates and
    spans at least three seasons."""
    fill: Annotated[Literal["", "linear", "previous"], For(REGRESSOR)] = ""
    """What stands for missing steps and empty fields of a series: ``linear``, the straight line between the neighbors;
    ``previous``, the value before; ``""`` is an error. What is filled is read, but never predicted or scored, and with
    ``linear`` no forecast starts in a gap. Nothing is filled before the first or after the last value of the target."""
    length: Annotated[int, Field(ge=1, le=10_000), For(MEMORY)] = 200
    """T of the adding problem: the number of steps of each sequence."""
    max_sentences: Annotated[NotNegative, For(SCRATCH)] = 0
    """Train on this many sentences from the start of the CSV file; 0 means all. The vocabulary always covers all of
    them."""
    train_file: Annotated[str, For(LM)] = ""
    """The training text, instead of ``path``; needs ``valid_file`` and ``test_file``."""
    valid_file: Annotated[str, For(LM)] = ""
    """The text that selects the best epoch."""
    test_file: Annotated[str, For(LM)] = ""
    """The text to score once, at the end."""
    image_size: Annotated[AutoSize, For(CLASSIFIER)] = 0
    """Height and width that a folder's pictures are resized to; ``auto``, or 0, keeps a common square size of at most
    64 pixels, and otherwise takes 32."""
    builtin: Annotated[
        Literal["", "python-docs", "toy-sentences", "digits", "sunspots"], For(LM, TAGGER, CLASSIFIER, REGRESSOR)
    ] = ""
    """Data that needs no download: ``python-docs``, the language reference that ships with CPython (language-model);
    ``toy-sentences``, two tagged sentences (tagger); ``digits``, scikit-learn's 8x8 digits (classifier); ``sunspots``,
    the yearly numbers that ship with statsmodels (regressor)."""
    level: Annotated[Literal["word", "character", "prose", "auto"], For(LM, SCRATCH, TEXT)] = "word"
    """What a token is: a whitespace-separated word, a character, or with ``prose`` a lower-cased word, number or
    punctuation mark, split by the rules of ``runtime/prose.py``. With ``auto``, the training text decides, and the
    output says how."""
    vocabulary_size: Annotated[NotNegative, For(LM, SCRATCH)] = 0
    """Number of most frequent tokens to keep, including ``<unk>`` and the start and end tokens; 0 keeps all."""
    min_count: Annotated[Positive, For(*WORDS)] = 1
    """Words that occur less often in the training text are read as ``<unk>`` (their characters are still read)."""
    lowercase: Annotated[bool, For(*WORDS)] = False
    """Look words up in lower case; their characters keep their case."""
    split_seed: Annotated[NotNegative, For(TAGGER, CLASSIFIER, TEXT, REGRESSOR)] = 1
    """Seed that draws the validation and test sets where the data has none; 0 takes them from the end. Texts of a
    language-model and series are always split in order. ``training.seed`` does not change the splits."""
    valid_size: Annotated[AutoSize, For(LM, TAGGER, CLASSIFIER, TEXT, REGRESSOR)] = 0
    """Number of examples to hold out for validation if the data has no validation set: sequences, sentences, texts, or
    a language-model's lines; for a series, the forecasts that end just before the first value of the test set.
    ``auto``, or 0, takes a tenth of the data."""
    test_size: Annotated[AutoSize, For(LM, TAGGER, CLASSIFIER, TEXT, REGRESSOR)] = 0
    """Number of examples to hold out for testing if the data has no test set; for a series, the last forecasts.
    ``auto``, or 0, takes a tenth of the data."""
    strict: Annotated[bool, For(TAGGER, CLASSIFIER, TEXT)] = False
    """Refuse labels or tags of validation and test data that do not occur in the training data, instead of counting
    them as errors."""
    batch_size: AutoCount = 20
    """B: for a language model, the number of contiguous rows that the text is split into and that are read in parallel;
    for other tasks, the number of sequences per step (over all processes together). ``auto`` takes 32 for large data
    (20 rows for a language model), fewer for small data."""
    tbptt_length: Annotated[Positive, For(LM)] = 35
    """T: the number of steps of a window, and so how far the gradient flows back (truncated backpropagation through
    time)."""


class ModelConfig(_Section):
    """``[model]``: input layer, recurrent stack and decoder."""

    cell: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"] = "lstm"
    """The recurrent cell."""
    hidden_size: Positive = 200
    """H: number of units per layer and direction."""
    embedding_size: Annotated[NotNegative, For(LM, *WORDS)] = 0
    """E: size of a word embedding; 0 means ``hidden_size``."""
    character_encoder: Annotated[Literal["none", "lstm", "cnn"], For(*WORDS)] = "none"
    """What reads the characters of each word, in addition to its embedding: a bidirectional LSTM, or a convolution over
    three characters with max pooling."""
    character_embedding_size: Annotated[Positive, For(*WORDS)] = 32
    """Size of a character embedding."""
    character_hidden_size: Annotated[Positive, For(*WORDS)] = 64
    """Number of units of the character LSTM per direction, or of filters of the convolution."""
    num_layers: Positive = 2
    """L: number of stacked recurrent layers."""
    bidirectional: Annotated[bool, For(*BATCHES)] = False
    """Add a second direction, which reads each sequence from its end."""
    pooling: Annotated[Literal["last", "mean", "max"], For(CLASSIFIER, TEXT, REGRESSOR, MEMORY)] = "last"
    """What the decoder sees of the last layer's outputs: those at each row's own end (for the backward direction, at
    its start), their mean, or the maximum of each unit."""
    output: Annotated[Literal["softmax", "crf"], For(TAGGER)] = "softmax"
    """Choose the tag of each word independently (softmax), or jointly with a linear-chain conditional random field
    (CRF)."""
    dropout: Annotated[Share, For(LM, *BATCHES)] = 0.0
    """Dropout probability for word vectors, between layers, and for the last output; never along time. Numeric input is
    never dropped."""
    word_dropout: Annotated[Share, For(*WORDS)] = 0.0
    """Probability of reading a known word as ``<unk>`` during training, so that the characters learn to stand in for
    it."""
    forget_bias: Annotated[float, For(LM, *BATCHES)] = 0.0
    """Added to the forget gate's bias at initialization (LSTM only)."""
    init_scale: Annotated[float, Field(ge=0)] = 0.1
    """Weights are initialized uniformly in ±init_scale. 0 selects each module's own initialization: ±1/√H for recurrent
    layers, ±1/√n for a decoder with n inputs (for a scratch-language-model ±1/√n, where n is V for the input weights
    and the gates' biases, and H for the recurrent weights, the decoder and its bias)."""
    decoder_std: Annotated[float, Field(ge=0), For(CLASSIFIER, TEXT, REGRESSOR, MEMORY)] = 0.0
    """If above 0, the decoder's weights are initialized from a normal distribution with this standard deviation,
    truncated at two deviations."""
    decoder_bias: Annotated[float, For(CLASSIFIER, TEXT, REGRESSOR, MEMORY)] = 0.0
    """Initial value of the decoder's bias if ``decoder_std`` is above 0."""
    one_hot: Annotated[bool, For(LM, SCRATCH)] = False
    """Feed words as one-hot vectors: the first layer's input size is V, and there is no embedding."""
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
            raise ValueError("one_hot uses no embedding; leave embedding_size at 0 and tie_weights at false")
        return self


class TrainingConfig(_Section):
    """``[training]``: the optimization."""

    epochs: AutoCount = 13
    """Passes over the training data; ``auto`` takes 5 for large data and up to 100 for small data."""
    patience: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """Training ends after this many evaluations that are no better than the best; 0 never ends it early."""
    max_steps: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """If above 0, training ends after this many steps, and ``epochs`` is ignored."""
    eval_every: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """Number of steps between two evaluations; 0 evaluates after each epoch. A run with ``max_steps`` ends with one."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Plain SGD, Adam, or AdamW (decoupled weight decay)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1.0
    """The initial learning rate. The cost of a language model is the sum over a window's steps of the mean over its
    rows; for other tasks, it is the mean over the words (tagger) or the sequences of a step."""
    schedule: Annotated[Literal["decay", "cosine", "plateau"], For(LM, *BATCHES)] = "decay"
    """How the learning rate falls: with ``decay``, by ``lr_decay`` each epoch after ``lr_decay_after_epoch``; with
    ``cosine``, from step to step along half a cosine, to 0 at the end of the run; with ``plateau``, by ``lr_decay``
    after ``plateau_patience`` evaluations that are no better than the best."""
    plateau_patience: Annotated[Positive, For(LM, *BATCHES)] = 3
    """The number of evaluations without progress after which ``plateau`` lowers the learning rate."""
    lr_decay: Annotated[float, Field(gt=0, le=1), For(LM, *BATCHES)] = 1.0
    """The factor of the schedules ``decay`` and ``plateau``."""
    lr_decay_after_epoch: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """The learning rate is constant up to and including this epoch (epochs count from 1)."""
    lr_decay_on_rise: Annotated[float, Field(gt=0, le=1), For(SCRATCH)] = 1.0
    """After an epoch with a higher training loss than the previous one, the learning rate is multiplied by this
    factor."""
    average_decay: Annotated[Share, For(LM, *BATCHES)] = 0.0
    """If above 0, each evaluation also scores the running average of the weights, and the better of the two is kept:
    ``average ← average_decay · average + (1 − average_decay) · weights`` after each step, with a smaller decay for the
    first steps, ``(1 + step) / (10 + step)`` (Polyak and Juditsky 1992)."""
    class_weights: Annotated[Literal["none", "balanced"], For(CLASSIFIER, TEXT)] = "none"
    """The weight of an example in the cost: 1, or with ``balanced`` ``N / (C · N_c)`` for each of the N_c examples of
    its label, so that rare labels count as much as frequent ones (King and Zeng 2001)."""
    weight_decay: Annotated[float, Field(ge=0), For(LM, *BATCHES)] = 0.0
    """L2 penalty (SGD, Adam) or decoupled decay (AdamW)."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 5.0
    """Clip gradients to this global L2 norm; 0 does not clip."""
    precision: Annotated[Literal["fp32", "bf16", "fp16", "high"], For(LM, *BATCHES)] = "fp32"
    """Precision of the matrix products; weights, gradients and optimizer are always fp32, and so is the cell state,
    except in ``bf16`` and ``fp16`` on a GPU, where cuDNN rounds it. ``high`` computes an fp32 product as three bf16
    products (16 of 24 bits) on processors with AMX, is fp32 on other processors, and TF32 (10 bits) on a GPU."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed for initial weights, dropout, sampling and the order of the examples."""
    checkpoint_every: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints within an epoch (in addition to one after each epoch)."""
    max_bad_steps: Annotated[Positive, For(LM, *BATCHES)] = 10
    """Number of consecutive steps with a non-finite loss or gradient (each is skipped) before training stops."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.schedule == "plateau" and self.lr_decay == 1:
            raise ValueError(
                "schedule plateau multiplies the learning rate by lr_decay; set lr_decay below 1, such as 0.5"
            )
        if self.schedule == "cosine" and (self.lr_decay != 1 or self.lr_decay_after_epoch):
            raise ValueError("schedule cosine has no lr_decay; leave lr_decay at 1.0 and lr_decay_after_epoch at 0")
        return self


class RuntimeConfig(_Section):
    """``[runtime]``: engine, device and threads."""

    engine: Annotated[Literal["auto", "torch", "reference", "native"], For(LM, *BATCHES)] = "auto"
    """What computes the recurrent layers: ``auto`` (``native`` where it is supported, else ``torch``), ``native``,
    ``torch``, or ``reference`` (NumPy, slow, for checking); ``gatewise doctor`` lists what is available. An engine that
    is named explicitly computes all layers or raises an error."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``, …; ``auto`` uses a GPU if there is one."""
    graph: Annotated[bool, For(LM, *BATCHES)] = True
    """On a GPU, run a training step as one CUDA graph where all batches have the same shape; results do not change."""
    threads: Annotated[NotNegative, For(LM, *BATCHES)] = 0
    """Number of CPU threads; 0 leaves the choice to PyTorch."""


class LoggingConfig(_Section):
    """``[logging]``: what to log; it does not affect results."""

    tensorboard: bool = True
    """Write scalars under ``tensorboard/`` in the run folder."""
    tensorboard_every: Positive = 10
    """Number of steps between two points of the training loss in TensorBoard."""


_ONLY_IN_TRAINING = ("dropout", "word_dropout", "forget_bias", "init_scale", "decoder_std", "decoder_bias")
"""Keys of ``[model]`` that do not matter after training."""


class Config(_Section):
    """The configuration of a run."""

    task: TaskConfig = TaskConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    logging: LoggingConfig = LoggingConfig()

    def meaning(self) -> dict[str, Any]:
        """Return, by dotted key, the settings that define the model; all others may change after training."""
        model = {f"model.{key}": value for key, value in self.model if key not in _ONLY_IN_TRAINING}
        kept = {"task.name": self.task.name, "data.level": self.data.level, "data.horizon": self.data.horizon}
        return {**kept, **model}

    def unread(self) -> str | None:
        """Return a one-line error for the first changed key that the task does not read, or None."""
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
