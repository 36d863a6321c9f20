"""What ``gatewise doctor`` reports on formats, and on GPUs, with stand-ins for them: no test needs one."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gatewise.cli import doctor
from gatewise.engines.native import module
from gatewise.interchange import FORMATS, formats
from tests.cli.conftest import Gatewise
from tests.cli.test_native_engine import line_of, without

GPUS = [
    SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=85_520_809_984, major=9, minor=0),
    SimpleNamespace(name="Tesla T4", total_memory=15_843_721_216, major=7, minor=5),
]
REFUSED = "CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors might be reported later"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, which answer questions; tensors on them are on the CPU."""

    class Graph:
        def replay(self) -> None:
            made[0].add_(1)

    def zeros(*sizes: int, device: Any) -> torch.Tensor:
        made[:] = [torch.empty(*sizes).zero_()]
        return made[0]

    @contextmanager
    def capture(graph: Graph, stream: Any) -> Iterator[None]:
        before = made[0].clone()
        yield
        made[0].copy_(before)  # a capture computes nothing

    @contextmanager
    def on(device: torch.device) -> Iterator[None]:
        yield

    made: list[torch.Tensor] = []
    capabilities = [(gpu.major, gpu.minor) for gpu in GPUS]
    monkeypatch.setattr(torch, "zeros", zeros)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(GPUS))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: GPUS[device.index])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[device.index])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: device)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)


def test_what_each_gpu_is_and_can_do(gpus: None, gatewise: Gatewise) -> None:
    out = gatewise("doctor").out
    assert line_of(out, "GPU 0") == (
        "NVIDIA H100 80GB HBM3, 79.6 GiB, compute capability 9.0, cuDNN 91002; TF32 (high): yes; bf16: yes; fp16: yes; "
        "CUDA graphs: yes"
    )
    assert "Tesla T4, 14.8 GiB, compute capability 7.5, cuDNN 91002; TF32 (high): no" in line_of(out, "GPU 1")
    assert line_of(out, "precisions") == "fp32, bf16, fp16, high"


def test_a_gpu_that_cannot_capture_says_why_in_a_line(
    gpus: None, gatewise: Gatewise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(graph: Any, stream: Any) -> Any:
        raise RuntimeError(REFUSED)

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    line = line_of(gatewise("doctor").out, "GPU 0")
    assert line.endswith("CUDA graphs: no, CUDA error: operation not permitted when stream is capturing")


def test_a_graph_that_computes_something_else_is_no_graph(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: None)
    assert doctor._why_no_capture(torch.device("cuda", 0)) == "a graph that adds 1 to 1 gave 1.0"


def test_another_error_is_not_taken_for_a_missing_capability(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: Any, stream: Any) -> Any:
        raise TypeError("a fault")

    monkeypatch.setattr(torch.cuda, "graph", fail)
    with pytest.raises(TypeError, match="a fault"):
        doctor._why_no_capture(torch.device("cuda", 0))


def test_high_needs_a_gpu_or_the_native_engine(gpus: None, gatewise: Gatewise, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch)
    assert line_of(gatewise("doctor").out, "precisions") == "fp32, bf16, fp16, high"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    line = line_of(gatewise("doctor").out, "precisions")
    assert line.endswith("high (computed in fp32: no processor with AMX, no GPU with TF32)")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = gatewise("doctor").out
    assert line_of(out, "GPU") == "none"
    assert "high is not available: it needs the native engine or a GPU" in line_of(out, "precisions")
    assert (module.why_not_built() or "") in line_of(out, "precisions")


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([], {"torch": "imports and exports; exports are verified"}),
        (
            ["keras", "onnxruntime", "tensorflow"],
            {
                name: f"imports and exports; exports are not verified: {package} is not installed"
                for name, package in {"keras": "keras", "onnx": "onnxruntime", "tf1": "tensorflow"}.items()
            },
        ),
        (
            ["h5py", "onnx"],
            {
                name: f"not available: {package} is not installed; it comes with the extra '{name}'"
                for name, package in {"keras": "h5py", "onnx": "onnx"}.items()
            },
        ),
    ],
)
def test_formats(
    missing: list[str], expected: dict[str, str], gatewise: Gatewise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None if name in missing else name)
    monkeypatch.setattr(formats.importlib.metadata, "version", lambda name: "3.8.0")
    out = gatewise("doctor").out
    assert {name: line_of(out, f"format {name}") for name in expected} == expected
    assert all(line_of(out, f"format {name}") for name in FORMATS)


def test_keras_2_runs_no_file_of_keras_3(gatewise: Gatewise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(formats.importlib.metadata, "version", lambda name: "2.15.0")
    line = line_of(gatewise("doctor").out, "format keras")
    assert line == "imports and exports; exports are not verified: keras 2.15.0 is installed; expected 3"
