"""PyTorch: a ``state_dict`` in safetensors or ``.pt``, bare or inside a larger model."""

import io
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.sealed import write_sealed
from gatewise.errors import DataError, UsageError
from gatewise.interchange.layouts import Array, PassWeights
from gatewise.interchange.model import ModelWeights
from gatewise.interchange.stack import StackWeights
from gatewise.interchange.torch_file import TensorFile, awd_lstm, open_tensors
from gatewise.interchange.torch_file import recognises as recognises
from gatewise.models.loading import weights_to_save
from gatewise.nn import Recurrent
from gatewise.wording import option

_OF_A_PASS = re.compile(r"(?P<kind>(?:weight|bias)_(?:ih|hh|hr))_l(?P<layer>0|[1-9]\d{0,3})(?P<reverse>_reverse)?")
_LEFT_OVER = re.compile(r"(?:parametrizations\.)?(?:weight|bias)_(?:ih|hh|hr)_l\d+.*")
_AT_THE_END = re.compile(r"(?:^|\.)((?:weight|bias)_(?:ih|hh|hr)_l\d.*)$")
_AWD = re.compile(r"(?:.*\.)?rnns\.\d+\.(?:module\.)?weight_hh_l0_raw")
_CELLS = {4: "lstm", 3: "gru"}
_TORCH = (".pt", ".pth", ".bin")
"""The suffixes of files of ``torch.save``."""


def load_stack(path: Path, *, prefix: str | None = None, nonlinearity: str | None = None) -> StackWeights:
    """Read a recurrent stack.

    Args:
        path: safetensors, or a zip archive of ``torch.save``.
        prefix: what the names of the stack's tensors begin with, such as ``encoder.lstm.``; it is not needed if the
            file has one recurrent stack.
        nonlinearity: ``tanh`` or ``relu``: of an RNN, whose file does not say which.

    Raises:
        DataError: the file is missing or damaged, or has no stack that can be represented.
        UsageError: an option is missing, or does not apply to the file.
    """
    return stack_of(open_tensors(path), prefix, nonlinearity)


def stack_of(file: TensorFile, prefix: str | None, nonlinearity: str | None) -> StackWeights:
    """Return the stack of an open file; see ``load_stack``."""
    prefix = chosen_prefix(file, prefix)
    found: dict[tuple[int, bool], dict[str, str]] = {}
    for name in file.shapes:
        own = name.removeprefix(prefix)
        if not name.startswith(prefix):
            continue
        if known := _OF_A_PASS.fullmatch(own):
            found.setdefault((int(known["layer"]), bool(known["reverse"])), {})[known["kind"]] = name
        elif _LEFT_OVER.fullmatch(own):
            raise DataError(
                f"{file.path}: {name} belongs to weight normalization, dropout of weights or another "
                "parametrization; remove that from the module and save it again"
            )
    directions = (False, True) if (0, True) in found else (False,)
    expected = [(layer, way) for layer in range(1 + max(layer for layer, _ in found)) for way in directions]
    if set(expected) != set(found):
        layer, way = min(set(expected) ^ set(found))
        what = "is missing" if (layer, way) in expected else "has no counterpart in the other layers"
        raise DataError(f"{file.path}: {prefix}weight_ih_l{layer}{'_reverse' * way} {what}; expected whole layers")
    cell = _cell_of(file, prefix, found[0, False], nonlinearity)
    passes = []
    for at in expected:
        for kind in ("weight_ih", "weight_hh"):
            if kind not in found[at]:
                raise DataError(f"{file.path}: {prefix}{kind}_l{at[0]}{'_reverse' * at[1]} is missing")
        passes.append(PassWeights(**{kind: file.array(name) for kind, name in found[at].items()}))
    return StackWeights.of(cell, passes, bidirectional=len(directions) == 2, source=str(file.path))


def chosen_prefix(file: TensorFile, prefix: str | None) -> str:
    """Return the prefix of the stack to read.

    Raises:
        DataError: there is no stack, none with this prefix, or more than one and no prefix was given.
    """
    if any(_AWD.fullmatch(name) for name in file.shapes):
        raise awd_lstm(file.path)
    prefixes = [name.removesuffix("weight_ih_l0") for name in file.shapes if re.fullmatch(r"(.*\.)?weight_ih_l0", name)]
    listed = ", ".join(repr(one) for one in prefixes[:20])
    if prefix is not None:
        if prefix in prefixes or f"{prefix}." in prefixes:
            return prefix if prefix in prefixes else f"{prefix}."
        known = f"there are {listed}" if prefixes else "there is none"
        raise DataError(f"{file.path}: no recurrent stack with the prefix {prefix!r}; {known}")
    if not prefixes:
        found = [(name, _AT_THE_END.search(name)) for name in file.shapes]
        if left := next((name for name, own in found if own and not _OF_A_PASS.fullmatch(own[1])), ""):
            raise DataError(
                f"{file.path}: {left} belongs to a parametrization, such as weight normalization; remove it from the "
                "module and save it again"
            )
        raise DataError(
            f"{file.path}: no weight_ih_l0 among {len(file.shapes)} tensors, so no recurrent stack; expected the "
            "state_dict of a torch.nn.LSTM, GRU or RNN, or of a model with one"
        )
    if len(prefixes) > 1:
        raise DataError(
            f"{file.path}: {len(prefixes)} recurrent stacks, {listed}; select one with {option('prefix', 'NAME')}"
        )
    return prefixes[0]


def _cell_of(file: TensorFile, prefix: str, first: Mapping[str, str], nonlinearity: str | None) -> str:
    """Return the cell, from the number of gates of the first layer."""
    for kind in ("weight_ih", "weight_hh"):
        if kind not in first or len(file.shapes[first[kind]]) != 2:
            raise DataError(f"{file.path}: {prefix}{kind}_l0 is missing or no matrix; expected (gates·H, …)")
    rows, columns = file.shapes[first["weight_hh"]]
    if projection := first.get("weight_hr"):
        shape = file.shapes[projection]
        hidden = shape[1] if len(shape) == 2 else 0
        if rows != 4 * hidden:
            raise DataError(f"{file.path}: {projection} has shape {shape}; expected (P, {rows // 4}), of an LSTM")
        return "lstm"
    if not columns or rows % columns or rows // columns not in (1, *_CELLS):
        raise DataError(
            f"{file.path}: {first['weight_hh']} has shape {(rows, columns)}; expected (G·H, H) with 4 gates for an "
            "LSTM, 3 for a GRU, 1 for an RNN"
        )
    if rows // columns > 1:
        if nonlinearity is not None:
            what = f"a stack with {rows // columns} gates, not an RNN"
            raise UsageError(f"{option('nonlinearity', nonlinearity)}: {file.path} has {what}; omit it")
        return _CELLS[rows // columns]
    known = file.facts.get("cell")
    if nonlinearity is None and known in ("rnn_tanh", "rnn_relu"):
        return str(known)
    if nonlinearity not in ("tanh", "relu"):
        raise UsageError(
            f"{file.path}: an RNN, whose file does not say which nonlinearity it has; give "
            f"{option('nonlinearity', 'tanh')} or {option('nonlinearity', 'relu')}"
        )
    return f"rnn_{nonlinearity}"


def save_stack(weights: StackWeights, path: Path) -> None:
    """Write the ``state_dict`` of ``torch.nn.LSTM``, ``GRU`` or ``RNN``: safetensors or, as ``.pt``, by ``torch.save``.

    Raises:
        UsageError: the suffix is neither.
    """
    write_tensors(path, weights.arrays(), {"cell": weights.spec.cell, "stack": asdict(weights.spec)})


def write_tensors(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, object]) -> None:
    """Write arrays in the format that the suffix names; safetensors with metadata and their hash.

    Raises:
        UsageError: the suffix is neither.
    """
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        write_sealed(path, arrays, facts)
    elif suffix in _TORCH:
        content = io.BytesIO()
        torch.save({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}, content)
        write_atomically(path, content.getvalue())
    else:
        raise UsageError(f"{path}: expected a name that ends in .safetensors or {', '.join(_TORCH)}")


def load_model(path: Path, *, prefix: str | None = None, nonlinearity: str | None = None) -> ModelWeights:
    """Read a language model: a stack, and beside it ``encoder`` or ``embedding``, and ``decoder``.

    These are the names of PyTorch's example ``word_language_model`` and of Gatewise's run folders.

    Args:
        path: safetensors, or a zip archive of ``torch.save``.
        prefix: that of the stack, as for ``load_stack``; its last part but one may hold the whole model, such as
            ``model.`` in ``model.rnn.``.
        nonlinearity: as for ``load_stack``.

    Raises:
        DataError: as for ``load_stack``, or another tensor belongs to the model.
        UsageError: as for ``load_stack``.
    """
    file = open_tensors(path)
    own = chosen_prefix(file, prefix)
    stack = stack_of(file, own, nonlinearity)
    around = own[: own.rstrip(".").rfind(".") + 1]
    found: dict[str, Any] = {}
    for name in file.shapes:
        if not name.startswith(around) or _OF_A_PASS.fullmatch(name.removeprefix(own)):
            continue
        layer = name.removeprefix(around)
        if (part := _LAYERS.get(layer)) is None or part in found:
            raise DataError(
                f"{path}: {name} belongs to no layer of a language model; expected {around}encoder.weight or "
                f"{around}embedding.weight, {own}*, {around}decoder.weight and {around}decoder.bias"
            )
        found[part] = file.array(name)
    weights = ModelWeights(stack, **found)
    weights.check(str(path))
    return weights


_LAYERS = {
    "encoder.weight": "embedding",
    "embedding.weight": "embedding",
    "decoder.weight": "decoder_weight",
    "decoder.bias": "decoder_bias",
}
"""Names beside the stack."""


def save_model(model: nn.Module, path: Path) -> None:
    """Write the ``state_dict`` of a model of ``gatewise.models`` under its own names, whatever its task.

    Raises:
        UsageError: the suffix is neither ``.safetensors`` nor one of ``torch.save``.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in weights_to_save(model).items()}
    rnn = model.rnn
    facts = {"cell": rnn.spec.cell, "stack": asdict(rnn.spec)} if isinstance(rnn, Recurrent) else {}
    write_tensors(path, arrays, facts)


@torch.no_grad()
def differences(model: nn.Module, path: Path) -> dict[str, float]:
    """Load a file into modules of ``torch.nn``, and return the largest differences from a model.

    The stack and, where the model has them, its embedding and its decoder run on random input, once whole and once
    packed with lengths that differ; the first state is random, too. Each difference is relative to the largest output,
    but at least to 1. ``weights`` is that of all tensors, of which none may differ.
    """
    state = load_file(path) if path.suffix.lower() == ".safetensors" else torch.load(path, weights_only=True)
    own = weights_to_save(model)
    gaps = {"weights": math.inf if state.keys() != own.keys() else max(_gap(state[name], own[name]) for name in own)}
    rnn = model.rnn
    assert isinstance(rnn, Recurrent)
    peer = rnn.to_torch()
    peer.load_state_dict({name[4:]: tensor for name, tensor in state.items() if name.startswith("rnn.")})
    generator, (T, B) = torch.Generator().manual_seed(0), (17, 5)
    before = [torch.randn(part.shape, generator=generator) for part in rnn.initial_state(B)]
    first, first_alone = (tuple(before), tuple(before)) if len(before) > 1 else (before[0], before[0])
    x = torch.randn(T, B, rnn.input_size, generator=generator)
    own_x, embedding = x, getattr(model, "embedding", None)
    if isinstance(embedding, nn.Embedding) and embedding.embedding_dim == rnn.input_size:
        ids = torch.randint(embedding.num_embeddings, (T, B), generator=generator)
        own_x, x = embedding(ids), nn.functional.embedding(ids, state["embedding.weight"])
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    lengths[0] = T
    for name, some in (("outputs", None), ("outputs of ragged input", lengths)):
        y, after = rnn(own_x, first, lengths=some)
        given = x if some is None else pack_padded_sequence(x, some, enforce_sorted=False)
        their_y, their_after = peer(given, first_alone)
        their_y = their_y if some is None else pad_packed_sequence(their_y)[0]
        decoder = getattr(model, "decoder", None)
        if isinstance(decoder, nn.Linear) and decoder.in_features == y.shape[-1]:
            y, their_y = decoder(y), nn.functional.linear(their_y, state["decoder.weight"], state["decoder.bias"])
        gaps[name] = _gap(their_y, y)
        states = zip(_parts(their_after), _parts(after), strict=True)
        gaps[name.replace("outputs", "states")] = max(_gap(theirs, ours) for theirs, ours in states)
    return gaps


def _parts(state: Any) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)


def _gap(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest entry, but at least to 1; infinity if it is not finite."""
    if found.shape != expected.shape:
        return math.inf
    gap = float((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1))
    return gap if math.isfinite(gap) else math.inf
