"""PyTorch's global switches, as set by a calling program, affect no training or evaluation, and are restored."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import gatewise as gw
from gatewise.engines import ENGINES
from gatewise.engines.native.module import instructions
from gatewise.nn import LSTM
from gatewise.tasks.evaluate import evaluate
from gatewise.training.precision import _UNITS, as_configured
from tests.conftest import TINY_REGRESSOR, TINY_SCRATCH

SETTINGS = {**TINY_REGRESSOR, "training.epochs": 1, "data.columns": ["level"], "model.dropout": 0.2}


@contextmanager
def setting(read: Callable[[], Any], write: Callable[[Any], None], value: Any) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
        assert read() == value
    finally:
        write(before)


def product(precision: str) -> AbstractContextManager[None]:
    return setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, precision)


def seeded() -> AbstractContextManager[None]:
    def write(state: list[int]) -> None:
        torch.set_rng_state(torch.tensor(state, dtype=torch.uint8))

    return setting(lambda: torch.get_rng_state().tolist(), write, torch.Generator().manual_seed(7).get_state().tolist())


SWITCHES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "medium products": lambda: product("medium"),
    "high products": lambda: product("high"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "float64": lambda: setting(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "random state": seeded,
    "threads": lambda: setting(torch.get_num_threads, torch.set_num_threads, 1),
}


@pytest.fixture(scope="module", params=[name for name in ("native", "torch") if name in ENGINES])
def plain(request: pytest.FixtureRequest, waves: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run without changed switches, and its engine."""
    out = tmp_path_factory.mktemp("plain") / "run"
    gw.train("sunspots", data=waves, out=out, overrides={**SETTINGS, "runtime.engine": request.param})
    return out, request.param


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)
def test_a_run_and_its_evaluation_are_the_same_bits(
    switch: Callable[[], AbstractContextManager[Any]], plain: tuple[Path, str], waves: Path, tmp_path: Path
) -> None:
    whole, engine = plain
    expected = evaluate(whole)
    with switch():
        overrides = {**SETTINGS, "runtime.engine": engine, "runtime.threads": 2}
        run = gw.train("sunspots", data=waves, out=tmp_path / "run", overrides=overrides)
        assert evaluate(whole) == expected
    assert (run.path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    lines = [json.loads((path / "metrics.jsonl").read_text().splitlines()[-1]) for path in (run.path, whole)]
    assert lines[0] == lines[1]


def test_no_pass_of_a_run_or_an_evaluation_sees_the_programs_precision(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded from the switch itself, as not every processor computes ``medium`` differently from ``highest``."""
    seen, forward = set(), ENGINES["torch"].forward

    def watched(*arguments: Any) -> Any:
        seen.add(torch.get_float32_matmul_precision())
        return forward(*arguments)

    monkeypatch.setattr(ENGINES["torch"], "forward", watched)
    if "native" in ENGINES:
        monkeypatch.setattr(ENGINES["native"], "forward", watched)
    with product("medium"):
        gw.train("sunspots", data=waves, out=tmp_path / "run", overrides={**SETTINGS, "runtime.engine": "torch"})
        evaluate(tmp_path / "run")
    assert seen == {"highest"}


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "rnn"), reason="PyTorch before 2.9 has no such switches")
@pytest.mark.parametrize("unit", _UNITS)
def test_the_switch_of_one_unit_is_set_and_put_back(unit: str) -> None:
    """A program that has set a new switch can no longer read the old ones."""
    switches = [attrgetter(name)(torch.backends) for name in _UNITS]
    with ExitStack() as undo:
        chosen = attrgetter(unit)(torch.backends)
        undo.callback(setattr, chosen, "fp32_precision", chosen.fp32_precision)
        chosen.fp32_precision = "tf32"
        before = [switch.fp32_precision for switch in switches]
        with as_configured(torch.device("cpu")):
            assert {switch.fp32_precision for switch in switches} == {"ieee"}
            assert torch.get_float32_matmul_precision() == "highest"
        assert [switch.fp32_precision for switch in switches] == before


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "rnn"), reason="PyTorch before 2.9 has no such switches")
def test_a_module_computes_in_a_program_that_has_used_a_new_switch() -> None:
    """In that case, PyTorch refuses to read the old switch, which covers all kinds of devices."""
    unit = torch.backends.cuda.matmul
    before, lstm, x = unit.fp32_precision, LSTM(3, 4), torch.ones(2, 1, 3)
    expected = lstm(x)[0]
    unit.fp32_precision = "tf32"
    try:
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
        assert torch.equal(lstm(x)[0], expected)
    finally:
        unit.fp32_precision = before
        torch.set_float32_matmul_precision("highest")
        unit.fp32_precision = before


def test_the_first_line_names_engine_instructions_and_precision(waves: Path, comments: Path, tmp_path: Path) -> None:
    def first_line(recipe: str, data: Path, name: str, overrides: dict[str, Any]) -> str:
        with (tmp_path / "log").open("w") as log:
            console = Console(record=True, width=1000, file=log)
            gw.train(recipe, data=data, out=tmp_path / name, overrides=overrides, progress=console)
        return console.export_text().splitlines()[0]

    capability = torch.backends.cpu.get_cpu_capability().lower()
    expected = {("torch", "bf16"): f"torch engine, {capability}", ("reference", "fp32"): "reference engine, NumPy"}
    if "native" in ENGINES:
        expected |= dict.fromkeys([("auto", "fp32"), ("native", "bf16")], f"native engine, {instructions()[0]}")
    for (engine, precision), named in expected.items():
        overrides = {**SETTINGS, "runtime.engine": engine, "training.precision": precision}
        line = first_line("sunspots", waves, engine, overrides)
        assert f"parameters, on cpu ({named}), {precision}; run folder {tmp_path / engine}" in line
    line = first_line("comments-scratch", comments, "scratch", TINY_SCRATCH)
    assert "parameters, on cpu (NumPy), fp32; run folder" in line
