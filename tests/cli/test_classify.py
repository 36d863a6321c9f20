"""``gatewise classify``: images, arrays and texts, and errors in them."""

import json
from pathlib import Path

import numpy as np
import pytest

import gatewise as gw
from tests.cli.conftest import Gatewise


@pytest.fixture
def array(sequences: Path, tmp_path: Path) -> Path:
    with np.load(sequences / "toy.test.npz") as arrays:
        np.save(tmp_path / "three.npy", arrays["x"][:3])
    return tmp_path / "three.npy"


def write_png(path: Path, size: tuple[int, int]) -> Path:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.full((size[1], size[0]), 128, np.uint8)).save(path)
    return path


def test_one_line_a_sequence_with_its_label(gatewise: Gatewise, classifier_run: Path, array: Path) -> None:
    result = gatewise("classify", classifier_run, array)
    assert (result.status, result.err) == (0, "")
    model = gw.load(classifier_run)
    p = model.predict_proba(np.load(array))
    expected = [f"{array}[{k}]: {model.labels[row.argmax()]} ({100 * row.max():.1f}%)" for k, row in enumerate(p)]
    assert result.out.splitlines() == expected


def test_json_has_every_probability_and_over_time_each_steps(
    gatewise: Gatewise, classifier_run: Path, array: Path
) -> None:
    found = json.loads(gatewise("classify", classifier_run, array, "--json").out)["predictions"]
    assert len(found) == 3
    p = gw.load(classifier_run).predict_proba_over_time(np.load(array))
    for one, rows in zip(found, p, strict=True):
        assert list(one["probabilities"]) == ["3", "5", "8"]
        assert list(one["probabilities"].values()) == pytest.approx(rows[-1].tolist(), abs=1e-6)
        assert str(one["label"]) == max(one["probabilities"], key=one["probabilities"].get)
    over = json.loads(gatewise("classify", classifier_run, array, "--json", "--over-time").out)["predictions"]
    assert [[step["5"] for step in one["probabilities"]] for one in over] == pytest.approx(p[:, :, 1], abs=1e-6)
    lines = gatewise("classify", classifier_run, array, "--over-time").out.splitlines()
    assert len(lines) == 18
    assert lines[5].startswith(f"{array}[0] after step 6: ")


def test_an_image_of_another_size_is_resized_on_request_alone(
    gatewise: Gatewise, classifier_run: Path, tmp_path: Path
) -> None:
    right, other = write_png(tmp_path / "right.png", (4, 6)), write_png(tmp_path / "other.png", (8, 12))
    assert gatewise("classify", classifier_run, right).status == 0
    gatewise("classify", classifier_run, right, other).check_refused(
        3, "other.png: 8x12 pixels (width x height), the model reads 4x6; add --resize"
    )
    resized = gatewise("classify", classifier_run, other, "--resize")
    assert resized.out.replace("other.png", "right.png") == gatewise("classify", classifier_run, right).out
    assert gatewise("classify", classifier_run, right, "--invert").status == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, "none.png: cannot read it (No such file"),
        ("text.png", b"no image", "text.png: cannot read it"),
        ("text.npy", b"no array", "text.npy"),
        ("wide.npy", np.zeros((2, 6, 5)), "wide.npy: sequences of 6 steps of 5 numbers; the model reads 6 steps of 4"),
        ("nan.npy", np.full((2, 6, 4), np.nan), "nan.npy"),
        ("flat.npy", np.zeros(24), "flat.npy"),
    ],
)
def test_files_that_cannot_be_read(
    gatewise: Gatewise, classifier_run: Path, tmp_path: Path, name: str, content: object, message: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        np.save(tmp_path / name, content)  # type: ignore[arg-type]
    gatewise("classify", classifier_run, tmp_path / name).check_refused(3, message)


def test_a_model_of_another_task_is_refused(
    gatewise: Gatewise, tiny_run: Path, classifier_run: Path, array: Path
) -> None:
    gatewise("classify", tiny_run, array).check_refused(2, "its model is a LanguageModel; expected a classifier's run")
    gatewise("generate", classifier_run).check_refused(2, "a classifier run, which holds a SequenceClassifier")
    gatewise("classify", "nowhere", array).check_refused(4, "nowhere: no such folder")
