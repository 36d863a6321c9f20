"""Results depend on the model, its state and the input alone: not on threads, other rows or pieces; to the last bit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise import runtime
from gatewise.artifact.sealed import write_sealed
from gatewise.interchange.runs import export_run
from gatewise.runtime.model_file import STORED, read_file, read_run, read_tensors, stored_run
from gatewise.runtime.run_reader import RunReader
from tests.runtime.rig import CASES, LANGUAGE, NUMERIC, STREAMED, drawn_run, inputs_of, of_task, plain, sentences

ROWS = 16
# Of 0.8 MB or more in int8, so that two threads share a step.
LARGE = {"lm lstm": 400, "tagger both lstm crf": 300, "classifier mean": 512}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder, known = tmp_path_factory.mktemp("drawn"), dict[str, Path]()

    def drawn(which: str, **sizes: Any) -> Path:
        name = which.replace(" ", "-") + "-".join(map(str, sizes.values()))
        if name not in known:
            known[name] = drawn_run(folder / name, CASES[which], **sizes)
        return known[name]

    return drawn


def fed(model: Any, rows: Sequence[Any], own: Sequence[Any] | None = None) -> np.ndarray[Any, Any]:
    """The outputs of each step of rows that are stepped together, (T, B, K)."""
    states = [model.initial_state() for _ in rows] if own is None else own
    return np.stack([model.step([row[t] for row in rows], states) for t in range(len(rows[0]))])


@pytest.mark.parametrize("weights", STORED)
@pytest.mark.parametrize("which", STREAMED)
def test_alone_and_among_sixteen_whole_and_in_pieces_saved_and_restored(
    which: str, weights: str, run_of: Callable[..., Path]
) -> None:
    model, case = runtime.load(run_of(which), weights), CASES[which]
    assert model.weights == weights
    rows = [inputs_of(case, 7, seed) for seed in range(ROWS)]
    states = [model.initial_state() for _ in rows]
    together = fed(model, rows, states)
    before = [state.save() for state in states]
    assert np.array_equal(model.outputs(states), together[-1])
    assert [state.save() for state in states] == before
    for k in (0, 5, 15):
        alone = fed(model, [rows[k]])[:, 0]
        assert np.array_equal(together[:, k], alone)
        whole = model.initial_state()
        assert np.array_equal(model.read(rows[k], whole), alone[-1])
        assert np.array_equal(model.outputs([whole]), alone[-1:])
        state = model.initial_state()
        model.read(rows[k][:3], state)
        content = state.save()
        back, copy = model.load_state(content), state.copy()
        assert back.save() == copy.save() == content
        for one in (state, back, copy):
            assert np.array_equal(model.read(rows[k][3:], one), alone[-1])
            assert one.save() == whole.save() != content
        state.reset()
        assert state.save() == model.initial_state().save()


@pytest.mark.parametrize("weights", STORED)
@pytest.mark.parametrize("which", STREAMED)
def test_ragged_sequences_are_read_as_each_alone(which: str, weights: str, run_of: Callable[..., Path]) -> None:
    model, case = runtime.load(run_of(which), weights), CASES[which]
    rows = [inputs_of(case, steps, steps) for steps in (3, 1, 70, 3, 20)]
    states, alone = [model.initial_state() for _ in rows], [model.initial_state() for _ in rows]
    for again in range(2):  # from new states, and from those
        found = model.read_each(rows, states)
        assert np.array_equal(found, [model.read(row, state) for row, state in zip(rows, alone, strict=True)])
        assert np.array_equal(model.outputs(states), found)
        assert [state.save() for state in states] == [state.save() for state in alone], again


@pytest.mark.parametrize("weights", STORED)
@pytest.mark.parametrize("which", LARGE)
def test_one_thread_and_two(which: str, weights: str, run_of: Callable[..., Path]) -> None:
    run = run_of(which, hidden_size=LARGE[which])
    one, two = (runtime.load(run, weights, threads) for threads in (1, 2))
    case = CASES[which]
    if which in STREAMED:
        for count in (1, ROWS):
            rows = [inputs_of(case, 5, seed) for seed in range(count)]
            states = [[model.initial_state() for _ in rows] for model in (one, two)]
            assert np.array_equal(fed(one, rows, states[0]), fed(two, rows, states[1]))
            assert np.array_equal(one.outputs(states[0]), two.outputs(states[1]))
    else:
        for a, b in zip(one.scores(sentences([9, 1, 30])), two.scores(sentences([9, 1, 30])), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("which", of_task("tagger", "text-classifier"))
def test_sentences_do_not_depend_on_each_other(which: str, run_of: Callable[..., Path]) -> None:
    model = runtime.load(run_of(which))
    some = sentences([*range(1, 40), 3, 3, 3], 8)
    if which in of_task("tagger"):
        for one, alone in zip(model.scores(some), (model.scores([each])[0] for each in some), strict=True):
            assert np.array_equal(one, alone)
        assert model.tag(some) == [model.tag([each])[0] for each in some]
        for one, each in zip(model.tag_probabilities(some), some, strict=True):
            assert np.array_equal(one, model.tag_probabilities([each])[0])
    else:
        assert np.array_equal(model.predict_proba(some), np.concatenate([model.predict_proba([each]) for each in some]))
        over_time = model.classify(some, over_time=True)
        for one, each in zip(over_time, some, strict=True):
            prefixes = [each[: k + 1] for k in range(len(each))]
            assert np.array_equal(one.probabilities, model.predict_proba(prefixes))


@pytest.mark.parametrize("which", NUMERIC)
def test_sequences_do_not_depend_on_each_other(which: str, run_of: Callable[..., Path]) -> None:
    model = runtime.load(run_of(which))
    x = plain(150, 9)
    predict = model.predict_proba if CASES[which].task == "classifier" else model.predict
    assert np.array_equal(predict(x), np.concatenate([predict(one[None]) for one in x]))
    assert np.array_equal(predict(list(x)), predict(x))
    padded = np.concatenate([x, np.full_like(x, np.nan)], 1)
    assert np.array_equal(predict(padded, lengths=np.full(150, 9)), predict(x))


@pytest.mark.parametrize("weights", STORED)
@pytest.mark.parametrize("which", ["lm lstm", "lm one-hot gru", "lm gru tied characters", "lm rnn_relu"])
def test_a_step_is_that_of_the_stream_of_the_pytorch_model(
    which: str, weights: str, run_of: Callable[..., Path], tmp_path: Path
) -> None:
    """Rounded from the run's weights there, read from a file here: the same integers, the same scales."""
    run = run_of(which, hidden_size=70)
    theirs = gw.load(run)
    stream, state = theirs.stream(weights), theirs.initial_state()
    gw_file = tmp_path / "m.gatewise"
    export_run(run, gw_file, "runtime", weights=weights)
    models = runtime.load(run, weights), runtime.load(gw_file)
    states = [model.initial_state() for model in models]
    for token in inputs_of(CASES[which], 12).tolist():
        logits, state = stream.step(torch.tensor([token]), state)
        for model, own in zip(models, states, strict=True):
            assert np.array_equal(model.step([token], [own]), logits.numpy())
    assert states[0].save() == states[1].save()
    assert models[0].load_state(states[1].save()).save() == states[0].save()


@pytest.mark.parametrize("weights", STORED)
@pytest.mark.parametrize("which", CASES)
def test_a_file_is_what_is_made_of_the_run(
    which: str, weights: str, run_of: Callable[..., Path], tmp_path: Path
) -> None:
    run = RunReader.existing(run_of(which))
    about, tensors = stored_run(run, weights)
    write_sealed(tmp_path / "m.gatewise", tensors, {"runtime": about})
    assert (tmp_path / "m.gatewise").read_bytes() == read_run(run.path, weights).content
    assert read_file(tmp_path / "m.gatewise").about == about
    found, own = read_tensors(tmp_path / "m.gatewise"), gw.load(run.path).state_dict()
    for name, array in found.items():
        exact = own[name].numpy()
        if weights == "fp32" or exact.ndim == 1 or name.startswith("crf."):
            assert np.array_equal(array, exact)
        elif weights == "bf16":
            assert np.array_equal(array, own[name].bfloat16().float().numpy())
        else:
            by_column = name == "rnn.weight_ih_l0" and CASES[which].model.get("one_hot", False)
            turned = exact.T if by_column else exact.reshape(len(exact), -1)
            scale = np.abs(turned).max(1, keepdims=True) / np.float32(127)
            mine = array.T if by_column else array.reshape(turned.shape)
            assert np.array_equal(mine, np.rint(turned / scale) * scale)
            assert np.abs(mine - turned).max() <= 0.51 * scale.max()


def test_languages_are_scored_alike_in_any_company(run_of: Callable[..., Path]) -> None:
    for which in LANGUAGE:
        model = runtime.load(run_of(which))
        texts = ["the dog ate", "it", "read the book it ate", "book !"] * 10
        rows = [ids for text in texts for ids in model.vocabulary.sequences(text)]
        alone = [model._native.score(np.array([len(ids)]), model._inputs(ids), None)[0] for ids in rows]
        lengths = np.array([len(ids) for ids in rows])
        together = model._native.score(lengths, model._inputs(np.concatenate(rows)), None)
        assert together.tolist() == alone
