"""The estimators: scikit-learn's own checks, and its tools around them."""

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

# what follows needs scikit-learn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import gatewise as gw
from gatewise.errors import InputError
from gatewise.inspection import style
from gatewise.sklearn import Forecaster, SequenceClassifier, Tagger, TextClassifier

QUICK: dict[str, Any] = {"hidden_size": 8, "epochs": 12, "learning_rate": 0.03, "batch_size": 10, "random_state": 0}
TEXTS = ["good soup today", "bad soup today", "so very good", "so very bad"] * 10
MOODS = ["praise", "blame"] * 20
WORDS = [["the", "dog"], ["a", "book", "sleeps"], ["New York"]] * 8
TAGS = [["DET", "NOUN"], ["DET", "NOUN", "VERB"], ["NAME"]] * 8
WAVE = np.sin(np.arange(150) / 3)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of fits are where tests write."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def sequences(count: int = 60) -> tuple[Any, Any]:
    """Sequences of 5 steps of 2 numbers, whose larger column tells the label."""
    draw = np.random.default_rng(3)
    y = draw.integers(0, 2, count)
    x = draw.normal(0, 0.3, (count, 5, 2))
    x[np.arange(count), :, y] += 1
    return x, np.array(["left", "right"])[y]


X, Y = sequences()


@pytest.mark.slow
@parametrize_with_checks([SequenceClassifier(**QUICK)])  # all of them hold
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", [SequenceClassifier, TextClassifier, Tagger, Forecaster])
@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_no_attributes_set_in_init",
        "check_get_params_invariance",
        "check_set_params",
        "check_parameters_default_constructible",
        "check_valid_tag_types",
        "check_estimator_tags_renamed",
    ],
)
def test_the_checks_of_the_interface(kind: Any, check: str) -> None:
    """Those for whatever input: scikit-learn skips the rest for texts, tags and series."""
    getattr(estimator_checks, check)(kind.__name__, kind())


def test_sequences_of_several_numbers() -> None:
    model = SequenceClassifier(**QUICK).fit(X, Y)
    assert model.classes_.tolist() == ["left", "right"]
    assert model.n_features_in_ == 2
    assert model.score(X, Y) > 0.9
    p = model.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (model.predict(X) == model.classes_[p.argmax(1)]).all()
    assert model.history_[0]["epoch"] == 1
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), p)
    np.testing.assert_array_equal(clone(model).fit(X, Y).predict_proba(X), p)
    np.testing.assert_array_equal(model.predict_proba(list(X)), p)
    np.testing.assert_allclose(model.predict_proba(X[:, :3].tolist()), model.predict_proba(X[:, :3]))
    with pytest.raises(ValueError, match="X has 1 features, but SequenceClassifier is expecting 2 features as input"):
        model.predict(X[:, :, :1])
    with pytest.raises(ValueError, match="X holds a table; expected sequences, as in fit"):
        model.predict(X[:, :, 0])


def test_sequences_of_different_lengths_are_predicted_by_length() -> None:
    model = SequenceClassifier(**QUICK).fit(X, Y)
    ragged = [one[: 2 + row % 3] for row, one in enumerate(X)]
    p = model.predict_proba(ragged)
    for row in (0, 1, 2, 7):
        np.testing.assert_allclose(p[row], model.predict_proba(ragged[row][None])[0], atol=1e-6)


def test_sequences_of_different_lengths() -> None:
    ragged = [one[: 2 + row % 3] for row, one in enumerate(X)]
    assert cross_val_score(SequenceClassifier(**QUICK), ragged, Y, cv=3).mean() > 0.8
    model = SequenceClassifier(**QUICK).fit(ragged, Y)
    np.testing.assert_allclose(model.predict_proba(ragged), model.model_.predict_proba(ragged), atol=1e-6)


def test_a_table_is_read_by_column() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X[:, :, 0], columns=list("abcde"))
    model = SequenceClassifier(**QUICK).fit(frame, Y)
    assert model.feature_names_in_.tolist() == list("abcde")
    assert model.model_.input_size == 1
    np.testing.assert_allclose(model.predict_proba(frame), model.predict_proba(frame)[:, [0, 1]])
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[list("edcba")])


@pytest.mark.parametrize("count", [2, 3, 10, 95])
def test_small_data_trains(count: int) -> None:
    """Without a validation set, the training set selects the epoch."""
    x, y = sequences(count)
    y[:2] = ["left", "right"]
    assert len(SequenceClassifier(**QUICK).fit(x, y).predict(x)) == count


def test_a_share_is_held_out_where_it_is_large_enough(tmp_path: Path) -> None:
    for fraction, sizes in ((0.1, [60, 60]), (0.2, [48, 12]), (0, [60, 60])):
        out = tmp_path / str(fraction)
        SequenceClassifier(**QUICK, validation_fraction=fraction, out=out).fit(X, Y)
        parts = [np.load(out / "data" / f"{split}.npz")["y"] for split in ("train", "valid")]
        assert [len(part) for part in parts] == sizes
        assert abs(parts[1].mean() - (Y == "right").mean()) < 0.1
        assert gw.Run(out).metrics["test_tokens"] == sizes[1]
        assert (out / "figures" / "confusion.png").is_file()
    with pytest.raises(ValueError, match="validation_fraction is 1; expected a share"):
        SequenceClassifier(validation_fraction=1).fit(X, Y)


@pytest.mark.slow
def test_searches_and_pipelines() -> None:
    flat = X.reshape(60, 10)
    pipeline = make_pipeline(StandardScaler(), SequenceClassifier(**QUICK))
    assert cross_val_score(pipeline, flat, Y, cv=3).mean() > 0.7
    search = GridSearchCV(SequenceClassifier(**QUICK), {"hidden_size": np.array([4, 8]), "cell": ["gru"]}, cv=2)
    search.fit(X, Y)
    assert search.best_estimator_.model_.config.cell == "gru"
    assert search.best_score_ > 0.7
    lower = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), TextClassifier(**QUICK))
    assert cross_val_score(lower, TEXTS, MOODS, cv=2).mean() > 0.9
    assert cross_val_score(Tagger(**QUICK), WORDS, TAGS, cv=2).mean() > 0.9
    series = GridSearchCV(Forecaster(**QUICK), {"window": [6, 12]}, cv=TimeSeriesSplit(2, test_size=10))
    assert series.fit(WAVE).best_params_["window"] in (6, 12)


def test_texts() -> None:
    model = TextClassifier(**QUICK).fit(TEXTS, np.array([5, 10] * 20))
    assert model.classes_.tolist() == [5, 10]
    assert model.score(TEXTS, [5, 10] * 20) == 1
    assert model.predict(np.array(["a good soup"])).tolist() == [5]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), model.predict_proba(TEXTS))
    many = TextClassifier(**{**QUICK, "epochs": 1}).fit([f"word{k % 12}" for k in range(48)], np.arange(48) % 12)
    assert many.predict_proba(["word3"]).shape == (1, 12)  # the model's labels are strings: "0", "1", "10", "11", "2"
    assert many.model_.labels[2] == "10"
    order = [many.model_.labels.index(str(k)) for k in range(12)]
    np.testing.assert_allclose(many.predict_proba(["word3"])[0], many.model_.predict_proba(["word3"])[0][order])


def test_a_run_folder_that_is_not_kept_has_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = list[Path]()
    monkeypatch.setattr(style, "write_atomically", lambda out, content: drawn.append(out))
    quick = {**QUICK, "epochs": 1}
    SequenceClassifier(**quick).fit(
        X, np.arange(len(X)) % 2
    )  # labels that cannot be learnt: there are mistakes to draw
    Tagger(**quick).fit(WORDS, TAGS)
    assert {file.name for file in drawn} == {"confusion.csv"}


def test_tags() -> None:
    model = Tagger(**QUICK).fit(WORDS, TAGS)
    assert model.score(WORDS, TAGS) == 1
    assert model.predict([["the", "book"]]) == [["DET", "NOUN"]]
    (p,) = model.predict_proba([["the", "book"]])
    assert [model.classes_[k] for k in p.argmax(1)] == ["DET", "NOUN"]
    assert pickle.loads(pickle.dumps(model)).predict(WORDS) == model.predict(WORDS)
    with pytest.raises(ValueError, match="sentences of different lengths"):
        model.score(WORDS, TAGS[::-1])


def test_series(tmp_path: Path) -> None:
    model = Forecaster(**{**QUICK, "epochs": 40}, window=12, out=tmp_path).fit(WAVE)
    ahead = model.predict(5)
    assert np.abs(ahead - np.sin(np.arange(150, 155) / 3)).max() < 0.3
    from gatewise.predict.forecast import forecast

    np.testing.assert_array_equal(ahead, forecast(tmp_path, steps=5).values)
    assert model.score(np.sin(np.arange(150, 160) / 3)) > 0.8
    assert gw.Run(tmp_path).metrics["test_tokens"] == 1
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(5), ahead)
    for steps in (0, 1.5, "2"):
        with pytest.raises(ValueError, match="expected a number, 1 or more"):
            model.predict(steps)


def test_a_table_over_time() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"level": WAVE, "wind": np.cos(np.arange(150) / 3)})
    model = Forecaster(**QUICK, window=8, horizon=3, overrides={"data.target": "wind"}).fit(frame)
    assert model.target_ == "wind"
    assert model.predict(3).shape == (3,)
    assert model.score(frame.iloc[:3]) < 1
    with pytest.raises(ValueError, match="steps is 4, beyond the horizon of 3: the model reads 2 columns"):
        model.predict(4)


BAD: list[tuple[Any, str]] = [
    (lambda: SequenceClassifier(hidden_size=0).fit(X, Y), r"model\.hidden_size is 0"),
    (lambda: SequenceClassifier(cell="lstn").fit(X, Y), r"model\.cell is 'lstn'"),
    (lambda: SequenceClassifier(recipe="tagger").fit(X, Y), "expected a tuple|sentence|words"),
    (lambda: SequenceClassifier(overrides={"training.epoch": 1}).fit(X, Y), r"did you mean training\.epochs"),
    (lambda: SequenceClassifier().fit(X[:, :, :0], Y), "0 feature|size 0|shape"),
    (lambda: SequenceClassifier().fit([X[0], X[1][:, :1]], ["a", "b"]), r"X\[1\] has 1 numbers per step"),
    (lambda: SequenceClassifier().fit(1e8 + X * 1e-3, Y), "float32 cannot resolve"),
    (lambda: TextClassifier().fit(["a", " "], ["x", "y"]), "text 1 has no words"),
    (lambda: TextClassifier().fit(["a", None], ["x", "y"]), "text 1 is missing"),
    (lambda: TextClassifier().fit("ab", ["x", "y"]), "the texts are a str"),
    (lambda: TextClassifier().fit(["a", "b"], ["x", "x"]), "only one class"),
    (lambda: TextClassifier().fit(["a", "b"], ["x"]), "inconsistent numbers of samples"),
    (lambda: Tagger().fit(["a b"], [["x", "y"]]), "sentence 0: its words are a str"),
    (lambda: Tagger().fit([["a"]], [["x", "y"]]), "sentence 0 has 1 words and 2 tags"),
    (lambda: Forecaster().fit([1.0, 2.0]), "too few|expected fewer"),
    (lambda: Forecaster().fit([1.0, np.nan] * 20), "^data: every forecast would start or end in a gap"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_a_value_error(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_forecaster_in_spans_of_time() -> None:
    pd = pytest.importorskip("pandas")
    series = pd.Series(WAVE, index=pd.date_range("2024-01-01", periods=len(WAVE)), name="level")
    model = Forecaster(**QUICK, window="2 weeks", horizon="3 days").fit(series)
    assert len(model._end) == 14 and model.predict().shape == (3,)
    np.testing.assert_array_equal(model.predict(), model.predict(3))
    with pytest.raises(InputError, match=r"y is given, but a forecaster learns from the series alone"):
        Forecaster(**QUICK).fit(WAVE, WAVE)
    with pytest.raises(InputError, match=r"data\.window is '2 weeks': .* has no dates; give a number of steps"):
        Forecaster(**QUICK, window="2 weeks").fit(WAVE)


@pytest.mark.parametrize("kind", [TextClassifier, Tagger, Forecaster])
def test_prediction_needs_a_fit(kind: Any) -> None:
    with pytest.raises(NotFittedError):
        kind().predict(["a"])


def test_what_gatewise_refuses_is_one_of_its_errors() -> None:
    with pytest.raises(InputError):
        SequenceClassifier(hidden_size=0).fit(X, Y)
    with pytest.raises(gw.GatewiseError):
        TextClassifier().fit(["a", " "], ["x", "y"])


def test_a_package_that_is_missing_is_no_invalid_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(ImportError, match="needs narwhals"):
        Forecaster(**QUICK).fit(object.__new__(type("Column", (), {"__len__": lambda self: 50})))


def test_without_scikit_learn() -> None:
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "try:\n    import gatewise.sklearn\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (
        "gatewise.sklearn needs scikit-learn, which is not installed; it comes with the extra 'datasets'\n"
    )
