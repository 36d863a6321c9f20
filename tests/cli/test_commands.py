"""The commands with valid input."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gatewise as gw
from gatewise import __version__
from gatewise.config import load_config, recipe_names
from gatewise.engines import ENGINES
from gatewise.files import file_hash
from tests.cli.conftest import TINY_OPTIONS, Gatewise, contents


def count_tokens(path: Path) -> int:
    """Count words and line ends."""
    return sum(len(line.split()) + 1 for line in path.read_text().splitlines())


def test_train_prints_results_and_progress_apart(gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """Metrics, sample and folder are printed to stdout, progress to stderr; config.toml records --seed and --set."""
    out = tmp_path / "new" / "run"
    result = gatewise("train", "--data", corpus, "--out", out, *TINY_OPTIONS, "--seed", "7", "--set", "model.dropout=0")
    assert result.status == 0, result.err
    assert "test perplexity" in result.out
    assert "a sample of text:" in result.out
    assert f"run folder: {out}" in result.out
    assert "epoch" not in result.out.replace("(epoch", "")
    assert "epoch 1/2" in result.err
    assert "epoch 2/2  train perplexity" in result.err
    assert "test perplexity" not in result.err
    config = load_config(out / "config.toml")
    assert (config.training.seed, config.training.epochs) == (7, 2)
    assert (config.model.dropout, config.model.hidden_size) == (0, 8)
    assert config.data.path == str(corpus)
    assert config.data.builtin == ""
    figures = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"test perplexity {figures['test_perplexity']:.2f} over {figures['test_tokens']:,} tokens" in result.out


def test_train_without_out(gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """Without --out, the run is written to runs/RECIPE-TIME below the current folder."""
    assert gatewise("train", "--data", corpus, *TINY_OPTIONS, "--set", "training.epochs=1").status == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("demo-")
    assert (folder / "model.safetensors").is_file()


def test_relative_data_path(gatewise: Gatewise, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe may name its data by a relative path; the run finds the data from any folder."""
    shutil.copytree(corpus, tmp_path / "corpus")
    (tmp_path / "mine.toml").write_text('[data]\npath = "corpus"\n')
    result = gatewise("train", "mine.toml", "--out", "run", *TINY_OPTIONS, "--set", "training.epochs=1")
    assert result.status == 0, result.err
    assert load_config(tmp_path / "run" / "config.toml").data.path == str(tmp_path / "corpus")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert gatewise("evaluate", "../run").status == 0


def test_train_on_blank_lines(gatewise: Gatewise, tmp_path: Path) -> None:
    """Metrics are printed even if the model has learnt to generate nothing."""
    for name in ("train", "valid", "test"):
        (tmp_path / f"blank.{name}.txt").write_text("\n" * 60)
    result = gatewise("train", "--data", tmp_path, "--out", tmp_path / "run", *TINY_OPTIONS)
    assert result.status == 0, result.err
    assert "over 59 tokens" in result.out


def test_resume_of_a_finished_run(gatewise: Gatewise, corpus: Path, tiny_run: Path) -> None:
    """The message says that the run is finished; no byte changes, and the metrics are printed again."""
    before = contents(tiny_run)
    result = gatewise("train", "--data", corpus, "--out", tiny_run, "--resume", *TINY_OPTIONS)
    assert result.status == 0, result.err
    assert "this run is finished (2 epochs); nothing is changed" in result.err
    assert "test perplexity" in result.out
    assert contents(tiny_run) == before


def test_resume_without_a_checkpoint(gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """Without a checkpoint, --resume starts from the beginning and says so."""
    out = tmp_path / "run"
    result = gatewise("train", "--data", corpus, "--out", out, "--resume", *TINY_OPTIONS)
    assert result.status == 0, result.err
    assert "no checkpoint found; starting from the beginning" in result.err
    assert "epoch 1/2" in result.err
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


def test_resume_with_more_epochs(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    """The number of epochs may differ; the run's own config.toml is used as the recipe."""
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    before = (run / "metrics.jsonl").read_text().splitlines()
    result = gatewise("train", "--out", run, "--resume", "--set", "training.epochs=3")
    assert result.status == 0, result.err
    assert "epoch 3/3" in result.err
    assert "epoch 2/3" not in result.err
    after = (run / "metrics.jsonl").read_text().splitlines()
    assert after[:2] == before[:2]
    assert len(after) == 4


def test_name_with_spaces_and_chinese(gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """Folder names may contain spaces and other unusual characters."""
    data = Path(shutil.copytree(corpus, tmp_path / "我的 数据"))
    out = tmp_path / "my runs" / "第一 次"
    result = gatewise("train", "--data", data, "--out", out, *TINY_OPTIONS, "--set", "training.epochs=1")
    assert result.status == 0, result.err
    assert f"run folder: {out}" in result.out
    assert f"gatewise evaluate '{out}'" in (out / "README.md").read_text(encoding="utf-8")
    assert gatewise("evaluate", out).status == 0
    assert gatewise("generate", out, "--prompt", "the 狗").err == "not in the vocabulary, read as <unk>: '狗'\n"


def test_evaluate(gatewise: Gatewise, tiny_run: Path, corpus: Path) -> None:
    """The text output has perplexity, nll, tokens, unknown words and data of the test split, as in the run."""
    result = gatewise("evaluate", tiny_run)
    figures = json.loads((tiny_run / "metrics.jsonl").read_text().splitlines()[-1])
    data_hash = file_hash(corpus / "toy.test.txt")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"test perplexity {figures['test_perplexity']:.2f} (nll ")
    assert f"over {count_tokens(corpus / 'toy.test.txt') - 1:,} tokens" in result.out
    assert f"out of vocabulary 0.00%; data {data_hash[:12]}\n" in result.out


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluate_json(split: str, gatewise: Gatewise, tiny_run: Path, corpus: Path) -> None:
    """Prints one JSON object and nothing else; every token except the first is scored."""
    result = gatewise("evaluate", tiny_run, "--split", split, "--json")
    assert (result.status, result.err) == (0, "")
    assert len(result.out.splitlines()) == 1
    figures = json.loads(result.out)
    assert set(figures) == {"task", "split", "perplexity", "nll", "tokens", "oov_rate", "data_hash"}
    assert figures["task"] == "language-model"
    assert figures["split"] == split
    assert figures["tokens"] == count_tokens(corpus / f"toy.{split}.txt") - 1
    assert figures["oov_rate"] == 0
    assert figures["data_hash"] == file_hash(corpus / f"toy.{split}.txt")


def test_evaluate_other_data(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    """Data may be a folder with only the split, or one text file; both give the same metrics."""
    text = tmp_path / "other.test.txt"
    text.write_text("the dog ate the zebra\nthe dog\n")
    by_folder = json.loads(gatewise("evaluate", tiny_run, "--data", tmp_path, "--json").out)
    by_file = json.loads(gatewise("evaluate", tiny_run, "--data", text, "--json").out)
    assert by_folder == by_file
    assert by_file["tokens"] == 8
    assert by_file["oov_rate"] == pytest.approx(1 / 9)


def test_generate_with_a_seed(gatewise: Gatewise, tiny_run: Path) -> None:
    """Equal seeds give equal text, other seeds other text; the text starts with the prompt."""
    words = ["generate", str(tiny_run), "--prompt", "the company", "--max-tokens", "40", "--seed"]
    first, again, other = gatewise(*words, "1"), gatewise(*words, "1"), gatewise(*words, "2")
    assert (first.status, first.err) == (0, "")
    assert first.out.startswith("the company ")
    assert first.out == again.out
    assert first.out != other.out


def test_generate_greedily(gatewise: Gatewise, tiny_run: Path) -> None:
    """Temperature 0 and top_k 1 give the same text for any seed."""
    words = ["generate", str(tiny_run), "--prompt", "the company", "--max-tokens", "30"]
    texts = {gatewise(*words, "--temperature", "0", "--seed", seed).out for seed in "12"}
    assert len(texts) == 1
    assert gatewise(*words, "--top-k", "1", "--seed", "3").out in texts


def test_the_next_words_with_their_probabilities(gatewise: Gatewise, tiny_run: Path) -> None:
    lines = gatewise("generate", tiny_run, "--prompt", "the company", "--top", "3").out.splitlines()
    expected = gw.load(tiny_run).next_tokens("the company", 3)
    assert lines == [f"{100 * p:6.2f}%  {token}" for token, p in expected]
    gatewise("generate", tiny_run, "--top", "0").check_refused(2, "the number of next tokens is 0; expected 1 or more")


def test_generate_names_unknown_words(gatewise: Gatewise, tiny_run: Path) -> None:
    """Out-of-vocabulary words are listed on stderr, once each, and are not an error."""
    result = gatewise("generate", tiny_run, "--prompt", "the zebra ate zebra grass", "--max-tokens", "3")
    assert result.status == 0
    assert result.err == "not in the vocabulary, read as <unk>: 'zebra', 'grass'\n"
    assert result.out.startswith("the zebra ate zebra grass")


def test_recipes(gatewise: Gatewise) -> None:
    """Each built-in recipe has a line."""
    lines = gatewise("recipes").out.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_is_valid_toml(name: str, gatewise: Gatewise, tmp_path: Path) -> None:
    """The printed recipe can be loaded again, with the same meaning."""
    result = gatewise("recipes", name)
    assert (result.status, result.err) == (0, "")
    (tmp_path / "mine.toml").write_text(result.out)
    assert load_config(tmp_path / "mine.toml") == load_config(name)


def test_doctor(gatewise: Gatewise) -> None:
    """Versions and engines, and why one is unavailable."""
    result = gatewise("doctor")
    lines = {line[:17].strip(): line[17:].strip() for line in result.out.splitlines()}
    assert (result.status, result.err) == (0, "")
    assert lines["gatewise"] == __version__
    assert lines["torch"].startswith("2.")
    assert lines["engine torch"].startswith("available")
    assert lines["engine native"].startswith(("available", "not available: it was not built"))
    assert lines["engine reference"] == "available"
    high = ", high" if "native" in ENGINES else "; high is not available: it needs the native engine"
    assert high in lines["precisions"]
    assert lines["cache folder"] == os.environ["GATEWISE_CACHE"]


def test_version(gatewise: Gatewise) -> None:
    """The option --version works without a command."""
    result = gatewise("--version")
    assert (result.status, result.out, result.err) == (0, f"{__version__}\n", "")


def test_no_arguments(gatewise: Gatewise) -> None:
    """Without arguments, the help is printed."""
    result = gatewise()
    assert (result.status, result.err) == (0, "")
    assert result.out == gatewise("--help").out
    assert "Usage: gatewise" in result.out


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m gatewise`` in a separate process."""
    return subprocess.run([sys.executable, "-m", "gatewise", *arguments], capture_output=True, text=True, timeout=60)


def test_module_is_the_command() -> None:
    """python -m gatewise is the same command, with the same exit status."""
    result = start("recipes", "ptb-tiny")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("gatewise: unknown recipe 'ptb-tiny'")


def test_debug_prints_the_traceback() -> None:
    """With --debug, anywhere on the command line, the full traceback is shown, and the exit status is not 0."""
    result = start("recipes", "ptb-tiny", "--debug")
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "UsageError: unknown recipe 'ptb-tiny'" in result.stderr


def test_doctor_needs_no_installed_metadata(gatewise: Gatewise, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder of sources, put on Python's path, it works as well."""

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert gatewise("doctor").out.startswith(f"gatewise          {__version__}\n")
