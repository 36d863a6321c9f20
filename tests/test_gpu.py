"""On a GPU everything is what it is on the CPU: layers and gradients, loss, tags, text, a training run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import gatewise as gw
from gatewise.config import ModelConfig
from gatewise.models.language_model import LanguageModel
from gatewise.nn import GRU, LSTM, RNN, linear_cross_entropy
from gatewise.nn.crf import CRF
from gatewise.runtime.vocabulary import EOS, UNK, Vocabulary
from gatewise.training.device_step import DeviceStep
from gatewise.training.interrupt import InterruptGuard
from tests.conftest import TINY
from tests.tolerances import RELATIVE, differ
from tests.training.rig import make_trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

LAYERS: dict[str, Callable[..., nn.Module]] = {
    "lstm": lambda **options: LSTM(7, 12, 2, **options),
    "projected": lambda **options: LSTM(7, 12, 2, proj_size=5, **options),
    "gru": lambda **options: GRU(7, 12, 2, **options),
    "tanh": lambda **options: RNN(7, 12, 2, **options),
    "relu": lambda **options: RNN(7, 12, 2, nonlinearity="relu", **options),
}
EACH = pytest.mark.parametrize("kind", LAYERS)


@pytest.fixture(autouse=True)
def full_precision() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@EACH
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("lengths", [None, [9, 3, 6, 1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_states_and_gradients(kind: str, both: bool, lengths: list[int] | None, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    layer, x = LAYERS[kind](bidirectional=both).to(dtype), torch.randn(9, 4, 7, dtype=dtype)
    results = []
    for device in ("cpu", "cuda"):
        layer, given = layer.to(device), x.to(device).requires_grad_()
        y, state = layer(given, lengths=None if lengths is None else torch.tensor(lengths))
        parts = (state,) if isinstance(state, Tensor) else tuple(state)
        cost = y.square().sum() + sum(part.square().sum() for part in parts)
        results.append([y, *parts, *torch.autograd.grad(cost, [given, *layer.parameters()])])
    for expected, found in zip(*results, strict=True):
        assert found.is_cuda and differ(found.cpu(), expected.cpu()) < 10 * RELATIVE[dtype]


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(kind: str, dtype: torch.dtype) -> None:
    layer, x = LAYERS[kind]().cuda(), torch.randn(20, 8, 7, device="cuda")
    with torch.autocast("cuda", dtype):
        y, _ = layer(x)
    assert differ(y, layer(x)[0]) < 0.03


@EACH
def test_gradients_of_gradients(kind: str) -> None:
    layer, x = LAYERS[kind]().double().cuda(), torch.randn(3, 2, 7, dtype=torch.float64, device="cuda")
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x.requires_grad_(),))


@EACH
def test_transforms_and_a_compiler(kind: str) -> None:
    layer, x = LAYERS[kind]().cuda(), torch.randn(5, 2, 7, device="cuda")
    y, tolerance = layer(x)[0], 10 * RELATIVE[torch.float32]
    apart = torch.func.vmap(lambda row: layer(row[:, None])[0][:, 0], 1, 1)(x)
    assert differ(apart, y) < tolerance
    assert differ(torch.compile(layer)(x)[0], y) < tolerance


def test_the_loss_and_its_gradients() -> None:
    torch.manual_seed(1)
    y, weight, bias = torch.randn(300, 32), torch.randn(1000, 32) / 5, torch.randn(1000)
    targets, results = torch.randint(1000, (300,)), []
    for device in ("cpu", "cuda"):
        given = [part.to(device).detach().requires_grad_() for part in (y, weight, bias)]
        cost = linear_cross_entropy(*given, targets.to(device), scale=0.01)
        results.append([cost, *torch.autograd.grad(cost, given)])
    for expected, found in zip(*results, strict=True):
        assert differ(found.cpu(), expected.cpu()) < 10 * RELATIVE[torch.float32]


def test_tags_of_a_sentence() -> None:
    torch.manual_seed(1)
    crf, emissions, lengths = CRF(9), torch.randn(12, 6, 9), torch.tensor([12, 3, 0, 7, 1, 9])
    for parameter in crf.parameters():
        nn.init.normal_(parameter)
    path, p = crf.decode(emissions, lengths), crf.marginals(emissions, lengths)
    crf = crf.cuda()
    assert torch.equal(crf.decode(emissions.cuda(), lengths).cpu(), path)
    assert differ(crf.marginals(emissions.cuda(), lengths).cpu(), p) < RELATIVE[torch.float32]


def test_a_seed_gives_the_same_text() -> None:
    words = Vocabulary([EOS, UNK, *(f"w{k}" for k in range(200))])
    config = ModelConfig(hidden_size=64, init_scale=0.3)
    model = LanguageModel(config, words, torch.Generator().manual_seed(1)).eval()

    def use() -> tuple[list[str], float]:
        texts = [model.generate("w1 w2", seed=3, max_tokens=40), model.generate(seed=4, top_k=9, max_tokens=5)]
        return texts, model.perplexity(["w1 w2 w3", "w5", "w9 w4 w7 w8"])

    (texts, perplexity), _ = use(), model.cuda()
    assert use() == (texts, pytest.approx(perplexity, rel=1e-5))


def test_a_run_trains_resumes_and_is_read_on_the_cpu(corpus: Path, tmp_path: Path) -> None:
    settings = {"runtime.device": "cuda", "training.epochs": 2, "model.hidden_size": 16, "data.batch_size": 4}
    run = gw.train("demo", data=corpus, out=tmp_path / "run", overrides=settings)
    assert gw.train("demo", data=corpus, out=tmp_path / "run", overrides=settings, resume=True).metrics == run.metrics
    assert run.model.device.type != "cuda" and run.model.generate(seed=1)


@pytest.mark.parametrize("precision", ["fp32", "high", "bf16", "fp16"])
def test_a_graph_makes_the_same_steps(precision: str, corpus: Path, tmp_path: Path) -> None:
    settings = {**TINY, "runtime.device": "cuda", "model.dropout": 0.3, "model.num_layers": 2}
    settings |= {"training.average_decay": 0.9, "training.precision": precision}
    runs = [
        gw.train("demo", data=corpus, out=tmp_path / str(graph), overrides={**settings, "runtime.graph": graph})
        for graph in (True, False)
    ]
    a, b = (load_file(run.path / "model.safetensors") for run in runs)
    assert all(torch.equal(weight, b[name]) for name, weight in a.items())
    assert runs[0].metrics["test_perplexity"] == runs[1].metrics["test_perplexity"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("graph", [True, False])
def test_no_step_waits_for_the_device(graph: bool, precision: str, corpus: Path, tmp_path: Path) -> None:
    keys = {"runtime.graph": graph, "training.precision": precision, "model.dropout": 0.3}
    trainer = make_trainer(corpus, tmp_path, device="cuda", **keys)
    trainer.workload.begin_epoch(1)
    trainer.workload.model.train()
    for _ in range(6):  # the last of them captures, which waits
        trainer.step(InterruptGuard())
    assert isinstance(trainer.making, DeviceStep) and bool(trainer.making._replay) == graph
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(6):
            trainer.step(InterruptGuard())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.making.read(trainer.at)
    assert trainer.at.units == 12 * 5 and trainer.at.skipped == 0


def test_a_run_cut_off_and_resumed_equals_one_that_was_not(corpus: Path, tmp_path: Path) -> None:
    settings = {**TINY, "runtime.device": "cuda", "model.dropout": 0.3, "training.eval_every": 30}
    gw.train("demo", data=corpus, out=tmp_path / "whole", overrides={**settings, "training.max_steps": 90})
    gw.train("demo", data=corpus, out=tmp_path / "cut", overrides={**settings, "training.max_steps": 60})
    longer = {**settings, "training.max_steps": 90}
    gw.train("demo", data=corpus, out=tmp_path / "cut", overrides=longer, resume=True)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(weight, b[name]) for name, weight in a.items())
