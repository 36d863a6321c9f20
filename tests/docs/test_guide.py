"""The guide is the same in both languages, quotes the reference verbatim, and shows the results' numbers."""

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.test_derivations import FENCE, INLINE, REFERENCE, fences, prose, stripped

DOCS = REPOSITORY / "docs"
PAGES = ["index", *sorted(f"guide/{file.stem}" for file in DOCS.glob("guide/*.md") if ".zh" not in file.name)]
ALL = [f"{page}{suffix}.md" for page in PAGES for suffix in ("", ".zh")]
PLACE = re.compile(r"[\d.,]+%?<!-- \S+ \S+ \S+ -->")
FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def without_remarks(code: str) -> str:
    return re.sub(r"\s+#[^(].*|\s+# [^(].*", "", code)


def test_there_are_nine_chapters_and_five_pages_on_own_data_and_each_stands_in_the_navigation() -> None:
    assert len(PAGES) == 1 + 9 + 5
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"- {page}.md\n" in navigation


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_have_the_same_code_formulas_numbers_and_pictures(page: str) -> None:
    english, chinese = read(f"{page}.md"), read(f"{page}.zh.md")
    code = [[(kind, without_remarks(body)) for kind, body in FENCED.findall(text)] for text in (english, chinese)]
    assert code[0] == code[1]
    for pattern in (PLACE.pattern, r"!\[[^\]]*\]\(([^)]*)\)", r"arxiv\.org/abs/[\d.]+"):
        assert re.findall(pattern, english) == re.findall(pattern, chinese)
    assert set(INLINE.findall(prose(english))) == set(INLINE.findall(prose(chinese)))
    outline = [re.findall(r"^(#+) ", FENCED.sub("", text), re.MULTILINE) for text in (english, chinese)]
    assert outline[0] == outline[1]
    rows = [len(re.findall(r"^\|", text, re.MULTILINE)) for text in (english, chinese)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", ALL)
def test_python_that_is_not_run_is_quoted_from_the_reference_line_by_line(name: str) -> None:
    sources = [stripped(file.read_text(encoding="utf-8")) for file in sorted(REFERENCE.glob("*.py"))]
    for quote in fences(read(name), "python"):
        assert any(all(stripped(line) in source for line in quote.splitlines()) for source in sources), quote


@pytest.mark.parametrize("name", [name for name in ALL if "2-lstm" in name])
def test_the_four_steps_quote_every_forward_line_of_the_lstm(name: str) -> None:
    forward = (REFERENCE / "lstm.py").read_text(encoding="utf-8").split("def backward")[0]
    quoted = [line for quote in fences(read(name), "python") for line in quote.splitlines()]
    numbered = [line.strip() for line in forward.splitlines() if re.search(r"# \(\d\)$", line)]
    assert len(numbered) == 8
    assert sorted(quoted) == sorted(numbered)


@pytest.mark.parametrize("name", ALL)
def test_no_measured_number_is_typed_by_hand(name: str) -> None:
    """Perplexities, accuracies and errors with decimals name their source file; exact or defined values need none."""
    allowed = {"0.167", "0.41", "0.5", "0.9", "0.99", "3.10"}
    text = re.sub(PLACE.pattern + r"|arxiv\S+|arXiv [\d.]+", "", prose(FENCED.sub("", read(name))))
    assert set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", text)) <= allowed


@pytest.mark.parametrize("name", ALL)
def test_numbers_and_pictures_in_the_repository_are_those_of_the_files(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed page shows these numbers; numbers of the guide's own runs are updated by the build."""
    monkeypatch.syspath_prepend(DOCS)
    from making import numbers

    folders = numbers.Folders(REPOSITORY / "benchmarks" / "results", Path("no", "work"), DOCS)
    text = read(name)
    assert "{{" not in text
    for shown, _, file, key, form in numbers.PLACE.findall(text):
        if not file.startswith("runs/"):
            assert shown == numbers.value(folders, file, key, form), (file, key)
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text):
        assert (DOCS / name).parent.joinpath(picture).is_file(), picture


@pytest.mark.parametrize("name", [name for name in ALL if ".zh" not in name])
def test_what_a_command_printed_stands_below_it_as_the_build_would_put_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each output belongs to the block above it: it can be removed and restored."""
    monkeypatch.syspath_prepend(DOCS)
    from making import commands, pages

    text = read(name)
    outputs = {}
    for found in commands.RUN.finditer(text):
        block = commands.Block(*found.groups())
        outputs[block.key] = "".join(re.findall(r"^```text output\n(.*?)^```$", found[0], re.DOTALL | re.MULTILINE))
    assert pages.show_outputs(text, outputs, name, keep=True) == text
    assert text.count("```text output") == sum(bool(printed) for printed in outputs.values())


@pytest.mark.parametrize("name", ALL)
def test_chapters_link_to_their_own_language(name: str) -> None:
    text = re.sub(r"\[(?:中文|English)\]\([^)]*\)", "", FENCE.sub("", read(name)))
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+\.md)", text):
        assert (DOCS / name).parent.joinpath(target).exists(), target
        if "benchmarks" not in target:
            assert target.endswith(".zh.md") == name.endswith(".zh.md"), target
