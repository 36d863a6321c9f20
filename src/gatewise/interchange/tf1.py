"""TensorFlow 1: checkpoints of the language model of the PTB tutorial, without TensorFlow.

TensorFlow's ``BasicLSTMCell`` and ``LSTMBlockCell`` compute, with ⊗ elementwise and the gates in the order i, c, f, o,

    [a_i a_c a_f a_o] = [x h'] kernel + bias
    c = σ(a_f + forget_bias) ⊗ c' + σ(a_i) ⊗ tanh(a_c)
    h = σ(a_o) ⊗ tanh(c)

``forget_bias`` stands in the program, not in the file: 1.0 by default, 0.0 in the tutorial and in cuDNN. Source:
``rnn_cell_impl.py`` and ``ptb_word_lm.py`` of TensorFlow 1.15 and its tutorials.
"""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gatewise.errors import DataError, MissingPackage, UsageError
from gatewise.interchange.layouts import LAYOUTS, Array, from_layout, to_layout
from gatewise.interchange.model import ModelWeights
from gatewise.interchange.stack import StackWeights
from gatewise.interchange.tensor_bundle import Bundle, is_checkpoint, read_bundle, write_bundle
from gatewise.models.language_model import LanguageModel
from gatewise.nn import in_eval_mode
from gatewise.wording import option

_BLOCK = ("multi_rnn_cell/cell_{}/lstm_cell/kernel", "multi_rnn_cell/cell_{}/lstm_cell/bias")
_CUDNN = tuple(name.replace("lstm_cell/", "cudnn_compatible_lstm_cell/") for name in _BLOCK)
_NAMINGS = (
    _BLOCK,  # LSTMBlockCell and LSTMCell
    tuple(name.replace("lstm_cell/", "basic_lstm_cell/") for name in _BLOCK),
    ("multi_rnn_cell/cell_{}/basic_lstm_cell/weights", "multi_rnn_cell/cell_{}/basic_lstm_cell/biases"),  # 1.0, 1.1
    ("MultiRNNCell/Cell{}/BasicLSTMCell/Linear/Matrix", "MultiRNNCell/Cell{}/BasicLSTMCell/Linear/Bias"),  # before 1.0
    _CUDNN,
)
"""The names of the kernel and the bias of layer k within the scope ``RNN``, as TensorFlow's versions give them."""
_EXPECTED = "an LSTM language model with the names of TensorFlow's PTB tutorial"
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_PEEPHOLE = re.compile(r"(?:.*/)?w_[ifo]_diag", re.IGNORECASE)
_GRU = re.compile(r"(?:.*/)?gru_?cell/.*", re.IGNORECASE)
recognises = is_checkpoint


@dataclass(frozen=True)
class _Checkpoint:
    """The variables of a model within a checkpoint.

    Attributes:
        bundle: all variables.
        scope: what the names of the layers begin with, such as ``Model/RNN/``.
        layers: the names of the kernel and the bias of each layer.
    """

    bundle: Bundle
    scope: str
    layers: tuple[tuple[str, str], ...]

    @property
    def around(self) -> list[str]:
        """The names of embedding, softmax_w and softmax_b, one scope above the layers."""
        above = "".join(self.scope.rstrip("/").rpartition("/")[:2])
        return [above + name for name in ("embedding", "softmax_w", "softmax_b")]


def load_stack(path: Path, *, forget_bias: float | None = None) -> StackWeights:
    """Read the LSTM of a checkpoint; what the model has around it is not read.

    Args:
        path: the checkpoint's prefix, or one of its files.
        forget_bias: what the program's cells add to the forget gate's bias at run time.

    Raises:
        DataError: the checkpoint is missing, damaged, or has no LSTM that can be represented.
        UsageError: ``forget_bias`` is missing, or is not that of the cells.
    """
    found = _open(path, forget_bias)
    _check_known(found, found.scope)
    return _stack(found, _given(forget_bias))


def load_model(path: Path, *, forget_bias: float | None = None) -> ModelWeights:
    """Read the language model of a checkpoint: embedding, LSTM and softmax.

    Optimizer slots, numbers such as ``global_step`` and cuDNN's ``lstm_params`` are left out.

    Args:
        path: the checkpoint's prefix, or one of its files.
        forget_bias: what the program's cells add to the forget gate's bias at run time.

    Raises:
        DataError: the checkpoint is missing, damaged, or has another model.
        UsageError: ``forget_bias`` is missing, or is not that of the cells.
    """
    found = _open(path, forget_bias)
    _check_known(found, "")
    H = _check_layers(found)
    shapes, (embedding, weight, bias) = found.bundle.shapes, found.around
    V = max(1, (shapes.get(embedding) or shapes.get(bias) or (1,))[0])
    inputs = shapes[found.layers[0][0]][0] - H
    for name, shape in ((embedding, (V, inputs)), (weight, (H, V)), (bias, (V,))):
        _check_shape(found, name, shape)
    stack = _stack(found, _given(forget_bias))
    arrays = [_array(found, name) for name in (embedding, weight, bias)]
    return ModelWeights(stack, arrays[0], np.ascontiguousarray(arrays[1].T), arrays[2])


def save_stack(weights: StackWeights, path: Path, *, forget_bias: float = 0.0) -> None:
    """Write an LSTM under the names ``RNN/multi_rnn_cell/cell_{k}/lstm_cell/{kernel,bias}``.

    Args:
        weights: the stack.
        path: the checkpoint's prefix.
        forget_bias: what the cells that read it add to the forget gate's bias; it is subtracted.

    Raises:
        UsageError: the stack is no LSTM of one direction without a projection.
    """
    write_bundle(path, _layers(weights, "RNN/", _finite(forget_bias)))


def save_model(model: nn.Module, path: Path, *, forget_bias: float = 0.0) -> None:
    """Write a language model under the names of the PTB tutorial, as of TensorFlow 1.2 and newer.

    Args:
        model: a ``LanguageModel``.
        path: the checkpoint's prefix.
        forget_bias: what the cells that read it add to the forget gate's bias; it is subtracted.

    Raises:
        UsageError: the model is not one of an LSTM of one direction that reads an embedding.
    """
    if not isinstance(model, LanguageModel) or model.config.one_hot:
        raise UsageError("a checkpoint of TensorFlow 1 holds a language model with an embedding; choose another format")
    arrays = _layers(StackWeights.from_module(model.rnn), "Model/RNN/", _finite(forget_bias))
    for name, tensor in (
        ("embedding", model.embedding.weight),
        ("softmax_w", model.decoder.weight.T),
        ("softmax_b", model.decoder.bias),
    ):
        arrays[f"Model/{name}"] = tensor.detach().float().cpu().contiguous().numpy()
    write_bundle(path, arrays)


@torch.no_grad()
def differences(model: nn.Module, path: Path, *, forget_bias: float = 0.0) -> dict[str, float]:
    """Compute a model and its checkpoint, the latter by TensorFlow's kernel of the cell; return how far they differ.

    The input are random words, the first state is not zero, and the final states are those of rows of unequal length.

    Args:
        model: the ``LanguageModel``.
        path: the checkpoint's prefix.
        forget_bias: what TensorFlow's cells add.

    Returns:
        The largest differences of the outputs and of the states, relative to the largest of each, but at least to 1.

    Raises:
        MissingPackage: TensorFlow is not installed.
    """
    assert isinstance(model, LanguageModel)
    try:
        tf = importlib.import_module("tensorflow")
    except ModuleNotFoundError:
        raise MissingPackage("running a checkpoint needs TensorFlow, which is not installed (tensorflow-cpu)") from None
    reader, draw, H = tf.train.load_checkpoint(str(path)), torch.Generator().manual_seed(0), model.config.hidden_size
    names = [tuple(f"Model/RNN/{name.format(k)}" for name in _BLOCK) for k in range(model.config.num_layers)]
    ids = torch.randint(len(model.vocabulary), (17, 3), generator=draw)
    start = type(model.initial_state())(*torch.randn(2, len(names), 3, H, generator=draw))
    lengths, no_peepholes = torch.tensor([17, 1, 6]), tf.zeros([H])
    h, c = ([tf.constant(layer.numpy()) for layer in part] for part in start)
    steps = list[tuple[Array, Array, Array]]()
    for t in range(len(ids)):
        x = tf.gather(reader.get_tensor("Model/embedding"), ids[t].numpy())
        for k, (kernel, bias) in enumerate(names):
            _, c[k], _, _, _, _, x = tf.raw_ops.LSTMBlockCell(
                x=x, cs_prev=c[k], h_prev=h[k], w=reader.get_tensor(kernel), b=reader.get_tensor(bias),
                wci=no_peepholes, wcf=no_peepholes, wco=no_peepholes, forget_bias=forget_bias, cell_clip=-1,
            )  # fmt: skip
            h[k] = x
        logits = tf.matmul(x, reader.get_tensor("Model/softmax_w")) + reader.get_tensor("Model/softmax_b")
        steps.append((logits.numpy(), np.stack(h), np.stack(c)))
    theirs, *states = (np.stack(part) for part in zip(*steps, strict=True))
    with in_eval_mode(model):
        ours, _ = model(ids, start)
        _, after = model.features(ids, start, lengths)
    last = [state[lengths - 1, :, range(3)].swapaxes(0, 1) for state in states]
    mine = [ours.numpy(), np.stack([state.numpy() for state in after])]
    gaps = {}
    for name, own, other in zip(("outputs", "states of ragged input"), mine, (theirs, np.stack(last)), strict=True):
        gaps[name] = float(np.abs(own - other).max() / max(1.0, np.abs(own).max()))
    return gaps


def _layers(weights: StackWeights, scope: str, forget_bias: float) -> dict[str, Array]:
    spec = weights.spec
    if spec.cell != "lstm" or spec.bidirectional or spec.proj_size:
        raise UsageError(
            "a checkpoint of TensorFlow 1 holds an LSTM of one direction without a projection; choose another format"
        )
    arrays = dict[str, Array]()
    for layer, own in enumerate(weights.passes):
        if own.bias_ih is None:
            zeros = np.zeros(4 * spec.hidden_size, np.float32)
            own = own._replace(bias_ih=zeros, bias_hh=zeros)
        pair = to_layout("lstm", own, LAYOUTS["tf1"]["lstm"], forget_bias=forget_bias)
        arrays |= {f"{scope}{name.format(layer)}": array for name, array in zip(_BLOCK, pair, strict=True)}
    return arrays


def _given(forget_bias: float | None) -> float:
    if forget_bias is None:
        raise UsageError(
            f"{option('forget_bias')} is missing; a checkpoint does not contain it, since the program's cells add it "
            "at run time: 1.0 by BasicLSTMCell's default, 0.0 in the PTB tutorial and in cuDNN"
        )
    return _finite(forget_bias)


def _open(path: Path, forget_bias: float | None) -> _Checkpoint:
    """Find the layers of the only LSTM of a checkpoint."""
    bundle = read_bundle(path)
    if _OBJECTS in bundle:
        raise DataError(f"{path}: a checkpoint of TensorFlow 2 (tf.train.Checkpoint); expected {_EXPECTED}")
    for name in bundle:
        if _GRU.fullmatch(name):
            raise DataError(f"{path}: {name} is of a GRUCell, which resets before the product; expected {_EXPECTED}")
        if _PEEPHOLE.fullmatch(name):
            raise DataError(f"{path}: {name} is of an LSTM with peepholes; expected one without")
    scopes = [
        (name.removesuffix(naming[0].format(0)), naming)
        for name in bundle
        for naming in _NAMINGS
        if f"/{name}".endswith(f"/{naming[0].format(0)}")
    ]
    if len(scopes) != 1:
        found = " and ".join(scope + naming[0] for scope, naming in scopes[:3])
        if not scopes and any(f"/{name}".endswith("/lstm_params") for name in bundle):
            found = "lstm_params, the opaque weights of cuDNN, alone"
        found = found or f"none of its variables ({', '.join(list(bundle)[:3])}) is that of an LSTM's layer"
        raise DataError(f"{path}: {found}; expected {_EXPECTED}")
    scope, naming = scopes[0]
    if naming == _CUDNN and forget_bias:
        raise UsageError(f"{option('forget_bias', forget_bias)}: cuDNN adds none; expected {option('forget_bias', 0)}")
    return _Checkpoint(bundle, scope, tuple(_names(bundle, scope, naming)))


def _names(bundle: Bundle, scope: str, naming: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the names of the kernel and the bias of each layer."""
    layer = 0
    while (kernel := f"{scope}{naming[0].format(layer)}") in bundle:
        yield kernel, f"{scope}{naming[1].format(layer)}"
        layer += 1


def _check_known(found: _Checkpoint, region: str) -> None:
    """Check that a part of the names has nothing that would change what the model computes."""
    known = {name for pair in found.layers for name in pair} | set(found.around)
    for name, shape in found.bundle.shapes.items():
        if not name.startswith(region) or name in known or not shape or name.endswith("lstm_params"):
            continue
        owner = name.rpartition("/")[0]
        while owner and owner not in known:  # a slot of the optimizer: the variable's name, then its own
            owner = owner.partition("/")[2]
        if not owner:
            raise DataError(
                f"{found.bundle.prefix}: {name} {shape} belongs to another layer than those of {_EXPECTED}; its "
                "results would be left out"
            )


def _check_shape(found: _Checkpoint, name: str, expected: tuple[int, ...], why: str = "") -> None:
    shape = found.bundle.shapes.get(name)
    if shape != expected or 0 in expected:
        what = "is missing" if shape is None else f"has shape {shape}"
        raise DataError(f"{found.bundle.prefix}: {name} {what}; expected {expected}{why}")


def _check_layers(found: _Checkpoint) -> int:
    """Check the shapes of all layers; return H."""
    shapes, prefix = found.bundle.shapes, found.bundle.prefix
    kernel, bias = (shapes.get(name, ()) for name in found.layers[0])
    H = bias[0] // 4 if len(bias) == 1 else 0
    if not H or len(kernel) != 2 or kernel[0] <= H:
        raise DataError(
            f"{prefix}: {found.layers[0][0]} has shape {kernel} and its bias {bias}; expected (I + H, 4·H) and (4·H,)"
        )
    why = f": every layer must have the width of the first, {H}"
    for layer, (kernel_name, bias_name) in enumerate(found.layers):
        _check_shape(found, kernel_name, (kernel[0] if layer == 0 else 2 * H, 4 * H), why)
        _check_shape(found, bias_name, (4 * H,), why)
    return H


def _stack(found: _Checkpoint, forget_bias: float) -> StackWeights:
    """Read the layers."""
    H = _check_layers(found)
    layout = LAYOUTS["tf1"]["lstm"]
    passes = [
        from_layout("lstm", [_array(found, name) for name in pair], layout, H, forget_bias=forget_bias)
        for pair in found.layers
    ]
    return StackWeights.of("lstm", passes, bidirectional=False, source=str(found.bundle.prefix))


def _array(found: _Checkpoint, name: str) -> Array:
    """Read a variable as float32, if that is exact."""
    array = found.bundle[name]
    if array.dtype not in (np.float32, np.float16):
        raise DataError(f"{found.bundle.prefix}: {name} is {array.dtype}; expected float32 or 16 bits")
    if not np.isfinite(array).all():
        raise DataError(f"{found.bundle.prefix}: {name} contains numbers that are not finite; expected trained weights")
    return array.astype(np.float32, copy=False)


def _finite(forget_bias: float) -> float:
    if not abs(forget_bias) <= float(np.finfo(np.float32).max):
        raise UsageError(f"{option('forget_bias', forget_bias)}: expected a finite number, as float32 holds it")
    return forget_bias
