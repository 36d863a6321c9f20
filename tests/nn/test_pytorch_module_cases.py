"""PyTorch's own module cases, those of its ``test_modules.py``, run on ours beside PyTorch's.

Left out: transfers between devices and CPU against GPU (no GPU is asked for), memory formats (of images), in-place
options (there are none), and whether ``.training`` is read at all (ours reads it only where something is dropped).
"""

import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatewise.nn import GRU, LSTM, RNN
from tests.nn.beside import assert_same, parts, results, without_type_checks
from tests.tolerances import RELATIVE

pytest.importorskip("expecttest", reason="PyTorch's module cases need it: pip install --group dev")
with pytest.MonkeyPatch.context() as patch:
    # This import forbids the whole process to set backend flags, which our training does.
    patch.setattr(torch.backends, "disable_global_flags", lambda: None)
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

OURS = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}
INFOS = {info.module_cls.__name__: info for info in module_db if info.module_cls in OURS}
INFO = pytest.mark.parametrize("name", INFOS)
MODE = pytest.mark.parametrize("training", [True, False])
DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def cases(name: str, dtype: torch.dtype, training: bool, **kwargs: Any) -> Iterator[tuple[Any, nn.Module, nn.Module]]:
    """Yield each case with ours and PyTorch's, made of equal seeds."""
    info = INFOS[name]
    made = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=True, training=training, with_packed_sequence=True, **kwargs
    )
    for case in made:
        given, modules = case.constructor_input, []
        for kind in (OURS[info.module_cls], info.module_cls):
            torch.manual_seed(3)
            modules.append(kind(*given.args, **given.kwargs).to(dtype).train(training))
        yield case, modules[0], modules[1]


def tensors(case: Any) -> tuple[Any, Any]:
    """The input of a case, and its state or None."""
    x, *hx = case.forward_input.args
    assert not case.forward_input.kwargs
    return x, hx[0] if hx else None


def test_the_cases_are_there() -> None:
    assert set(INFOS) == {"LSTM", "GRU", "RNN"}
    assert sum(1 for name in INFOS for _ in cases(name, torch.float64, True)) >= 80


@INFO
@MODE
@DTYPE
def test_outputs_gradients_and_parameters(name: str, training: bool, dtype: torch.dtype) -> None:
    for case, ours, theirs in cases(name, dtype, training):
        x, hx = tensors(case)
        assert_same(results(ours, x, hx), results(theirs, x, hx), RELATIVE[dtype])
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert all(torch.equal(ours.state_dict()[n], t) for n, t in theirs.state_dict().items())
        if case.reference_fn is not None and isinstance(x, Tensor):
            expected, found = case.reference_fn(ours, x, *(() if hx is None else (hx,))), ours(x, hx)
            torch.testing.assert_close(found[0], expected[0])
            for a, b in zip(parts(found[1]), parts(expected[1]), strict=True):
                torch.testing.assert_close(a, b)


@INFO
@DTYPE
def test_factory_arguments(name: str, dtype: torch.dtype) -> None:
    for case, _, _ in cases(name, dtype, True):
        given = case.constructor_input
        for device in ("cpu", "meta"):
            module = OURS[INFOS[name].module_cls](*given.args, **given.kwargs, device=device, dtype=dtype)
            assert {(p.device.type, p.dtype) for p in module.parameters()} == {(device, dtype)}
            with torch.device(device):
                inside = OURS[INFOS[name].module_cls](*given.args, **given.kwargs, dtype=dtype)
            assert {(p.device.type, p.dtype) for p in inside.parameters()} == {(device, dtype)}


@INFO
def test_repr_state_dict_and_pickle(name: str) -> None:
    for case, ours, theirs in cases(name, torch.float32, False):
        x, hx = tensors(case)
        assert repr(ours) == repr(theirs)
        buffer = io.BytesIO()
        torch.save(ours.state_dict(), buffer)
        buffer.seek(0)
        theirs.load_state_dict(torch.load(buffer, weights_only=True))
        twin = pickle.loads(pickle.dumps(ours))
        found, expected = results(twin, x, hx), results(ours, x, hx)
        assert all(torch.equal(found[n], t) for n, t in expected.items())


def scattered(tensor: Tensor) -> Tensor:
    """The same numbers with gaps between them; of one number a row, nothing to scatter."""
    return tensor.detach().repeat_interleave(2, -1)[..., ::2]


@INFO
@MODE
def test_inputs_that_are_not_contiguous(name: str, training: bool) -> None:
    for case, ours, _ in cases(name, torch.float64, training):
        x, hx = tensors(case)
        if isinstance(x, Tensor):
            expected = results(ours, x, hx)
            for a, b in ((scattered(x), hx), (x, None if hx is None else tuple(map(scattered, parts(hx))))):
                assert_same(results(ours, a, b), expected, RELATIVE[torch.float64])


@INFO
@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_derivatives_by_input_state_and_parameters(name: str, second: bool) -> None:
    """As PyTorch's: by central differences, once and twice, of every input and every parameter."""
    for case, ours, _ in cases(name, torch.float64, True):
        x, hx = tensors(case)
        if not isinstance(x, Tensor) or (second and ours.batch_first):  # which is a transposition, tried once
            continue
        names, state = [n for n, _ in ours.named_parameters()], [] if hx is None else list(parts(hx))

        def call(x: Tensor, *rest: Tensor, n: int = len(state), names: Any = names, ours: Any = ours) -> Any:
            hx = rest[:n] if n > 1 else rest[0] if n else None
            y, after = torch.func.functional_call(ours, dict(zip(names, rest[n:], strict=True)), (x, hx))
            return y, *parts(after)

        leaves = [t.detach().requires_grad_() for t in (x, *state, *ours.parameters())]
        tried = torch.autograd.gradgradcheck if second else torch.autograd.gradcheck
        assert tried(call, leaves, fast_mode=True)


@INFO
@DTYPE
def test_what_pytorch_refuses_is_refused_in_one_line(name: str, dtype: torch.dtype) -> None:
    info = INFOS[name]
    errors = list(info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=True))
    assert len(errors) >= 10
    for error in errors:
        case, kind = error.module_error_input, getattr(without_type_checks(), name)
        given = case.constructor_input
        if error.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(ValueError, match=r"^[^\n]* is [^\n]*; expected [^\n]*$"):
                kind(*given.args, **given.kwargs)
        else:
            module = kind(*given.args, **given.kwargs)
            with pytest.raises(ValueError, match=r"^[^\n]+; convert [^\n]*$"):
                module(*case.forward_input.args)


@INFO
def test_moving_keeps_or_replaces_the_parameters_as_pytorchs(name: str) -> None:
    for _, ours, theirs in cases(name, torch.float32, True):
        for swap in (False, True):
            torch.__future__.set_swap_module_params_on_conversion(swap)
            try:
                for module in (ours, theirs):
                    module.to(torch.float64).to(torch.float32)
                assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
                ours.to_empty(device="meta").to_empty(device="cpu")
                assert {p.device.type for p in ours.parameters()} == {"cpu"}
                ours.load_state_dict(theirs.state_dict())
            finally:
                torch.__future__.set_swap_module_params_on_conversion(False)
