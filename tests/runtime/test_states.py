"""States as values: kept apart, kept alive, and refused where they do not belong."""

import contextlib
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import gatewise as gw
from gatewise import runtime
from gatewise.errors import GatewiseError, InputError, NotFinite, UsageError
from gatewise.runtime.library import Handle
from gatewise.runtime.model import in_use
from tests.runtime.rig import CASES, drawn_run, inputs_of


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    folder, known = tmp_path_factory.mktemp("drawn"), dict[str, Path]()

    def load_case(which: str, weights: str = "fp32", seed: int = 3) -> Any:
        name = f"{which}-{seed}".replace(" ", "-")
        if name not in known:
            known[name] = drawn_run(folder / name, CASES[which], seed)
        return runtime.load(known[name], weights)

    return load_case


def test_a_state_is_a_safetensors_file_of_its_parts(model_of: Callable[..., Any]) -> None:
    for which, parts in (("lm lstm", {"h", "c"}), ("lm rnn_tanh prose", {"h"}), ("classifier mean", {"h", "pooled"})):
        model = model_of(which)
        state = model.initial_state()
        traced = model.trace(inputs_of(CASES[which], 3), state)
        found = load(state.save())
        assert set(found) == parts
        for part in parts - {"pooled"}:
            assert np.array_equal(found[part], traced[part][:, 0, -1, 0])


def test_a_state_outlives_the_name_of_its_model_and_all_is_freed_in_the_end(model_of: Callable[..., Any]) -> None:
    model = model_of("lm lstm")
    states = [model.initial_state() for _ in range(3)]
    logits = model.step([1, 2, 3], states)
    native, owner = weakref.ref(model._native._model), weakref.ref(model)
    del model
    gc.collect()
    assert owner() is None and native() is not None
    copies = [state.copy() for state in states]
    del states
    gc.collect()
    assert native() is not None and len(copies[0].save()) > 100
    ring: list[Any] = [copies]  # freed by the collector, in any order
    ring.append(ring)
    del copies, ring
    gc.collect()
    assert native() is None and logits.shape == (3, 11)


def test_what_is_allocated_is_freed_once_and_after_what_needs_it() -> None:
    """Also where the collector finds both at the same time."""
    freed = list[int]()
    model = Handle(1, freed.append)
    states: list[Any] = [Handle(2, freed.append, model), Handle(3, freed.append, model)]
    del model
    gc.collect()
    assert freed == []
    del states[0]
    assert freed == [2]
    states += [states, Handle(4, freed.append, states[0])]
    del states
    gc.collect()
    assert freed == [2, 4, 3, 1]


def test_copies_of_python_are_copies(model_of: Callable[..., Any]) -> None:
    model = model_of("lm gru tied characters")
    state = model.initial_state()
    for copied in (copy.copy(state), copy.deepcopy([state])[0]):
        model.step([1], [copied])
        assert copied.save() != state.save() == model.initial_state().save()
    for one in (state, model):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(one)


def test_another_thread_is_refused_and_nothing_changes(model_of: Callable[..., Any]) -> None:
    model = model_of("lm lstm")
    state, other = model.initial_state(), model.initial_state()
    before, caught = state.save(), list[BaseException]()

    def use() -> None:
        for call in (
            lambda: model.step([1, 1], [other, state]),
            lambda: model.read([1], state),
            lambda: model.read_each([[1], [1, 2]], [other, state]),
            lambda: model.outputs([other, state]),
            lambda: model.trace([1], state),
            lambda: model.generate("the", state=state),
            state.copy,
            state.save,
            state.reset,
        ):
            try:
                call()
            except UsageError as problem:
                caught.append(problem)

    thread = threading.Thread(target=use)
    with in_use([state]):
        thread.start()
        thread.join()
    assert len(caught) == 9 and {str(one).partition(";")[0] for one in caught} == {
        "a state is in use by another thread"
    }
    assert state.save() == before == other.save()
    model.step([1, 1], [other, state])  # the locks are free again


def test_threads_share_a_model(model_of: Callable[..., Any]) -> None:
    model = model_of("classifier mean")
    given = [inputs_of(CASES["classifier mean"], 200, seed) for seed in range(4)]
    expected, found = [model.read(x, model.initial_state()) for x in given], dict[int, Any]()

    def run(k: int) -> None:
        state = model.initial_state()
        for row in given[k]:
            found[k] = model.step([row], [state])[0]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[k], expected[k]) for k in range(4))


def test_states_that_do_not_belong(model_of: Callable[..., Any]) -> None:
    model, same = model_of("lm lstm"), model_of("lm lstm")
    state = model.initial_state()
    with pytest.raises(InputError, match="belongs to another model"):
        same.step([1], [state])  # of the same weights, but of another object
    assert same.load_state(state.save()).save() == state.save()
    for other in (model_of("lm lstm", seed=4), model_of("lm lstm", "int8"), model_of("lm gru tied characters")):
        with pytest.raises(InputError, match="the state belongs to another model"):
            other.load_state(state.save())
    with pytest.raises(UsageError, match="the same state stands for two rows"):
        model.step([1, 2], [state, state])
    with pytest.raises(InputError, match="1 states for 2 rows"):
        model.step([1, 2], [state])
    for wrong in (state, [None], "ab"):
        for use in (lambda wrong: model.step([1], wrong), lambda wrong: model.read_each([[1]], wrong), model.outputs):
            with pytest.raises(UsageError, match="not a list of states"):
                use(wrong)
    with pytest.raises(UsageError, match="the same state stands for two rows"):
        model.outputs([state, state])
    with pytest.raises(InputError, match="belongs to another model"):
        same.outputs([state])
    with pytest.raises(InputError, match="1 states for 2 rows"):
        model.read_each([[1], [2]], [state])
    for none in (lambda: model.outputs([]), lambda: model.read_each([], [])):
        with pytest.raises(InputError, match=r"expected (1|one) or more"):
            none()
    for which, why in (("classifier both last", "reads in both"), ("regressor relative", "reads relative to the")):
        model = model_of(which)
        given = inputs_of(CASES[which], 2)
        for call in (
            model.initial_state,
            lambda model=model: model.load_state(b""),
            lambda model=model, given=given: model.step(given, [state, state]),
            lambda model=model, given=given: model.trace(given),
            lambda model=model, given=given: model.read_each([given, given], [state, state]),
            lambda model=model: model.outputs([state]),
        ):
            with pytest.raises(UsageError, match=f"this model {why}"):
                call()


@pytest.mark.parametrize("which", ["classifier mean", "classifier max", "text characters", "regressor"])
def test_what_is_pooled_of_nothing_is_no_output(which: str, model_of: Callable[..., Any]) -> None:
    model = model_of(which)
    state, used = model.initial_state(), model.initial_state()
    model.read(inputs_of(CASES[which], 2), used)
    for some, row in (([state], 0), ([used, state], 1)):
        with pytest.raises(InputError, match=f"^state {row} has read nothing"):
            model.outputs(some)


def test_a_state_of_nothing_answers_from_zeros(tmp_path: Path) -> None:
    run = drawn_run(tmp_path, CASES["lm lstm"])
    model = runtime.load(run)
    found, bias = model.outputs([model.initial_state()]), gw.load(run).decoder.bias.detach().numpy()
    assert np.array_equal(found[0], bias) and bias.any()


def test_nothing_is_read_if_one_sequence_is_wrong(model_of: Callable[..., Any]) -> None:
    model = model_of("lm lstm")
    states = [model.initial_state() for _ in range(3)]
    before = [state.save() for state in states]
    for wrong in ([], [11], [1.5]):
        with pytest.raises(GatewiseError):
            model.read_each([[1, 2], wrong, [3]], states)
        assert [state.save() for state in states] == before


def test_damaged_states(model_of: Callable[..., Any]) -> None:
    model = model_of("classifier mean")
    state = model.initial_state()
    model.read(inputs_of(CASES["classifier mean"], 3), state)
    whole, rng = state.save(), np.random.default_rng(1)
    arrays = load(whole)
    about = {"gatewise.state": whole[8:].split(b'"gatewise.state":"')[1].split(b'"')[0].decode(), "count": "3"}
    assert model.load_state(save(arrays, about)).save() == whole
    wrong: list[bytes] = [b"", b"\0", whole[:-1], whole + b"\0", b"\xff" * 50, save(arrays)]
    wrong += [save(arrays, {**about, "count": count}) for count in ("", "-1", "3.5", "1" * 30)]
    wrong += [save({**arrays, "h": arrays["h"][:, :-1].copy()}, about), save({"h": arrays["h"]}, about)]
    wrong += [save({**arrays, "more": arrays["h"]}, about), save({**arrays, "h": arrays["h"].astype("f8")}, about)]
    wrong += [save({**arrays, "h": np.full_like(arrays["h"], value)}, about) for value in (np.nan, np.inf)]
    for content in wrong:
        with pytest.raises(InputError):
            model.load_state(content)
    with pytest.raises(InputError, match="expected the bytes that save"):
        model.load_state("text")
    for _ in range(300):  # each is refused, or is a state
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        with contextlib.suppress(InputError, NotFinite):
            model.step(inputs_of(CASES["classifier mean"], 1), [model.load_state(bytes(damaged))])


WRONG_INPUTS: list[tuple[str, Any]] = [
    ("lm lstm", [11]),
    ("lm lstm", [-1]),
    ("lm lstm", [2**63 - 1]),
    ("lm lstm", [1.0]),
    ("lm lstm", ["the"]),
    ("lm lstm", [[1]]),
    ("lm lstm", 1),
    ("lm lstm", []),
    ("tagger", [5]),
    ("tagger", "the"),
    ("tagger", ["\ud800"]),
    ("tagger", []),
    ("classifier mean", np.zeros((1, 4))),
    ("classifier mean", np.zeros(3)),
    ("classifier mean", [["a", "b", "c"]]),
    ("classifier mean", np.zeros((1, 3), complex)),
    ("classifier mean", [[np.nan, 0, 0]]),
    ("classifier mean", [[np.inf, 0, 0]]),
    ("classifier mean", [[1e300, 0, 0]]),
    ("classifier mean", np.zeros((0, 3))),
]


@pytest.mark.parametrize(("which", "wrong"), WRONG_INPUTS, ids=str)
def test_wrong_inputs_are_errors_and_change_no_state(which: str, wrong: Any, model_of: Callable[..., Any]) -> None:
    model = model_of(which)
    right, state = inputs_of(CASES[which], 3), model.initial_state()
    model.read(right, state)
    before = state.save()
    some = [state] if np.ndim(wrong) and len(wrong) else []
    for call in (lambda: model.step(wrong, some), lambda: model.read(wrong, state)):
        with pytest.raises(GatewiseError) as caught:
            call()
        assert "\n" not in str(caught.value) and caught.value.exit_status in (2, 3)
        assert state.save() == before
    if some:
        with pytest.raises(GatewiseError):
            model.trace(wrong, state)
        assert state.save() == before
