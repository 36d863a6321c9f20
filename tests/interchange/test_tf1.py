"""The PTB tutorial's model from checkpoints that TensorFlow wrote, under the names of each version, and back."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.config import ModelConfig
from gatewise.errors import DataError, GatewiseError, MissingPackage, UsageError
from gatewise.interchange import load_stack, save_stack, tf1
from gatewise.interchange.runs import export_run, import_run, read_vocabulary
from gatewise.interchange.tensor_bundle import Array, read_bundle, write_bundle
from gatewise.runtime.vocabulary import Vocabulary
from gatewise.tasks.evaluate import evaluate
from tests.interchange.rig import assert_alike, assert_equal_weights, drawn_stack

FIXTURES = Path(__file__).parent / "fixtures" / "tf1"
TRUTH = json.loads((FIXTURES / "truth.json").read_text())
MODELS = [name for name, about in TRUTH.items() if "perplexity" in about]
CELL = "Model/RNN/multi_rnn_cell/cell_{}/lstm_cell/{}"


def of_text(fixture: str, part: str) -> Path:
    return FIXTURES / f"{TRUTH[fixture]['text']}.{part}.txt"


def imported(fixture: str, out: Path, forget_bias: float | None = None) -> Path:
    bias = TRUTH[fixture]["forget_bias"] if forget_bias is None else forget_bias
    return import_run(FIXTURES / fixture, out, vocabulary=of_text(fixture, "train"), forget_bias=bias).path


@pytest.mark.parametrize("fixture", MODELS)
def test_perplexity_is_that_of_tensorflow(fixture: str, tmp_path: Path) -> None:
    run = imported(fixture, tmp_path / "run")
    figures = evaluate(run, data=of_text(fixture, "test"))
    assert figures["perplexity"] == pytest.approx(TRUTH[fixture]["perplexity"], rel=1e-6)
    assert gw.load(run, gw.LanguageModel).vocabulary.tokens == TRUTH["vocabulary"][TRUTH[fixture]["text"]]


@pytest.mark.parametrize("fixture", ["large", "lstm_cell"])
def test_perplexity_depends_on_the_forget_bias(fixture: str, tmp_path: Path) -> None:
    """Nothing in the file tells a wrong one apart, so it must be given."""
    run = imported(fixture, tmp_path / "run", 1 - TRUTH[fixture]["forget_bias"])
    figures = evaluate(run, data=of_text(fixture, "test"))
    assert abs(figures["perplexity"] / TRUTH[fixture]["perplexity"] - 1) > 1e-3


def test_the_models_are_alike_only_where_they_should_be() -> None:
    """The fixtures can fail: each has another perplexity, far from that of a uniform guess."""
    found = [(TRUTH[name]["perplexity"], len(TRUTH["vocabulary"][TRUTH[name]["text"]])) for name in MODELS]
    assert len(set(found)) == len(found)
    assert all(abs(math.log(perplexity / V)) > 0.1 for perplexity, V in found)


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_where_each_number_goes(forget_bias: float) -> None:
    """By hand, without the table of layouts: the gates are i c f o, the rows of x come first."""
    bundle = read_bundle(FIXTURES / "lstm_cell")
    weights = tf1.load_model(FIXTURES / "lstm_cell", forget_bias=forget_bias)
    H = 4
    for layer, own in enumerate(weights.stack.passes):
        kernel, bias = bundle[CELL.format(layer, "kernel")], bundle[CELL.format(layer, "bias")]
        for ours, theirs in enumerate((0, 2, 1, 3)):  # i f g o
            mine, block = slice(ours * H, (ours + 1) * H), slice(theirs * H, (theirs + 1) * H)
            np.testing.assert_array_equal(own.weight_ih[mine], kernel[:H, block].T)
            np.testing.assert_array_equal(own.weight_hh[mine], kernel[H:, block].T)
            assert own.bias_ih is not None
            np.testing.assert_array_equal(own.bias_ih[mine], bias[block] + np.float32(forget_bias if ours == 1 else 0))
        assert not np.any(own.bias_hh)
    np.testing.assert_array_equal(weights.embedding, bundle["Model/embedding"])
    np.testing.assert_array_equal(weights.decoder_weight, bundle["Model/softmax_w"].T)
    np.testing.assert_array_equal(weights.decoder_bias, bundle["Model/softmax_b"])


def test_the_vocabulary_of_a_training_text() -> None:
    """The tutorial's rule: falling count, then the word."""
    for text, words in TRUTH["vocabulary"].items():
        path = FIXTURES / f"{text}.train.txt"
        assert read_vocabulary(path, len(words)).tokens == words
        with pytest.raises(DataError, match=rf"{text}.train.txt: a text with {len(words)} different words, .* with 7,"):
            read_vocabulary(path, 7)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("forget_bias", [0.0, 1.0, -0.5])
def test_stacks_there_and_back(layers: int, bias: bool, forget_bias: float, tmp_path: Path) -> None:
    stack = drawn_stack("lstm", layers, bias=bias)
    save_stack(stack, tmp_path / "a.ckpt", "tf1", forget_bias=forget_bias)
    found = load_stack(tmp_path / "a.ckpt", forget_bias=forget_bias)
    assert_alike(found, stack)
    for name, parameter in stack.named_parameters():
        assert name.startswith("bias") or torch.equal(found.get_parameter(name), parameter), name
    save_stack(found, tmp_path / "b.ckpt", "tf1")
    assert_equal_weights(load_stack(tmp_path / "b.ckpt", forget_bias=0.0), found)


def test_runs_there_and_back(tmp_path: Path) -> None:
    """Of one bias, every bit returns; the same figures, then, and the numbers that TensorFlow wrote."""
    run = imported("large", tmp_path / "run")
    export_run(run, tmp_path / "a.ckpt", "tf1")
    before, after = read_bundle(FIXTURES / "large"), read_bundle(tmp_path / "a.ckpt")
    assert list(after) == [name.replace("basic_lstm_cell", "lstm_cell") for name in before if name != "global_step"]
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name.replace("/lstm_cell", "/basic_lstm_cell")])
    export_run(run, tmp_path / "b.ckpt", "tf1", forget_bias=1.0)
    bias = CELL.format(0, "bias")
    gap = read_bundle(tmp_path / "b.ckpt")[bias] - after[bias]
    np.testing.assert_allclose(gap, np.repeat([0, 0, -1, 0], 20), atol=1e-6)


@pytest.mark.parametrize(
    ("fixture", "forget_bias", "expected"),
    [
        ("peepholes", 0.0, "w_f_diag is of an LSTM with peepholes"),
        ("gru", 0.0, "gru_cell/candidate/bias is of a GRUCell, which resets before the product"),
        ("projection", 0.0, r"projection/kernel \(6, 4\) belongs to another layer"),
        ("widths", 0.0, r"cell_1/basic_lstm_cell/kernel has shape \(10, 16\); expected \(12, 24\): every layer must"),
        ("pieces", 0.0, r"none of its variables \(Model/pieces\) is that of an LSTM's layer"),
        ("v1", 0.0, "a checkpoint of the format V1"),
        ("cudnn", 1.0, "forget_bias=1.0: cuDNN adds none; expected forget_bias=0"),
        ("large", None, "forget_bias is missing; a checkpoint does not contain it"),
        ("large", math.inf, "forget_bias=inf: expected a finite number"),
    ],
)
def test_refusals(fixture: str, forget_bias: float | None, expected: str) -> None:
    error = UsageError if fixture in ("cudnn", "large") else DataError
    for read in (tf1.load_model, tf1.load_stack):
        with pytest.raises(error, match=expected):
            read(FIXTURES / fixture, forget_bias=forget_bias)


Changes = dict[str, Array | None]


def changed(tmp_path: Path, changes: Changes) -> Path:
    """Return a copy of a checkpoint with variables added, replaced, or (None) removed."""
    arrays = {**read_bundle(FIXTURES / "lstm_cell"), **changes}
    write_bundle(tmp_path / "a", {name: array for name, array in arrays.items() if array is not None})
    return tmp_path / "a"


ZEROS = np.zeros((8, 16), np.float32)
EMBEDDING = np.zeros((20, 4), np.float32)
KERNEL = CELL.format(0, "kernel")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({CELL.format(1, "bias"): None}, r"cell_1/lstm_cell/bias is missing; expected \(16,\)"),
        ({CELL.format(3, "kernel"): ZEROS}, r"cell_3/lstm_cell/kernel \(8, 16\) belongs to another layer"),
        ({"Model/attention": ZEROS}, r"Model/attention \(8, 16\) belongs to another layer"),
        (
            {CELL.replace("Model", "Other").format(0, "kernel"): ZEROS},
            "Model/RNN/multi.* and Other/RNN/multi.*; expected",
        ),
        ({"Model/softmax_w": None}, r"Model/softmax_w is missing; expected \(4, 20\)"),
        ({"Model/softmax_b": np.zeros(21, np.float32)}, r"softmax_b has shape \(21,\); expected \(20,\)"),
        ({"Model/embedding": np.zeros((20, 5), np.float32)}, r"embedding has shape \(20, 5\); expected \(20, 4\)"),
        ({"Model/embedding": np.zeros((0, 4), np.float32)}, r"embedding has shape \(0, 4\); expected \(1, 4\)"),
        ({"Model/embedding": None}, r"embedding is missing; expected \(20, 4\)"),
        ({"Model/embedding": np.full_like(EMBEDDING, np.nan)}, "embedding contains numbers that are not finite"),
        ({"Model/embedding": EMBEDDING.astype(np.float64)}, "embedding is float64; expected float32 or 16 bits"),
        (
            {KERNEL: np.zeros((4, 16), np.float32)},
            r"has shape \(4, 16\) and its bias \(16,\); expected \(I \+ H, 4·H\)",
        ),
        ({KERNEL: np.zeros((8, 12), np.float32)}, r"kernel has shape \(8, 12\); expected \(8, 16\)"),
        ({CELL.format(0, "bias"): np.zeros(18, np.float32)}, r"expected \(8, 16\)|expected \(16,\)"),
        ({CELL.format(0, "bias"): np.zeros((4, 4), np.float32)}, r"its bias \(4, 4\); expected \(I \+ H, 4·H\) and"),
        ({"_CHECKPOINTABLE_OBJECT_GRAPH": np.zeros(1, np.float32)}, "a checkpoint of TensorFlow 2"),
        ({CELL.format(0, "W_F_diag"): np.zeros(4, np.float32)}, "W_F_diag is of an LSTM with peepholes"),
        ({"Model/RNN/GRUCell/Gates/Linear/Matrix": ZEROS}, "is of a GRUCell"),
    ],
)
def test_models_that_are_not_the_tutorials(changes: Changes, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=expected) as found:
        tf1.load_model(changed(tmp_path, changes), forget_bias=0.0)
    assert str(found.value).startswith(str(tmp_path / "a"))


@pytest.mark.parametrize("scope", ["", "Model/", "Train/Model/"])
def test_what_is_left_out(scope: str, tmp_path: Path) -> None:
    """Slots of optimizers, moving averages, counters, and cuDNN's weights as it keeps them."""
    extra: Changes = {f"{scope}{KERNEL}/{slot}": ZEROS for slot in ("Adam", "Adam_1", "ExponentialMovingAverage")}
    extra |= {f"{scope}Model/embedding/Momentum": EMBEDDING, "Model/lstm_params": np.zeros(9, np.float32)}
    extra |= {"global_step": np.array(7), f"{scope}Variable": np.array(1.0, np.float32), "beta1_power": np.array(0.9)}
    found = tf1.load_model(changed(tmp_path, extra), forget_bias=1.0)
    expected = tf1.load_model(FIXTURES / "lstm_cell", forget_bias=1.0)
    for name, array in expected.stack.arrays().items():
        np.testing.assert_array_equal(found.stack.arrays()[name], array)
    np.testing.assert_array_equal(found.embedding, expected.embedding)


def test_only_what_cudnn_keeps(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", {"Model/lstm_params": np.zeros(9, np.float32), "Model/embedding": EMBEDDING})
    with pytest.raises(DataError, match="a: lstm_params, the opaque weights of cuDNN, alone; expected an LSTM"):
        tf1.load_model(tmp_path / "a", forget_bias=0.0)


def test_a_stack_within_another_model(tmp_path: Path) -> None:
    """Of bare stacks, what lies beside the layers does not matter; what lies among them does."""
    beside = changed(tmp_path, {"Model/attention": ZEROS, "Model/softmax_w": None})
    expected = load_stack(FIXTURES / "lstm_cell", forget_bias=1.0)
    assert_equal_weights(load_stack(beside, forget_bias=1.0), expected)
    among = changed(tmp_path, {"Model/RNN/attention": ZEROS})
    with pytest.raises(DataError, match="RNN/attention"):
        load_stack(among, forget_bias=1.0)


def test_half_precision(tmp_path: Path) -> None:
    """The tutorial's ``use_fp16``: every number fits into float32."""
    arrays = {name: array.astype(np.float16) for name, array in read_bundle(FIXTURES / "lstm_cell").items()}
    write_bundle(tmp_path / "a", arrays)
    found = tf1.load_model(tmp_path / "a", forget_bias=0.0)
    assert found.embedding is not None and found.embedding.dtype == np.float32
    np.testing.assert_array_equal(found.embedding, arrays["Model/embedding"].astype(np.float32))


def small_model(**options: object) -> gw.LanguageModel:
    config = ModelConfig(**{"hidden_size": 4, "num_layers": 2, "embedding_size": 3, **options})  # type: ignore[arg-type]
    return gw.LanguageModel(config, Vocabulary(["<eos>", "<unk>", "a"]))


@pytest.mark.parametrize("options", [{"cell": "gru"}, {"one_hot": True, "embedding_size": 0}])
def test_models_that_a_checkpoint_cannot_hold(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a checkpoint of TensorFlow 1 holds"):
        tf1.save_model(small_model(**options), tmp_path / "a")
    for stack in (drawn_stack("gru"), drawn_stack("lstm", bidirectional=True), drawn_stack("lstm", proj_size=2)):
        with pytest.raises(UsageError, match="an LSTM of one direction without a projection"):
            save_stack(stack, tmp_path / "a", "tf1")
    with pytest.raises(UsageError, match="forget_bias=nan: expected a finite number"):
        tf1.save_model(small_model(), tmp_path / "a", forget_bias=math.nan)
    assert not list(tmp_path.iterdir())


def test_a_model_with_two_biases_and_another_width(tmp_path: Path) -> None:
    """Ours have two biases, here not zero, and an embedding of another width than the layers."""
    model = small_model()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    tf1.save_model(model, tmp_path / "a", forget_bias=1.0)
    found = tf1.load_model(tmp_path / "a", forget_bias=1.0)
    assert_alike_on(found.stack.to_module(), model.rnn)
    np.testing.assert_array_equal(found.embedding, model.embedding.weight.detach())
    np.testing.assert_array_equal(found.decoder_weight, model.decoder.weight.detach())
    np.testing.assert_array_equal(found.decoder_bias, model.decoder.bias.detach())


def assert_alike_on(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(found(x)[0], expected(x)[0], rtol=1e-5, atol=1e-6)


def test_running_it_in_tensorflow(tmp_path: Path) -> None:
    """With TensorFlow installed beside PyTorch, the export is compared; otherwise it says what is missing."""
    model, path = small_model(), tmp_path / "a"
    tf1.save_model(model, path, forget_bias=1.0)
    if importlib.util.find_spec("tensorflow") is None:
        with pytest.raises(MissingPackage, match="needs TensorFlow, which is not installed"):
            tf1.differences(model, path, forget_bias=1.0)
        return
    assert max(tf1.differences(model, path, forget_bias=1.0).values()) < 1e-5
    assert max(tf1.differences(model, path, forget_bias=0.0).values()) > 1e-3


def test_options_of_other_formats() -> None:
    with pytest.raises(GatewiseError, match="nonlinearity=relu: does not apply to tf1"):
        load_stack(FIXTURES / "large", forget_bias=0.0, nonlinearity="relu")
