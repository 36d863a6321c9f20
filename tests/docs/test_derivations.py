"""The derivations match the reference: their code is its code, and both languages have the same formulas."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PAGES = REPOSITORY / "docs" / "derivations"
REFERENCE = REPOSITORY / "src" / "gatewise" / "reference"
CELLS = ("rnn", "gru", "lstm")
NAMES = ("README", *CELLS)
ALL = [name for page in NAMES for name in (f"{page}.md", f"{page}.zh.md")]

FENCE = re.compile(r"^```(\w+)\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"\$([^$\n]+)\$")
STEP = re.compile(r"  # \((\d)\)")


def read(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def fences(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def prose(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "``", FENCE.sub("", text))


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield each heading and the text below it."""
    parts = re.split(r"^##+ (.*)$", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def quotes(text: str) -> list[str]:
    """Return the quoted pieces of the reference, without the program that is marked as tested."""
    return fences(re.sub(r"<!-- tested -->\n```python\n.*?\n```", "", text, flags=re.DOTALL), "python")


def stripped(text: str) -> str:
    return "\n" + "\n".join(line.strip() for line in text.splitlines()) + "\n"


def numbered_lines(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if STEP.search(line)]


@pytest.mark.parametrize("name", ALL)
def test_quoted_code_stands_in_the_reference_whole_lines_with_their_numbers(name: str) -> None:
    cell = name.split(".")[0]
    files = [REFERENCE / f"{cell}.py"] if cell in CELLS else sorted(REFERENCE.glob("*.py"))
    sources = [stripped(file.read_text(encoding="utf-8")) for file in files]
    found = quotes(read(name))
    assert found
    for quote in found:
        assert any(stripped(quote) in source for source in sources), quote


@pytest.mark.parametrize("suffix", ["", ".zh"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_numbered_line_of_a_cell_is_quoted_under_its_number(cell: str, suffix: str) -> None:
    text = read(f"{cell}{suffix}.md")
    shown = [line.strip() for quote in quotes(text) for line in quote.splitlines()]
    for line in numbered_lines(REFERENCE / f"{cell}.py"):
        assert line in shown, line
    for heading, body in sections(text):
        if own := re.match(r"\((\d)\) \w+ = ", heading):
            numbers = [step for quote in quotes(body) for step in STEP.findall(quote)]
            assert numbers, heading
            assert set(numbers) == {own[1]}, heading


@pytest.mark.parametrize("suffix", ["", ".zh"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_step_of_the_docstring_is_an_equation_and_a_section_back(cell: str, suffix: str) -> None:
    docstring = (REFERENCE / f"{cell}.py").read_text(encoding="utf-8").split('"""')[1]
    steps = re.findall(r"^    \((\d)\) (\w+) = ", docstring, re.MULTILINE)
    assert len(steps) >= 2
    text = read(f"{cell}{suffix}.md")
    forward = [block for block in fences(text, "math") if r"(1)\quad" in block]
    assert len(forward) == 1
    assert re.findall(r"^\((\d)\)\\quad & (\w+) = ", forward[0], re.MULTILINE) == steps
    backward = [found.groups() for heading, _ in sections(text) if (found := re.match(r"\((\d)\) (\w+) = ", heading))]
    assert backward == steps[::-1]


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_formulas_and_the_same_code(name: str) -> None:
    english, chinese = read(f"{name}.md"), read(f"{name}.zh.md")
    assert fences(english, "math")
    assert fences(english, "math") == fences(chinese, "math")
    assert fences(english, "python") == fences(chinese, "python")
    assert set(INLINE.findall(prose(english))) == set(INLINE.findall(prose(chinese)))
    outline = [re.findall(r"^(##+) ", FENCE.sub("", page), re.MULTILINE) for page in (english, chinese)]
    assert outline[0] == outline[1]


@pytest.mark.parametrize("name", ALL)
def test_formulas_survive_the_markdown_around_them(name: str) -> None:
    """GitHub parses inline formulas as Markdown first, and recognises a dollar sign only after a space."""
    text = prose(read(name))
    assert "$" not in INLINE.sub("", text)
    for found in INLINE.finditer(text):
        formula, before, after = found[1], text[found.start() - 1], text[found.end() : found.end() + 1]
        assert before in " \n(", found[0]
        assert after in " \n.,;:)，。；：、）（", found[0]
        assert formula == formula.strip()
        assert not re.search(r"\\[^A-Za-z]|[*<>]|(?<![A-Za-z])_", formula), formula


@pytest.mark.parametrize("name", ALL)
def test_links_lead_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]+)(?:#([^)]+))?\)", read(name)):
        assert (PAGES / target).exists(), target
        headings = [heading.lower().replace(" ", "-") for heading, _ in sections(read(target))] if anchor else [anchor]
        assert anchor in headings, anchor


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_program_runs(name: str) -> None:
    (program,) = re.findall(r"<!-- tested -->\n```python\n(.*?)```", read(name), re.DOTALL)
    exec(compile(program, name, "exec"), {})
