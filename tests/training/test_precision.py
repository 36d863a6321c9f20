"""Precisions and devices: what is there, and one clear line for what is not."""

import pytest
import torch

from gatewise.engines.registry import EVERY
from gatewise.errors import UsageError
from gatewise.training import precision
from gatewise.training.precision import as_configured, check_precision, choose_device, fp32_products_in, products_in

CPU = torch.device("cpu")


def test_what_the_device_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    check_precision("fp32", CPU)
    check_precision("bf16", CPU)
    monkeypatch.setattr(EVERY["native"], "why_not", lambda device: "native was not built")
    with pytest.raises(
        UsageError, match="'high' is not available: it needs the native engine, and native was not built"
    ):
        check_precision("high", CPU)
    monkeypatch.undo()
    for engine in ("auto", "native"):
        check_precision("high", CPU, engine)
    for engine in ("torch", "reference"):
        with pytest.raises(UsageError, match=f"^precision 'high' is not .* engine, and the engine is '{engine}'; use"):
            check_precision("high", CPU, engine)
    monkeypatch.setattr(precision, "has_fp16", lambda device: False)
    with pytest.raises(UsageError, match="'fp16' is not available: this processor has no fp16"):
        check_precision("fp16", CPU)
    monkeypatch.setattr(precision, "has_fp16", lambda device: True)
    check_precision("fp16", CPU)
    with pytest.raises(
        UsageError, match=r"^precision 'fp16' is not available: engine 'native' does not support fp16; use engine auto"
    ):
        check_precision("fp16", CPU, "native")


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_products_run_in_the_precision_that_was_asked_for(name: str, dtype: torch.dtype) -> None:
    with products_in(name, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_each_step_rounds_the_weights_of_that_step(name: str) -> None:
    layer, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with as_configured(CPU):  # as training does, all of whose steps are in one of PyTorch's contexts
        with products_in(name, CPU):
            before = layer(x)
        with torch.no_grad():
            layer.weight += 1
        with products_in(name, CPU):
            assert torch.allclose(layer(x), before + 4, rtol=1e-2)


def test_only_high_lets_cudnns_layers_use_tf32() -> None:
    def used() -> bool:
        unit = torch.backends.cudnn
        return unit.rnn.fp32_precision == "tf32" if hasattr(unit, "rnn") else unit.allow_tf32

    before = used()
    with as_configured(CPU):
        for name in ("fp32", "high", "bf16"):
            with fp32_products_in(name):
                assert used() == (name == "high")
            assert not used()
    assert used() == before


@pytest.mark.parametrize("before", ["highest", "medium"])
def test_each_precision_sets_the_products_of_fp32_for_a_step(before: str) -> None:
    unchanged = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        for name, meanwhile in (("high", "high"), ("fp32", "highest"), ("bf16", "highest")):
            with fp32_products_in(name):
                assert torch.get_float32_matmul_precision() == meanwhile
            assert torch.get_float32_matmul_precision() == before
        with pytest.raises(ZeroDivisionError), fp32_products_in("high"):
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(unchanged)


@pytest.mark.parametrize("name", ["cuda:99", "meta", "nonsense", ""])
def test_a_device_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(UsageError, match=r"is not available \(.*\); expected auto, cpu or cuda"):
        choose_device(name)
    assert choose_device("cpu") == CPU
