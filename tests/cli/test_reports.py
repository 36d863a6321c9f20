"""What a user learns about a model: metrics per label, mistakes, entities, baselines, and runs beside each other."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gatewise as gw
from tests.cli.conftest import Gatewise
from tests.cli.test_text_classification import TINY, rows, write_csv

OTHER = "figures/other-data"
NONE_LEARNT = {"training.learning_rate": 1e-9, "training.epochs": 1, "logging.tensorboard": False}


def mistakes_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "mistakes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    write_csv(folder / "reviews.csv", rows(20))
    return gw.train("text-classifier", data=folder / "reviews.csv", out=folder / "run", overrides=TINY).path


def test_a_text_classifiers_report(text_run: Path, gatewise: Gatewise, tmp_path: Path) -> None:
    wrong = [("a fine\nmeal", "1"), ("we hated it", "5"), ("bad food , awful !", "9")]
    write_csv(tmp_path / "new.csv", [*rows(1), *wrong])
    figures = json.loads(gatewise("evaluate", text_run, "--data", "new.csv", "--json").out)
    found = mistakes_of(text_run / OTHER)
    told = gatewise("evaluate", text_run, "--data", "new.csv").out
    assert {(one["label"], one["text"]) for one in found} == {
        ("1", "a fine meal"),
        ("5", "we hated it"),
        ("9", "bad food , awful !"),
    }
    assert (found[0]["label"], found[0]["label_probability"]) == ("9", "0"), "an unknown label is the least probable"
    shares = [float(one["label_probability"]) for one in found]
    assert shares == sorted(shares)
    assert found[0]["where"] == "new.csv:11"
    line = f"  new.csv:11: 9, predicted {found[0]['predicted']} ({100 * float(found[0]['probability']):.1f}%)"
    assert f"{line}: bad food , awful !" in told.splitlines()
    # Of each known label, three are right and one is taken for the other; the unknown label is taken for one of them.
    given = {label: 4 + (found[0]["predicted"] == label) for label in ("1", "5")}
    for label in ("1", "5"):
        assert (figures[f"recall_{label}"], figures[f"precision_{label}"]) == (3 / 4, 3 / given[label])
        assert figures[f"f1_{label}"] == 2 * 3 / (4 + given[label]) and figures[f"tokens_{label}"] == 4
    assert figures["accuracy"] == 6 / 9 and figures["baseline_accuracy"] == 4 / 9
    assert figures["macro_f1"] == pytest.approx((figures["f1_1"] + figures["f1_5"]) / 2)
    assert f"worst mistakes, the least probable labels first, in {text_run}/{OTHER}/mistakes.csv:" in told
    assert "baseline: accuracy 44.44% (always the most frequent label)" in told
    assert (text_run / OTHER / "confusion.png").exists()
    confusion = (text_run / OTHER / "confusion.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in confusion] == ["right \\ given", "1", "5", "unknown labels"]
    assert [sum(map(int, line.split(",")[1:])) for line in confusion[1:]] == [4, 4, 1]
    own = (text_run / "figures" / "confusion.csv").read_text().splitlines()
    assert sum(int(n) for line in own[1:] for n in line.split(",")[1:]) == 12, "the report of the run stays"


def test_no_mistakes(text_run: Path, gatewise: Gatewise) -> None:
    done = gatewise("evaluate", text_run)
    assert done.out.splitlines()[-1] == "no mistakes" and mistakes_of(text_run / "figures") == []


def test_mistakes_of_pictures_are_drawn(gatewise: Gatewise, tmp_path: Path) -> None:
    for label in ("dark", "light"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(20):
            shade = 30 + k if label == "dark" else 220 - k
            Image.new("L", (8, 8), shade).save(tmp_path / "data" / label / f"{k}.png")
    done = gatewise("train", "image-classifier", "--data", "data", "--out", "run", *options(NONE_LEARNT))
    assert done.status == 0, done.err
    gatewise("evaluate", "run", "--data", "data")
    found = mistakes_of(tmp_path / "run" / OTHER)
    assert len(found) == 20
    assert {Path(one["where"]).parent.name for one in found} == {found[0]["label"]} != {found[0]["predicted"]}
    drawn = Image.open(tmp_path / "run" / OTHER / "mistakes.png")
    assert drawn.size[0] > drawn.size[1] > 500


def test_mistakes_of_sequences_name_their_row(gatewise: Gatewise, tmp_path: Path) -> None:
    x, y = np.zeros((40, 3, 2)), np.repeat(["a", "b"], 20)
    x[20:] = np.random.default_rng(1).normal(size=(20, 3, 2))
    np.savez(tmp_path / "a.npz", x=x, y=y)
    assert (
        gatewise("train", "sequence-classifier", "--data", "a.npz", "--out", "run", *options(NONE_LEARNT)).status == 0
    )
    test = mistakes_of(tmp_path / "run" / "figures")
    assert test and all((int(one["where"].split("[")[1][:-1]) < 20) == (one["label"] == "a") for one in test)
    gatewise("evaluate", "run", "--data", "a.npz")
    places = [one["where"] for one in mistakes_of(tmp_path / "run" / OTHER)]
    assert len(places) == 20 and set(places) <= {f"a.npz[{k}]" for k in range(40)}


def test_entities_and_their_baseline(gatewise: Gatewise, tmp_path: Path) -> None:
    words = {"Ann": "B-PER", "Lee": "I-PER", "met": "O", "Bob": "B-PER", "in": "O", "Rome": "B-LOC"}
    text = "".join(f"{word}\t{tag}\n" for word, tag in words.items()) + "\n"
    (tmp_path / "tags.txt").write_text(text * 30)
    run = gw.train("tagger", data=tmp_path / "tags.txt", out=tmp_path / "run", overrides={"training.epochs": 4})
    assert (run.metrics["test_entity_f1"], run.metrics["commonest_tag_test_entity_f1"]) == (1, 1)
    figures = json.loads(gatewise("evaluate", "run", "--json").out)
    assert (figures["entity_f1"], figures["entities_PER"], figures["entity_f1_LOC"]) == (1, 6, 1)
    told = gatewise("evaluate", "run").out
    assert "entities: precision 100.00%, recall 100.00%, F1 100.00% over 9; F1 of PER 100.00%, LOC 100.00%" in told
    assert "| baseline: F1 of entities | 100.00% |" in (tmp_path / "run" / "README.md").read_text()


def test_a_language_model_says_what_perplexity_is(gatewise: Gatewise, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("it was a dark night\n" * 60)
    done = gatewise("train", "language-model", "--data", "book.txt", "--out", "run", "--set", "training.epochs=1")
    assert "perplexity: the number of equally likely words that would be as hard to choose from" in done.err
    assert "baseline: perplexity" in done.out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_csv(folder / "reviews.csv", rows(20))
    for name, seed in (("first", 1), ("second", 2)):
        settings = {**TINY, "training.seed": seed, "training.epochs": 2}
        gw.train("text-classifier", data=folder / "reviews.csv", out=folder / name, overrides=settings)
    return folder


def test_runs_beside_each_other(runs: Path, gatewise: Gatewise) -> None:
    done = gatewise("compare", runs / "first", runs / "second")
    assert done.status == 0, done.err
    table = {line.split("  ")[0]: line.split()[1:] for line in done.out.splitlines()}
    assert table["run"] == ["first", "second"]
    assert table["training.seed"] == ["1", "2"]
    assert "majority_test_accuracy" in table and not any(name.startswith("data.") for name in table)
    found = json.loads(gatewise("compare", runs / "first", runs / "second", "--json").out)["runs"]
    final = json.loads((runs / "second" / "metrics.jsonl").read_text().splitlines()[-1])
    assert [one["run"] for one in found] == ["first", "second"]
    for key in ("best_epoch", "test_accuracy", "majority_test_accuracy"):
        assert found[1][key] == final[key]
    assert "test_data" not in table
    assert table["test_accuracy"][1] == f"{100 * final['test_accuracy']:.2f}%"


def test_runs_of_different_tasks_and_unfinished_ones(runs: Path, gatewise: Gatewise, tmp_path: Path) -> None:
    gw.train("tagging-toy", out=tmp_path / "tags", overrides={"training.epochs": 1})
    lines = (runs / "first" / "metrics.jsonl").read_text().splitlines()
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.toml").write_bytes((runs / "first" / "config.toml").read_bytes())
    (unfinished / "metrics.jsonl").write_text(lines[0] + "\n")
    found = json.loads(gatewise("compare", runs / "first", "tags", "unfinished", "--json").out)["runs"]
    assert [one["task"] for one in found] == ["text-classifier", "tagger", "text-classifier"]
    final = json.loads((tmp_path / "tags" / "metrics.jsonl").read_text().splitlines()[-1])
    assert found[1]["test_data"] == final["test_data_hash"][:12] != found[0]["test_data"]
    assert found[2]["test_accuracy"] is None and found[2]["valid_accuracy"] == json.loads(lines[0])["valid_accuracy"]
    assert found[1]["majority_test_accuracy"] is None and found[0]["commonest_tag_test_accuracy"] is None
    gatewise("compare", "tags", "none").check_refused(4, "none: no such folder")
    (unfinished / "metrics.jsonl").write_text("{}\n")
    gatewise("compare", "tags", "unfinished").check_refused(4, "metrics.jsonl:1: ")


def test_data_that_has_changed_since_training(gatewise: Gatewise, tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", rows(20))
    gw.train("text-classifier", data=tmp_path / "reviews.csv", out=tmp_path / "run", overrides=TINY)
    assert gatewise("evaluate", "run").err == ""
    write_csv(tmp_path / "reviews.csv", rows(21))
    assert "the data has changed since training" in gatewise("evaluate", "run").err


def test_gradient_flow_of_a_text_classifier(text_run: Path, gatewise: Gatewise) -> None:
    done = gatewise("inspect", "gradient-flow", text_run, "--out", "flow.png")
    assert done.status == 0, done.err


def options(settings: dict[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
