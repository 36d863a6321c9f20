"""Runs the README's marked commands and Python code, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, write_corpus

MARKED = re.compile(r"<!-- tested -->\n```(\w+)\n(.*?)```", re.DOTALL)


def blocks(name: str) -> list[tuple[str, str]]:
    return MARKED.findall((REPOSITORY / name).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_readme_does_what_it_says(tmp_path: Path) -> None:
    write_corpus(tmp_path / "mytext", repeats=80)
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    printed = []
    for language, text in blocks("README.md"):
        command = ["bash", "-e", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        printed.append(done.stdout + done.stderr)
    assert len(printed) == 5
    ours, unigram = (float(re.search(rf"{name} perplexity ([\d.]+)", printed[0])[1]) for name in ("test", "baseline:"))  # type: ignore[index]
    assert ours < unigram / 2
    assert "the value of" in printed[0]
    assert "this run is finished" in printed[0]
    assert "The/DET dog/NN ate/V the/DET book/NN" in printed[1]
    assert "test accuracy" in printed[1]
    assert "autoregression of order 9" in printed[1]
    assert "words/s" in printed[2]
    assert "torch.Size([2, 2, 7, 3, 20])" in printed[4]


def test_both_readmes_run_the_same_commands() -> None:
    english, chinese = blocks("README.md"), blocks("README.zh.md")
    without_comments = [[re.sub(r" +#.*", "", code) for _, code in part] for part in (english, chinese)]
    assert without_comments[0] == without_comments[1]


def test_the_python_of_the_docs_runs() -> None:
    english, chinese = blocks("docs/from-scratch.md"), blocks("docs/from-scratch.zh.md")
    assert english == chinese
    ((language, text),) = english
    assert language == "python"
    exec(compile(text, "docs/from-scratch.md", "exec"), {})


def test_the_page_on_interchange_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    english, chinese = blocks("docs/interchange.md"), blocks("docs/interchange.zh.md")
    without_comments = [[re.sub(r" +#.*", "", code) for _, code in part] for part in (english, chinese)]
    assert without_comments[0] == without_comments[1]
    monkeypatch.chdir(tmp_path)
    for _, text in english:
        exec(compile(text, "docs/interchange.md", "exec"), {})
    assert Path("lstm.safetensors").is_file()


@pytest.mark.slow
def test_the_page_on_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    english, chinese = blocks("docs/python.md"), blocks("docs/python.zh.md")
    without_comments = [[re.sub(r" +#.*", "", code) for _, code in part] for part in (english, chinese)]
    assert without_comments[0] == without_comments[1]
    monkeypatch.chdir(tmp_path)
    for language, text in english:
        assert language == "python"
        exec(compile(text, "docs/python.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "1.0\n['5']\n1.0\n" in printed
    assert "[['DET', 'NOUN']]" in printed
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def run_page(name: str, folder: Path) -> str:
    """Run the marked blocks of a page in a folder; return what they print."""
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    printed = ""
    for language, text in blocks(name):
        command = ["bash", "-e", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        printed += done.stdout
    return printed


@pytest.mark.slow
def test_the_page_on_shipping_runs(tmp_path: Path) -> None:
    english, chinese = blocks("docs/runtime.md"), blocks("docs/runtime.zh.md")
    without_comments = [[re.sub(r" +#.*", "", code) for _, code in part] for part in (english, chinese)]
    assert without_comments[0] == without_comments[1]
    printed = run_page("docs/runtime.md", tmp_path)
    assert "largest difference of outputs: " in printed
    assert re.search(r"^the value of .+\n(.*\n)*\d+\.\d+\n\[\('", printed, re.M)


@pytest.mark.slow
def test_the_page_on_scoring_runs(tmp_path: Path) -> None:
    assert blocks("docs/scoring.md") == blocks("docs/scoring.zh.md")
    printed = run_page("docs/scoring.md", tmp_path)
    assert "scored 80 rows in 1 fragment: scores\nscored 0 rows in 0 fragments, 1 kept from before: scores\n" in printed
    assert re.search(r"\[{'id': 7, 'label': '5', 'probability': 0\.\d+}, {'id': 8, 'label': None, ", printed)


@pytest.mark.parametrize(
    "name", ["README", *(f"docs/{name}" for name in ("results", "training", "python", "scoring", "runtime", "serving"))]
)
def test_both_languages_have_the_same_figures_and_commands(name: str) -> None:
    pages = [(REPOSITORY / f"{name}{suffix}.md").read_text(encoding="utf-8") for suffix in ("", ".zh")]
    for pattern in (r"(?<![\w.])\d+\.\d+%?", r"^```sh\n(.*?)^```", r"^(#+) ", r"`--?[\w-]+[^`]*`"):
        found = [
            [re.sub(r"(?m)(^| +)# .*", "", item) for item in re.findall(pattern, page, re.M | re.S)] for page in pages
        ]
        numbers = [sorted(item for item in items if item not in ("4.65", "19.78", "66.03", "2.6")) for items in found]
        assert numbers[0] == numbers[1], pattern  # parameters are counted in millions and in units of ten thousand


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 180


PAGES = [
    "README",
    *(
        f"docs/{name}"
        for name in ("from-scratch", "index", "results", "training", "python", "runtime", "scoring", "serving")
    ),
]
PAGES += ["docs/reference/nn", "docs/reference/sklearn", "docs/reference/client"]
DOCUMENTS = ["ARCHITECTURE.md", "CONTRIBUTING.md", *(f"{page}{suffix}.md" for page in PAGES for suffix in ("", ".zh"))]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_into_the_repository_lead_somewhere(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert ((REPOSITORY / name).parent / target).exists(), target
