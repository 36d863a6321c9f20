"""Text classifiers from CSV, JSONL and CoNLL-U to metrics and predictions, and errors in the files."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import DataError, UsageError
from gatewise.tasks.evaluate import evaluate
from tests.cli.conftest import Gatewise
from tests.conftest import real_data

GOOD, BAD = ["a fine meal", "we liked it , fine !", "good food"], ["an awful meal", "we hated it", "bad food , awful !"]
TINY = {
    "data.batch_size": 6,
    "data.column": "review",
    "data.label_column": "stars",
    "model.embedding_size": 8,
    "model.hidden_size": 8,
    "model.character_embedding_size": 4,
    "model.character_hidden_size": 4,
    "model.dropout": 0.0,
    "model.word_dropout": 0.0,
    "training.epochs": 12,
    "training.learning_rate": 0.02,
    "training.average_decay": 0.0,
    "logging.tensorboard": False,
}


def rows(repeats: int) -> list[tuple[str, str]]:
    return [(text, label) for label, texts in (("5", GOOD), ("1", BAD)) for text in texts] * repeats


def write_csv(path: Path, content: list[tuple[str, str]], header: tuple[str, str] = ("review", "stars")) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *content])


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviews")
    for split, repeats in (("train", 8), ("valid", 2), ("test", 2)):
        write_csv(folder / f"toy.{split}.csv", rows(repeats))
    return folder


@pytest.fixture(scope="module")
def run(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gw.train("ewt-genre", data=reviews, out=tmp_path_factory.mktemp("runs") / "reviews", overrides=TINY).path


def test_it_learns_and_stands_beside_a_logistic_regression(run: Path) -> None:
    final = RunFolder(run).read_metrics()[-1]
    assert final["test_accuracy"] == 1.0
    assert final["majority_test_accuracy"] == 0.5
    if pytest.importorskip("sklearn"):
        assert final["logistic_regression_test_accuracy"] == 1.0
    assert json.loads((run / "labels.json").read_text())["labels"] == ["1", "5"]


def test_evaluate_and_classify_agree_with_the_model(gatewise: Gatewise, run: Path, tmp_path: Path) -> None:
    figures = evaluate(run, split="test")
    assert (figures["task"], figures["accuracy"], figures["tokens"]) == ("text-classifier", 1.0, 12)
    texts = tmp_path / "texts.txt"
    texts.write_text("a good meal\nbad , awful !\n", encoding="utf-8")
    p = gw.load(run).predict_proba(["a good meal", "bad , awful !"])
    result = gatewise("classify", run, texts)
    assert result.out.splitlines() == [
        f"{texts}:{k + 1}: {label} ({100 * float(p[k].max()):.1f}%)" for k, label in enumerate(("5", "1"))
    ]
    found = json.loads(gatewise("classify", run, texts, "--json", "--over-time").out)["predictions"]
    assert [len(one["probabilities"]) for one in found] == [3, 4]
    assert found[1]["probabilities"][-1]["1"] == pytest.approx(float(p[1, 0]), abs=1e-6)


def test_jsonl_says_the_same_as_csv(reviews: Path, run: Path, tmp_path: Path) -> None:
    for split, repeats in (("train", 8), ("valid", 2), ("test", 2)):
        lines = [json.dumps({"review": text, "stars": int(label)}) for text, label in rows(repeats)]
        (tmp_path / f"toy.{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    same = gw.train("ewt-genre", data=tmp_path, out=tmp_path / "run", overrides=TINY)
    figures = [{k: v for k, v in RunFolder(p).read_metrics()[-1].items() if "hash" not in k} for p in (run, same.path)]
    assert figures[0] == figures[1]
    assert (same.path / "tokenizer.json").read_bytes() == (run / "tokenizer.json").read_bytes()


def test_the_genre_of_conllu_is_read_from_its_sent_id(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        sentences = [
            f"# sent_id = {genre}-{k}\n"
            + "".join(f"{i}\t{w}" + "\t_" * 8 + "\n" for i, w in enumerate(text.split(), 1))
            for k, (text, genre) in enumerate([(t, "email") for t in GOOD] + [(t, "weblog") for t in BAD])
        ]
        (tmp_path / f"toy-ud-{name}.conllu").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    run = gw.train("ewt-genre", data=tmp_path, out=tmp_path / "run", overrides={**TINY, "training.epochs": 2})
    assert run.model.labels == ["email", "weblog"]
    assert run.metrics["test_tokens"] == 6


@pytest.mark.parametrize(
    ("content", "header", "overrides", "message"),
    [
        (
            rows(1),
            ("review", "stars"),
            {"data.column": "text"},
            r"train\.csv:1: no column 'text'; found 'review', 'stars'",
        ),
        (rows(1), ("review", "stars"), {"data.label_column": "label"}, r"train\.csv:1: no column 'label'"),
        ([("", "5")], ("review", "stars"), {}, r"train\.csv:2: no row has both a text and a label"),
        ([("good", "")], ("review", "stars"), {}, r"train\.csv:2: no row has both a text and a label"),
        ([("good", "5")], ("review", "stars"), {}, r"only one class, '5'"),
        ([], ("review", "stars"), {}, r"train\.csv: no text"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    tmp_path: Path, content: Any, header: tuple[str, str], overrides: dict[str, str], message: str
) -> None:
    for split in ("train", "valid", "test"):
        write_csv(tmp_path / f"toy.{split}.csv", content, header)
    with pytest.raises(DataError, match=message):
        gw.train("ewt-genre", data=tmp_path, out=tmp_path / "run", overrides={**TINY, **overrides})
    assert not (tmp_path / "run").exists()


def test_an_unknown_label_is_an_error_of_the_model(run: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "toy.test.csv", [("good food", "5"), ("fine", "4")])
    figures = evaluate(run, data=tmp_path)
    assert figures["tokens"] == 2 and figures["accuracy"] <= 0.5


def test_data_that_was_moved_and_no_data(reviews: Path, run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(config.replace(str(reviews), str(tmp_path / "gone")))
    with pytest.raises(DataError, match=r"gone.*set the current path with data=PATH"):
        evaluate(copy)
    with pytest.raises(UsageError, match="names no data"):
        gw.train("ewt-genre", out=tmp_path / "run")


def test_images_options_mean_nothing_to_texts(gatewise: Gatewise, run: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("good\n\n", encoding="utf-8")
    gatewise("classify", run, "texts.txt", "--resize").check_refused(2, "--resize and --invert apply to images")
    (tmp_path / "texts.txt").write_text("\n\nfood is good\n", encoding="utf-8")
    assert gatewise("classify", run, "texts.txt").out.startswith("texts.txt:3: "), "empty lines are counted, too"
    (tmp_path / "texts.txt").write_text("\n\n", encoding="utf-8")
    gatewise("classify", run, "texts.txt").check_refused(3, "texts.txt: the file contains no text")
    (tmp_path / "texts.csv").write_text("review,stars,id\ngood food,5,1\n", encoding="utf-8")
    assert gatewise("classify", run, "texts.csv").out.startswith("texts.csv:2: ")


def test_a_missing_column_of_a_finished_run_is_to_be_renamed(gatewise: Gatewise, run: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "other.csv", rows(1), ("text", "stars"))
    for command in (["classify", run, "other.csv"], ["evaluate", run, "--data", "other.csv"]):
        result = gatewise(*command)
        result.check_refused(3, "no column 'review'", "expected the column that the run was trained on; rename it")
        assert "--set" not in result.err


def test_as_many_labels_as_texts_are_told_without_warnings(
    gatewise: Gatewise, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write_csv(tmp_path / "a.csv", [(f"text {k}", f"label {min(k, 37)}") for k in range(40)])
    options = [
        word
        for key, value in {**TINY, "training.epochs": 1}.items()
        for word in ("--set", f"{key}={json.dumps(value)}")
    ]
    result = gatewise("train", "ewt-genre", "--data", "a.csv", "--out", "run", *options)
    assert result.status == 0, result.err
    assert "38 labels for 40 texts: most have too few texts to learn from; if 'stars' does not hold" in result.err
    assert "--set data.label_column=NAME" in result.err
    assert [str(one.message) for one in recwarn if "sklearn" in one.filename] == []
    write_csv(tmp_path / "a.csv", [(f"text {k}", f"label {k // 2}") for k in range(40)])
    result = gatewise("train", "ewt-genre", "--data", "a.csv", "--out", "other", *options)
    assert result.status == 0 and "labels for" not in result.err


def test_data_without_a_known_label_is_refused(gatewise: Gatewise, run: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "other.csv", [("good food", "positive"), ("bad", "negative"), ("good", "positive")])
    gatewise("evaluate", run, "--data", "other.csv").check_refused(
        3,
        "other.csv:2: none of its labels occurs in the training data; found 'positive', 'negative'; expected '1', '5'",
    )


def test_empty_texts_are_counted(gatewise: Gatewise, run: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("good\n\n  \nbad food\n", encoding="utf-8")
    result = gatewise("classify", run, "texts.txt")
    assert [line.split(": ")[0] for line in result.out.splitlines()] == ["texts.txt:1", "texts.txt:4"]
    assert result.err == "texts.txt: skipped 2 of 4 texts, which are empty, the first in line 2\n"


@pytest.mark.slow
def test_ewt_has_five_genres(tmp_path: Path) -> None:
    data = real_data("ud_en_ewt")
    overrides = {
        "training.max_steps": 3,
        "model.hidden_size": 8,
        "model.embedding_size": 8,
        "logging.tensorboard": False,
    }
    run = gw.train("ewt-genre", data=data, out=tmp_path / "run", overrides=overrides)
    assert run.model.labels == ["answers", "email", "newsgroup", "reviews", "weblog"]
    assert run.metrics["test_tokens"] == 2077
    assert 0.58 < run.metrics["logistic_regression_test_accuracy"] < 0.62
