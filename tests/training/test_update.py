"""Clipping and the optimizer's step: the native engine's beside torch's own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatewise.config import TrainingConfig
from gatewise.engines import ENGINES, why_not
from gatewise.engines.native import update as native_update
from gatewise.training import update
from gatewise.training.interrupt import InterruptGuard
from gatewise.training.update import Update, bad_gradient, make_optimizer
from tests.tolerances import RELATIVE, differ
from tests.training.rig import make_trainer

NOT_NATIVE = why_not("native")
pytestmark = pytest.mark.skipif(NOT_NATIVE is not None, reason=str(NOT_NATIVE))

KINDS = ("sgd", "adam", "adamw")
NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)


class Words(nn.Module):
    """An embedding of odd sizes, a matrix larger than a piece of work, a parameter that not every step uses."""

    def __init__(self, words: int = 701, width: int = 13) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.matrix = nn.Parameter(torch.randn(200, 203))
        self.sometimes = nn.Parameter(torch.randn(37))
        self.one = nn.Parameter(torch.randn(()))

    def cost(self, ids: Tensor, step: int) -> Tensor:
        """Linear in the weights, so that the gradients are the same numbers whatever the weights have become."""
        x, draw = self.embedding(ids), torch.Generator().manual_seed(step)
        parts = [x, self.matrix, self.one] + [self.sometimes] * (step != 1)
        return torch.stack([(part * torch.randn(part.shape, generator=draw)).sum() for part in parts]).sum()


def settings_for(kind: str, decay: float) -> TrainingConfig:
    return TrainingConfig(optimizer=kind, learning_rate=0.05, weight_decay=decay)  # type: ignore[arg-type]


def trained(
    engine: str, kind: str, decay: float, max_norm: float, steps: int = 4, model: Words | None = None
) -> tuple[Words, Update, list[float]]:
    torch.manual_seed(1)
    model = model or Words()
    optimizer = make_optimizer(settings_for(kind, decay), model)
    updating, norms = Update(model, optimizer, NO_SCALER, engine), []
    assert updating.engine.name == engine
    for step in range(steps):
        optimizer.zero_grad()
        with updating.row_gradients():
            cost = model.cost(torch.randint(len(model.embedding.weight), (5, 7)), step)
        cost.backward()  # type: ignore[no-untyped-call]
        norms.append(updating.norm())
        updating.step(norms[-1], max_norm)
        optimizer.param_groups[0]["lr"] *= 0.5
    return model, updating, norms


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("max_norm", [0.0, 5.0, 1e9])
@pytest.mark.parametrize("rows_alone", [False, True])
def test_steps_equal_torchs(
    kind: str, decay: float, max_norm: float, rows_alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "LARGE", 1 if rows_alone else 10**9)
    ours, ours_update, norms = trained("native", kind, decay, max_norm)
    theirs, theirs_update, expected = trained("torch", kind, decay, max_norm)
    assert ours.embedding.weight.grad is not None
    assert ours.embedding.weight.grad.is_sparse == rows_alone
    assert norms == pytest.approx(expected, rel=1e-5)
    assert all(5 < norm < 1e9 for norm in norms)  # of the three one clips
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert differ(a, b) < RELATIVE[torch.float32], name
    a_states, b_states = (u.optimizer.state_dict()["state"] for u in (ours_update, theirs_update))
    assert (kind == "sgd") or len(b_states) == 4
    for index, state in b_states.items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                assert a_states[index][name].dtype == value.dtype
                assert differ(a_states[index][name], value) < RELATIVE[torch.float32], (index, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 13, 20000])
def test_equal_bits_for_any_number_of_threads_and_from_sparse_or_dense_gradients(kind: str, width: int) -> None:
    rows, threads, results = 37 if width > 13 else 5003, torch.get_num_threads(), []
    start = torch.randn(rows, width, generator=torch.Generator().manual_seed(1))
    draw = torch.Generator().manual_seed(2)
    ids = torch.randperm(rows, generator=draw)[: rows // 3].sort().values
    gradient = torch.sparse_coo_tensor(
        ids[None], torch.randn(len(ids), width, generator=draw), start.shape, check_invariants=True
    )
    try:
        for count, dense in ((1, False), (2, False), (3, False), (2, True)):
            torch.set_num_threads(count)
            p = nn.Parameter(start.clone())
            optimizer = make_optimizer(settings_for(kind, 0.0), nn.ParameterList([p]))
            for _ in range(2):
                p.grad = gradient.to_dense() if dense else gradient.clone()
                norm = native_update.gradient_norm([p], count)
                native_update.step(optimizer, 0.3, count)
            results.append((p.detach(), norm))
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(results[0][0], start)
    for p, norm in results[1:]:
        assert torch.equal(p, results[0][0])
        assert norm == pytest.approx(results[0][1], rel=1e-12)
    assert results[0][1] == results[1][1] == results[2][1]


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_either_engine_goes_on_from_the_others_state(kind: str) -> None:
    whole, _, _ = trained("torch", kind, 0.1, 1.0, steps=6)
    for first, second in (("torch", "native"), ("native", "torch")):
        model, before, _ = trained(first, kind, 0.1, 1.0, steps=3)
        optimizer = make_optimizer(settings_for(kind, 0.1), model)
        optimizer.load_state_dict(before.optimizer.state_dict())
        after = Update(model, optimizer, NO_SCALER, second)
        for step in range(3, 6):
            optimizer.zero_grad()
            model.cost(torch.randint(701, (5, 7)), step).backward()  # type: ignore[no-untyped-call]
            after.step(after.norm(), 1.0)
            optimizer.param_groups[0]["lr"] *= 0.5
        for (name, a), b in zip(model.named_parameters(), whole.named_parameters(), strict=True):
            assert differ(a, b[1]) < RELATIVE[torch.float32], (first, name)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 16383, 16384, 40599])
def test_a_norm_is_not_finite_where_a_gradient_is_not(bad: float, place: int) -> None:
    p = nn.Parameter(torch.zeros(200, 203))
    p.grad = torch.ones_like(p)
    assert native_update.gradient_norm([p], 2) == pytest.approx(40600**0.5, rel=1e-12)
    p.grad.view(-1)[place] = bad
    assert not torch.isfinite(torch.tensor(native_update.gradient_norm([p], 2)))


def test_a_norm_of_sparse_gradients_sums_the_rows_that_were_read_twice() -> None:
    p = nn.Parameter(torch.zeros(5, 2))
    p.grad = torch.sparse_coo_tensor(torch.tensor([[3, 1, 3]]), torch.ones(3, 2), (5, 2), check_invariants=True)
    assert native_update.gradient_norm([p], 2) == pytest.approx((2 * 2**2 + 2 * 1) ** 0.5)
    assert p.grad.is_coalesced()
    assert p.grad.indices().tolist() == [[1, 3]]


def test_an_embedding_without_a_word_read_has_no_gradient_but_decays() -> None:
    model, expected = Words(), Words()
    expected.load_state_dict(model.state_dict())
    for m in (model, expected):
        settings = settings_for("adamw", 0.5)
        updating = Update(m, make_optimizer(settings, m), NO_SCALER, "native" if m is model else "torch")
        m.embedding.sparse = m is model
        m.embedding(torch.empty(0, dtype=torch.int64)).sum().backward()
        m.embedding.sparse = False
        updating.step(updating.norm(), 1.0)
    assert differ(model.embedding.weight, expected.embedding.weight) < RELATIVE[torch.float32]


def test_weights_that_changed_are_known_to_autograd() -> None:
    model = Words()
    updating = Update(model, make_optimizer(settings_for("sgd", 0.0), model), NO_SCALER, "native")
    model.cost(torch.tensor([[1, 2]]), 0).backward()  # type: ignore[no-untyped-call]
    stale = model.matrix.pow(2).sum()
    updating.step(updating.norm(), 0.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        stale.backward()  # type: ignore[no-untyped-call]


def test_what_the_native_engine_cannot_do_is_left_to_torch() -> None:
    model = Words()
    for optimizer, reason in (
        (torch.optim.SGD(model.parameters(), momentum=0.9), "the optimizer uses momentum"),
        (torch.optim.Adam(model.parameters(), amsgrad=True), "the optimizer uses amsgrad"),
        (torch.optim.RMSprop(model.parameters()), "the optimizer is RMSprop"),
        (torch.optim.SGD(Words().double().parameters()), "a parameter is torch.float64"),
        (torch.optim.SGD([nn.Parameter(torch.zeros(2, 3).t())]), "a parameter is"),
    ):
        assert str(native_update.why_not(optimizer)).startswith(reason)
        assert Update(model, optimizer, NO_SCALER).engine is ENGINES["torch"]
        with pytest.raises(ValueError, match=f"engine 'native' cannot run this: {reason}"):
            Update(model, optimizer, NO_SCALER, "native")
    optimizer = make_optimizer(settings_for("adam", 0.0), model)
    assert Update(model, optimizer, NO_SCALER).engine is ENGINES["native"]
    assert Update(model, optimizer, NO_SCALER, "torch").engine is ENGINES["torch"]
    assert Update(model, optimizer, torch.amp.GradScaler("cpu")).engine is ENGINES["torch"]
    with pytest.raises(ValueError, match="engine 'native' cannot run this: the loss is scaled"):
        Update(model, optimizer, torch.amp.GradScaler("cpu"), "native")


def test_only_a_large_embedding_of_its_own_and_of_a_single_process_has_sparse_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sparse_in(model: nn.Module, **options: Any) -> int:
        optimizer = make_optimizer(settings_for("sgd", 0.0), model)
        return len(Update(model, optimizer, NO_SCALER, "native", **options).embeddings)

    assert sparse_in(Words()) == 0
    monkeypatch.setattr(update, "LARGE", 701 * 13)
    assert sparse_in(Words()) == 1
    assert sparse_in(Words(), alone=False) == 0
    tied = Words()
    tied.other = nn.Linear(13, 701)
    tied.other.weight = tied.embedding.weight
    assert sparse_in(tied) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True])
def test_training_takes_the_same_steps_on_both_engines(
    kind: str, tied: bool, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "LARGE", 1)
    keys = {
        "model.tie_weights": tied,
        "training.optimizer": kind,
        "training.learning_rate": 0.1 if kind == "sgd" else 0.001,
        "training.max_grad_norm": 0.5,
    }
    trainers, costs = {}, {}
    for engine in ("torch", "native"):
        trainer = make_trainer(corpus, tmp_path / engine, engine, **keys)
        trainer.workload.begin_epoch(1)
        trainer.workload.model.train()
        torch.manual_seed(3)
        for _ in range(5):
            trainer.step(InterruptGuard())
        trainers[engine], costs[engine] = trainer, trainer.at.cost
    weight = trainers["native"].workload.model.get_parameter("embedding.weight")
    assert weight.grad is not None
    assert weight.grad.is_sparse is not tied
    assert not trainers["native"].workload.model.get_submodule("embedding").sparse
    assert costs["native"] == pytest.approx(costs["torch"], rel=1e-5)
    if kind == "sgd":  # Adam makes as much of a gradient that is all rounding as of any other
        for a, b in zip(trainers["native"].making.parameters, trainers["torch"].making.parameters, strict=True):
            assert differ(a, b) < RELATIVE[torch.float32]


def test_a_sparse_gradient_that_is_not_finite_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "LARGE", 1)
    trainer = make_trainer(corpus, tmp_path, engine="native")
    trainer.workload.begin_epoch(1)
    trainer.step(InterruptGuard())
    gradient = trainer.workload.model.get_parameter("embedding.weight").grad
    assert gradient is not None
    assert bad_gradient(trainer.workload.model) == "none"
    gradient.values()[0, 0] = torch.nan
    assert bad_gradient(trainer.workload.model) == "embedding.weight"


def test_a_subclass_with_a_step_of_its_own_is_left_alone() -> None:
    class Own(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            """Do nothing."""

    model = nn.Linear(2, 2)
    assert native_update.why_not(Own(model.parameters(), lr=0.1)) == "the optimizer is Own"
    assert native_update.why_not(torch.optim.AdamW(model.parameters())) is None
