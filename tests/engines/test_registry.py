"""The engines by name: which are available, and why one is not."""

import pytest
import torch

from gatewise.engines import ENGINES, engine_for, engine_named, why_not
from gatewise.engines.contract import Engine
from gatewise.engines.registry import NAMES


def test_auto_takes_one_that_can_be_had_and_is_not_the_oracle() -> None:
    assert engine_named("auto").name in set(ENGINES) - {"reference"}
    assert engine_named("auto", "meta").name in ENGINES


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_is_there_is_its_own_name_and_keeps_the_protocol(name: str) -> None:
    assert name in NAMES
    assert why_not(name) is None
    assert engine_named(name) is ENGINES[name]
    assert isinstance(ENGINES[name], Engine)


@pytest.mark.parametrize("name", ENGINES)
def test_any_engine_may_be_asked_for_on_meta_where_nothing_is_computed(name: str) -> None:
    assert why_not(name, "meta") is None


def test_every_name_is_an_engine_or_has_a_reason() -> None:
    for name in set(NAMES) - {"auto"}:
        assert (name in ENGINES) == (why_not(name) is None)


@pytest.mark.parametrize(
    ("name", "device", "text"),
    [
        ("fast", "cpu", "there is no such engine; expected one of auto, reference, torch, native"),
        ("", "cpu", "there is no such engine; expected one of auto, reference, torch, native"),
        ("reference", "cuda:0", "it uses NumPy on the CPU, but the tensors are on cuda:0"),
        ("reference", torch.device("mps"), "it uses NumPy on the CPU, but the tensors are on mps"),
    ],
)
def test_what_cannot_be_had_says_why_in_one_line(name: str, device: torch.device | str, text: str) -> None:
    assert why_not(name, device) == text
    with pytest.raises(ValueError, match=f"^engine '{name}' is not available: {text}$"):
        engine_named(name, device)


@pytest.mark.parametrize("name", ["reference", "native"])
def test_an_engine_that_is_not_available_on_a_device_is_not_asked(name: str) -> None:
    """Whatever the capability: the device is checked in one place."""

    def never(engine: Engine) -> str | None:
        raise AssertionError(engine)

    with pytest.raises(ValueError, match=f"^engine '{name}' is not available: "):
        engine_for(name, torch.device("cuda:0"), never)
    assert engine_for("auto", torch.device("cuda:0"), lambda engine: None) is ENGINES["torch"]
