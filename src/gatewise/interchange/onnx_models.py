"""The graphs of the task models. ``INTERFACE`` says what each reads and gives; it is the ``doc_string`` of the file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from gatewise.errors import UsageError
from gatewise.interchange.onnx_export import check_graph, state_outputs, stateful
from gatewise.interchange.onnx_graph import Graph, add_stack
from gatewise.interchange.stack import StackWeights
from gatewise.models.language_model import LanguageModel
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_reader import SequenceReader
from gatewise.models.sequence_regressor import SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.models.text_classifier import TextClassifier
from gatewise.nn.words import CharacterEncoder, WordEncoder
from gatewise.wording import option

_WORDS = (
    "words (T, B) int64, ids of tokenizer.json; lengths (B,) int32; with characters also forms (T, B) int64, the index "
    "of each word among U spellings, spellings (S, U) int64, ids of characters.json, padded, S at least 1, and "
    "spelling_lengths (U,) int32"
)
INTERFACE: Mapping[type[nn.Module], str] = {
    LanguageModel: "A language model: ids (T, B) int64, lengths (B,) int32, h_0 (, c_0) (L, B, H) to logits (T, B, V) "
    "of the next token, h_n (, c_n). A step graph reads ids (B,) and gives logits (B, V).",
    Tagger: f"A tagger: {_WORDS}; to scores (T, B, C) of the tags. With a CRF also transitions (C, C), start (C,) and "
    "end (C,): a sequence of tags y scores start[y_1] + sum scores[t, y_t] + sum transitions[y_t-1, y_t] + end[y_n].",
    TextClassifier: f"A text classifier: {_WORDS}; to probabilities (B, C).",
    SequenceClassifier: "A sequence classifier: x (T, B, I) float32 (pixels in 0..1), lengths (B,) int32; to "
    "probabilities (B, C).",
    SequenceRegressor: "A regressor: x (T, B, I) float64 in the user's units, lengths (B,) int32; to predictions (B,) "
    "or, beyond one value, (B, outputs), float64 in the user's units.",
}


def model_graph(model: nn.Module, graph: str) -> Graph:
    """Return the graph of a model of ``gatewise.models``.

    Raises:
        UsageError: there is no such graph, or ONNX cannot hold the model.
    """
    weights = StackWeights.from_module(model.rnn)  # type: ignore[arg-type]
    check_graph(weights, graph)
    made = Graph()
    if isinstance(model, LanguageModel):
        _language_model(made, model, weights, step=graph == "step")
        return made
    if graph == "step":
        name = type(model).__name__
        raise UsageError(f"{option('graph', graph)}: a {name} reads whole sequences; use {option('graph', 'sequence')}")
    if isinstance(model, SequenceReader):
        _sequence_reader(made, model, weights)
    elif isinstance(model, WordEncoder):
        _words(made, model, weights)
    else:
        raise UsageError(f"a {type(model).__name__}: no ONNX graph is known; expected a model of a run")
    return made


def array_of(tensor: Tensor) -> npt.NDArray[Any]:
    """Return the numbers of a parameter."""
    found: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return found


def _language_model(graph: Graph, model: LanguageModel, weights: StackWeights, *, step: bool) -> None:
    ids = graph.input("ids", "INT64", *(("B",) if step else ("T", "B")))
    lengths = None if step else graph.input("lengths", "INT32", "B")
    V = len(model.vocabulary)
    ids = graph.unsqueezed(ids, 0) if step else ids
    if model.config.one_hot:
        x = graph.add("OneHot", ids, graph.constant([V]), graph.constant([0, 1], np.float32), axis=-1)
    else:
        x = _embedded(graph, "embedding", model.embedding, ids)
    y, after = stateful(graph, weights, x, lengths)
    if step:
        y = graph.squeezed(y, 0)
    logits = _decoded(graph, model.decoder, y, "embedding.weight" if model.config.tie_weights else "")
    graph.output("logits", logits, "FLOAT", *(("B", V) if step else ("T", "B", V)))
    state_outputs(graph, weights, after)


def _embedded(graph: Graph, name: str, embedding: nn.Embedding, ids: str) -> str:
    table = graph.weight(f"{name}.weight", array_of(embedding.weight))
    return graph.add("Gather", table, ids, axis=0, name=f"{name}/Gather")


def _decoded(graph: Graph, decoder: nn.Module, y: str, shared: str = "") -> str:
    assert isinstance(decoder, nn.Linear)
    weight, bias = array_of(decoder.weight), array_of(decoder.bias)
    return graph.linear(y, "decoder", weight, bias, shared)


def _sequence_reader(graph: Graph, model: SequenceReader, weights: StackWeights) -> None:
    regressor = model if isinstance(model, SequenceRegressor) else None
    x = graph.input("x", "FLOAT" if regressor is None else "DOUBLE", "T", "B", model.rnn.input_size)
    lengths, last = graph.input("lengths", "INT32", "B"), ""
    if regressor is not None:
        x, last = _standardised(graph, regressor, x)
    z = _decoded(graph, model.decoder, _pooled(graph, "rnn", weights, x, lengths, model.config.pooling))
    if regressor is None:
        _probabilities(graph, z, model.decoder.out_features)
        return
    scaling, one = regressor.scaling, regressor.horizon == 1
    answers = graph.add("Cast", graph.squeezed(z, 1) if one else z, to=graph.types.DOUBLE)
    answers = graph.add("Mul", answers, graph.weight("scaling.y_std", np.array(scaling.y_std)))
    answers = graph.add("Add", answers, graph.weight("scaling.y_mean", np.array(scaling.y_mean)))
    if last:
        target = graph.add("Gather", last, graph.constant(scaling.columns.index(scaling.target)), axis=1)
        answers = graph.add("Add", answers, target if one else graph.unsqueezed(target, 1))
    graph.output("predictions", answers, "DOUBLE", *(("B",) if one else ("B", regressor.horizon)))


def _standardised(graph: Graph, model: SequenceRegressor, x: str) -> tuple[str, str]:
    """Return x as the layers read it, and the last step of x (B, I) if the model reads differences from it."""
    scaling, last = model.scaling, ""
    if scaling.x_mean:
        if scaling.relative:
            last = graph.add("Gather", x, graph.constant(-1), axis=0)
            place = np.arange(model.input_size) == scaling.columns.index(scaling.target)
            x = graph.add("Sub", x, graph.add("Mul", last, graph.weight("scaling.target", place.astype(np.float64))))
        x = graph.add("Sub", x, graph.weight("scaling.x_mean", np.array(scaling.x_mean)))
        x = graph.add("Div", x, graph.weight("scaling.x_std", np.array(scaling.x_std)))
    return graph.add("Cast", x, to=graph.types.FLOAT), last


def _words(graph: Graph, model: WordEncoder, weights: StackWeights) -> None:
    ids, lengths = graph.input("words", "INT64", "T", "B"), graph.input("lengths", "INT32", "B")
    x = _embedded(graph, "embedding", model.embedding, ids)
    if model.characters is not None:
        forms = graph.input("forms", "INT64", "T", "B")
        spelled = _spelled(graph, model.characters)
        x = graph.add("Concat", x, graph.add("Gather", spelled, forms, axis=0), axis=-1)
    if isinstance(model, TextClassifier):
        pooled = _pooled(graph, "rnn", weights, x, lengths, model.config.pooling)
        _probabilities(graph, _decoded(graph, model.decoder, pooled), len(model.labels))
        return
    assert isinstance(model, Tagger)
    y, _ = add_stack(graph, "rnn", weights, x, lengths)
    C = len(model.tags)
    graph.output("scores", _decoded(graph, model.decoder, y), "FLOAT", "T", "B", C)
    if model.crf is not None:
        for name, parameter in model.crf.named_parameters():
            graph.output(name, graph.weight(f"crf.{name}", array_of(parameter)), "FLOAT", *parameter.shape)


def _spelled(graph: Graph, encoder: CharacterEncoder) -> str:
    """Add the character encoder; return a vector of each spelling, (U, K)."""
    spellings, lengths = graph.input("spellings", "INT64", "S", "U"), graph.input("spelling_lengths", "INT32", "U")
    x = _embedded(graph, "characters.embedding", encoder.embedding, spellings)
    if hasattr(encoder, "rnn"):
        return _pooled(graph, "characters.rnn", StackWeights.from_module(encoder.rnn), x, lengths, "last")
    inside = graph.unsqueezed(graph.inside(x, lengths), 2)
    x = graph.add("Transpose", graph.add("Where", inside, x, graph.constant(0, np.float32)), perm=[1, 2, 0])
    weight, bias = (
        graph.weight(f"characters.convolution.{name}", array_of(parameter))
        for name, parameter in encoder.convolution.named_parameters()
    )
    answers = graph.add("Conv", x, weight, bias, kernel_shape=[3], pads=[1, 1], name="characters.convolution/Conv")
    return _maximum(graph, graph.add("Transpose", answers, perm=[2, 0, 1]), inside, lengths)


def _pooled(graph: Graph, name: str, weights: StackWeights, x: str, lengths: str, pooling: str) -> str:
    """Add a stack, from a state of zeros, and the pooling of its outputs over time; return (B, D·H)."""
    y, after = add_stack(graph, name, weights, x, lengths)
    if pooling == "last":
        h = after[0][-1]
        if weights.spec.num_directions == 1:
            return graph.squeezed(h, 0)
        return graph.add("Reshape", graph.add("Transpose", h, perm=[1, 0, 2]), graph.constant([0, -1]))
    inside = graph.unsqueezed(graph.inside(y, lengths), 2)
    if pooling == "max":
        return _maximum(graph, y, inside, lengths)
    total = graph.add("Where", inside, y, graph.constant(0, np.float32))
    total = graph.add("ReduceSum", total, graph.constant([0]), keepdims=0)
    steps = graph.add("Cast", graph.add("Max", lengths, graph.constant([1], np.int32)), to=graph.types.FLOAT)
    return graph.add("Div", total, graph.unsqueezed(steps, 1))


def _maximum(graph: Graph, y: str, inside: str, lengths: str) -> str:
    """Return the largest of the steps within each row, zeros for a row without steps."""
    largest = graph.add("Where", inside, y, graph.constant(-np.inf, np.float32))
    largest = graph.add("ReduceMax", largest, axes=[0], keepdims=0)
    some = graph.unsqueezed(graph.add("Greater", lengths, graph.constant(0, np.int32)), 1)
    return graph.add("Where", some, largest, graph.constant(0, np.float32))


def _probabilities(graph: Graph, logits: str, labels: int) -> None:
    graph.output("probabilities", graph.add("Softmax", logits, axis=-1), "FLOAT", "B", labels)
