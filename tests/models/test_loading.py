"""Loading models from run folders: nothing is initialized needlessly, and results that are not finite are errors."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import gatewise as gw
from gatewise.errors import GatewiseError, NotFinite, RunError
from gatewise.predict.classify import classify
from gatewise.predict.forecast import forecast
from gatewise.predict.tag import tag_file
from gatewise.tasks.evaluate import evaluate
from tests.conftest import TINY, unseal


def copy_of(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def scale(run: Path, factor: float) -> None:
    """Multiply all weights of a run."""
    weights = load_file(run / "model.safetensors")
    save_file({name: (w * factor).clamp(-3e38, 3e38) for name, w in weights.items()}, run / "model.safetensors")


@pytest.mark.parametrize("kind", ["tiny_run", "tagger_run", "classifier_run", "regressor_run"])
def test_nothing_is_drawn_and_no_memory_taken_for_a_model_that_is_loaded(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices, uniform = list[str](), torch.Tensor.uniform_

    def watched(tensor: torch.Tensor, *args: float, **kwargs: float) -> torch.Tensor:
        devices.append(tensor.device.type)
        return uniform(tensor, *args, **kwargs)

    run, state = request.getfixturevalue(kind), torch.get_rng_state()
    monkeypatch.setattr(torch.Tensor, "uniform_", watched)
    monkeypatch.setattr(torch.Tensor, "normal_", None)  # on meta PyTorch imports its compiler for it
    model = gw.load(run)
    assert set(devices) == {"meta"} and torch.equal(torch.get_rng_state(), state)
    weights = load_file(run / "model.safetensors")
    assert {name: (p.device.type, p.requires_grad) for name, p in model.named_parameters()} == dict.fromkeys(
        weights, ("cpu", True)
    )
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not any(module.training for module in model.modules())


def test_tied_weights_are_tied_again(corpus: Path, tmp_path: Path) -> None:
    overrides = {**TINY, "training.epochs": 1, "model.tie_weights": True}
    run = gw.train("demo", data=corpus, out=tmp_path / "run", overrides=overrides).path
    for damage in (lambda _: None, unseal):
        damage(run)
        model = gw.load(run)
        assert model.decoder.weight is model.embedding.weight


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("classifier_run", 'pooling = "last"', 'pooling = "mean"'),
        ("classifier_run", 'name = "classifier"', 'name = "regressor"'),
        ("regressor_run", "horizon = 1", "horizon = 2"),
        ("regressor_run", 'name = "regressor"', 'name = "memory-task"'),
        ("tagger_run", 'cell = "lstm"', 'cell = "gru"'),
        ("scratch_run", 'level = "prose"', 'level = "word"'),
    ],
)
def test_a_config_that_contradicts_the_weights(
    kind: str, before: str, after: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Also where every shape is the same."""
    run = copy_of(request.getfixturevalue(kind), tmp_path)
    text = (run / "config.toml").read_text()
    assert before in text
    (run / "config.toml").write_text(text.replace(before, after))
    line = 1 + text[: text.index(before)].count("\n")
    for use in (gw.load, evaluate):
        with pytest.raises(RunError, match=rf"config\.toml:{line}: .*but the weights were trained with"):
            use(run)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("tagger_run", "characters.json"),
        ("tagger_run", "labels.json"),
        ("classifier_run", "labels.json"),
        ("regressor_run", "scaling.json"),
        ("scratch_run", "tokenizer.json"),
    ],
)
def test_every_file_beside_the_weights_is_known_by_its_hash(
    kind: str, name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = copy_of(request.getfixturevalue(kind), tmp_path)
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run / name).write_bytes(content)
    for use in (gw.load, evaluate):
        with pytest.raises(RunError, match=rf"{name}: not the file that the weights were trained with"):
            use(run)


def test_labels_may_be_renamed_where_the_weights_are_written_without_a_seal(tagger_run: Path, tmp_path: Path) -> None:
    run = copy_of(tagger_run, tmp_path)
    labels = (run / "labels.json").read_text()
    (run / "labels.json").write_text(labels.replace('"NN"', '"noun"'))
    with pytest.raises(RunError, match=r"labels\.json"):
        gw.load(run)
    unseal(run)
    assert "noun" in gw.load(run).tags


@pytest.mark.parametrize(
    ("kind", "factor", "uses"),
    [
        ("tiny_run", 1e36, [evaluate, lambda run: gw.load(run).perplexity(["the dog"])]),
        ("classifier_run", 1e40, [evaluate, lambda run: gw.load(run).predict_proba(np.ones((1, 6, 4)))]),
        ("classifier_run", 1e40, [lambda run: gw.load(run).predict_proba_over_time(np.ones((1, 6, 4)))]),
        ("tagger_run", 1e40, [evaluate, lambda run: gw.load(run).tag([["the", "dog"]])]),
        ("tagger_run", 1e40, [lambda run: gw.load(run).tag_probabilities([["the", "dog"]])]),
        ("regressor_run", 1e40, [evaluate, forecast]),
    ],
)
def test_what_is_not_finite_is_no_answer(
    kind: str, factor: float, uses: list[Callable[[Path], object]], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Weights so large that float32 overflows: the argmax of NaNs is not a label."""
    run = copy_of(request.getfixturevalue(kind), tmp_path)
    scale(run, factor)
    for use in uses:
        with pytest.raises(NotFinite) as caught:
            use(run)
        assert "\n" not in str(caught.value) and caught.value.exit_status == 1


def test_files_that_hold_what_float32_cannot(classifier_run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((1, 6, 4), 1e300))
    with pytest.raises(GatewiseError, match=r"x\.npy|x holds numbers"):
        classify(classifier_run, [tmp_path / "x.npy"])


def test_a_tagger_of_nothing_but_nan_writes_nothing(tagger_run: Path, tmp_path: Path) -> None:
    run = copy_of(tagger_run, tmp_path)
    scale(run, 1e40)
    (tmp_path / "text").write_text("the dog\n")
    with pytest.raises(NotFinite):
        list(tag_file(run, tmp_path / "text", "text"))
