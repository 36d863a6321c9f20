"""The documentation build: commands run once and in order; a missing number or link stops the build."""

import json
import pkgutil
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def _beside_the_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """MkDocs adds the folder of a hook to the path while loading it."""
    monkeypatch.syspath_prepend(REPOSITORY / "docs")


PAGE = """# One

```sh run
echo first >> log.txt
cat log.txt
```

```python run
print(open("log.txt").read().strip(), "and second")  # a remark
```
"""


def test_commands_run_in_order_in_one_folder_and_again_only_when_something_changed(tmp_path: Path) -> None:
    from making import commands

    source, work = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    (source / "code.py").write_text("a = 1\n")
    sh, python = commands.blocks(PAGE)
    outputs = commands.run_all([PAGE], work, source)
    assert outputs == {sh.key: "first\n", python.key: "first and second\n"}
    (work / "mark").touch()
    assert commands.run_all([PAGE], work, source) == outputs
    assert (work / "mark").exists()
    assert commands.run_all([PAGE, PAGE.replace("first", "third")], work, source) != outputs
    assert not (work / "mark").exists()
    assert commands.run_all([PAGE], work, source) == outputs
    (work / "mark").touch()
    (source / "code.py").write_text("a = 2\n")
    assert commands.run_all([PAGE], work, source) == outputs
    assert not (work / "mark").exists()


def test_blocks_that_name_the_same_run_are_run_in_order_and_two_others_at_once(tmp_path: Path) -> None:
    from making import commands

    wait_for = "for k in $(seq 300); do test -e {0} && exit; sleep 0.1; done; false"
    page = (
        f"```sh run\ntouch a; {wait_for.format('b')} # runs/one\n```\n"
        "```sh run\ntouch runs-one; echo runs/one; ls\n```\n"
        f"```sh run\ntouch b; {wait_for.format('a')}\n```\n"
    )
    first, second, third = commands.blocks(page)
    assert (second.awaits(first), third.awaits(first), third.awaits(second)) == (True, False, False)
    outputs = commands.run_all([page], tmp_path / "work", tmp_path)
    assert outputs == {first.key: "", second.key: "runs/one\na\nb\nfigures\nruns-one\n", third.key: ""}


def test_a_command_that_fails_stops_the_build_and_is_not_remembered(tmp_path: Path) -> None:
    from making import commands
    from mkdocs.exceptions import PluginError

    bad = "```sh run\necho oh >&2\nfalse\necho on\n```\n"
    for _ in range(2):
        with pytest.raises(PluginError, match=r"status 1:\necho oh(.|\n)*\noh\n"):
            commands.run_all([bad], tmp_path / "work", tmp_path)


def test_what_a_command_printed_stands_below_it_whatever_the_language_of_its_remarks() -> None:
    from making import commands, pages
    from mkdocs.exceptions import PluginError

    outputs = {block.key: f"printed {number}\n" for number, block in enumerate(commands.blocks(PAGE))}
    shown = pages.show_outputs(PAGE.replace("a remark", "一条注释"), outputs, "one.zh.md")
    assert "```sh\necho first >> log.txt\ncat log.txt\n```\n\n```{.text .output}\nprinted 0\n```\n" in shown
    assert "# 一条注释\n```\n\n```{.text .output}\nprinted 1\n```\n" in shown
    kept = pages.show_outputs(PAGE, outputs, "one.md", keep=True)
    assert "cat log.txt\n```\n\n```text output\nprinted 0\n```\n" in kept
    assert commands.blocks(kept) == commands.blocks(PAGE)
    again = {block.key: "newer\n" for block in commands.blocks(kept)}
    assert "printed" not in pages.show_outputs(kept, again, "one.md")
    with pytest.raises(PluginError, match=r"one\.zh\.md: the English guide does not run this block:\ncat"):
        pages.show_outputs("```sh run\ncat other.txt\n```\n", outputs, "one.zh.md")


@pytest.fixture
def folders(tmp_path: Path):  # type: ignore[no-untyped-def]
    from making import numbers

    found = numbers.Folders(tmp_path / "results", tmp_path / "work", tmp_path / "docs")
    (found.work / "runs" / "toy").mkdir(parents=True)
    found.results.mkdir()
    (found.docs / "figures").mkdir(parents=True)
    (found.results / "bench.json").write_text(json.dumps({"rows": [{"ratio": 1.25}, {"ratio": 0.5}], "name": "x"}))
    (found.work / "runs" / "toy" / "metrics.jsonl").write_text('{"epoch": 1}\n{"test_accuracy": 0.98765}\n')
    (found.docs / "figures" / "mnist.json").write_text('{"images": 60000}')
    return found


def test_numbers_come_from_the_three_places(folders) -> None:  # type: ignore[no-untyped-def]
    from making import numbers

    page = (
        "7<!-- bench.json rows.1.ratio .2f --> | 12.3%<!-- runs/toy/metrics.jsonl -1.test_accuracy .1% --> | "
        "1,000<!-- figures/mnist.json images ,d -->"
    )
    assert numbers.fill(page, folders) == "0.50 | 98.8% | 60,000"
    kept = numbers.fill(page, folders, keep=True)
    assert kept.startswith("0.50<!-- bench.json rows.1.ratio .2f --> | 98.8%<!-- ")
    assert numbers.fill(kept, folders) == "0.50 | 98.8% | 60,000"


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("absent.json a d", r"no file .*absent\.json; run the command"),
        ("bench.json rows.0.speed .2f", r"has no 'speed'; it has \['ratio'\]"),
        ("bench.json rows.2.ratio .2f", r"has no '2'; it has 2 entries"),
        ("bench.json rows.first.ratio .2f", r"has no 'first'; it has 2 entries"),
        ("bench.json name .2f", r"'x' cannot be written as \.2f"),
    ],
)
def test_a_number_that_is_missing_stops_the_build(folders, place: str, complaint: str) -> None:  # type: ignore[no-untyped-def]
    from making import numbers
    from mkdocs.exceptions import PluginError

    with pytest.raises(PluginError, match=complaint):
        numbers.fill(f"text 0<!-- {place} --> text", folders)


def test_links_out_of_the_docs_lead_to_pages_that_show_the_file() -> None:
    from making import pages
    from mkdocs.exceptions import PluginError

    sources: set[str] = set()
    code = "[code](../../src/gatewise/reference/lstm.py) [all](../../src/gatewise/data/)"
    page = f"[中文](lstm.zh.md) · [RNN](rnn.md) {code}"
    found = pages.relink(page, "docs/derivations/lstm.md", sources, REPOSITORY)
    assert found == (
        "[RNN](rnn.md) [code](../source/src-gatewise-reference-lstm-py.md) [all](../source/src-gatewise-data.md)"
    )
    assert {"src/gatewise/reference/lstm.py", "src/gatewise/data", "src/gatewise/data/text.py"} <= sources
    assert pages.relink("[甲](rnn.zh.md#x)", "docs/derivations/lstm.zh.md", sources, REPOSITORY) == "[甲](rnn.md#x)"
    with pytest.raises(PluginError, match=r"the link to \.\./nowhere\.py leads nowhere"):
        pages.relink("[a](../nowhere.py)", "docs/index.md", sources, REPOSITORY)


def test_a_committed_picture_needs_its_command_data_hash_and_date(tmp_path: Path) -> None:
    from making import pages
    from mkdocs.exceptions import PluginError

    picture = tmp_path / "mnist.png"
    with pytest.raises(PluginError, match=r"has no mnist\.json beside it"):
        pages.check_sidecar(picture)
    picture.with_suffix(".json").write_text('{"command": "gatewise", "date": "2026-11-21"}')
    with pytest.raises(PluginError, match="lacks data_hash"):
        pages.check_sidecar(picture)
    picture.with_suffix(".json").write_text('{"command": "gatewise", "date": "2026-11-21", "data_hash": "ab"}')
    pages.check_sidecar(picture)


def test_formulas_become_mathml_and_a_wrong_one_stops_the_build() -> None:
    from making.formulas import typeset
    from mkdocs.exceptions import PluginError

    inline, block = (
        '<span class="arithmatex">\\(c\'\\thinspace &lt; 1\\)</span>',
        '<div class="arithmatex">\\[\nx^2\n\\]</div>',
    )
    found = typeset(f"<p>a {inline} b</p>{block}<p>c</p>")
    assert found.startswith('<p>a <math display="inline"')
    assert "<mrow><mi>c</mi><mo>′</mo></mrow>" in found
    assert "<mo>&lt;</mo>" in found
    assert '</p><math display="block"' in found
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in found
    assert found.endswith("</math><p>c</p>")
    with pytest.raises(PluginError, match="cannot be typeset"):
        typeset(r'<span class="arithmatex">\(\nothing{x}\)</span>')


def test_only_files_that_differ_are_written_and_others_go(tmp_path: Path) -> None:
    from making import pages

    pages.write(tmp_path, {"a/b.md": b"one", "c.md": b"two"})
    before = (tmp_path / "a" / "b.md").stat().st_mtime_ns
    pages.write(tmp_path, {"a/b.md": b"one", "d.md": b"three"})
    assert (tmp_path / "a" / "b.md").stat().st_mtime_ns == before
    assert sorted(file.name for file in tmp_path.rglob("*.md")) == ["b.md", "d.md"]


def test_the_page_of_settings_describes_every_key() -> None:
    from making.settings import settings_page

    from gatewise.config.schema import Config

    page = settings_page()
    keys = [f"{section}.{key}" for section, part in Config() for key in type(part).model_fields]
    parts = dict(zip(keys, page.split("\n### ")[1:], strict=True))
    for key, text in parts.items():
        heading, facts, words = text.split("\n\n")[:3]
        assert heading == f"`{key}`"
        assert "default `" in facts
        assert len(words) > 10, key
    assert "read by: tagger" in parts["model.output"]
    assert 'one of `"softmax"`, `"crf"`; default `"softmax"`' in parts["model.output"]
    assert "``" not in page


@pytest.mark.parametrize("name", ["gatewise", "nn", "numpy"])
def test_the_reference_names_what_there_is_in_both_languages(name: str) -> None:
    pages = [(REPOSITORY / "docs" / "reference" / f"{name}{suffix}.md").read_text() for suffix in ("", ".zh")]
    found = [re.findall(r"^::: (\S+)$", page, re.MULTILINE) for page in pages]
    assert found[0]
    assert found[0] == found[1]
    for target in found[0]:
        pkgutil.resolve_name(target)
