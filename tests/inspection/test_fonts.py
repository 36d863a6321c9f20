"""Text in any script: drawn with an installed font that has it, escaped where none has, and never as mathematics."""

import warnings
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from gatewise.inspection import fonts
from gatewise.inspection.fonts import columns, families_for, family_of, short
from gatewise.inspection.style import make_figure, save_picture

NOWHERE = "\U0003fffd"
"""An unassigned character: no font has it."""


@pytest.fixture
def chinese_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a font with two Chinese characters, and one that cannot be read; return the name of the first."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (900, 700), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "block"])
    builder.setupCharacterMap({ord("登"): "block", ord("録"): "block"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "block": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "block": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two Characters", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "two.ttf")
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", list(manager.ttflist))
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    broken = font_manager.FontEntry(fname=str(tmp_path / "broken.ttf"), name="A Broken Sans")
    manager.ttflist.append(broken)
    manager.addfont(str(tmp_path / "two.ttf"))
    fonts._search.cache_clear()
    return "Two Characters"


def test_the_base_font_is_enough_for_most_texts() -> None:
    assert families_for(["gates of layer 2, …", "±τ⁻² ÷ ‖Ω‖", "ελληνικά русский"]) == ["DejaVu Sans"]


def test_a_character_that_no_font_has_is_escaped() -> None:
    assert family_of(NOWHERE) is None
    assert short(f"a{NOWHERE}b") == "a\\U0003fffdb"
    assert short("line\nend\x07 $5 \\ \ud800", 40) == "line\\nend\\x07 $5 \\ \\ud800"
    assert short("نمی‌خواهم") == "نمی‌خواهم"  # the joiner between its parts is kept


def test_an_installed_font_is_found(chinese_font: str) -> None:
    assert short("登録") == "登録"
    assert families_for(["a 登録"]) == ["DejaVu Sans", chinese_font]
    assert families_for(["a"]) == ["DejaVu Sans"]


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("", 5, ""),
        ("12345", 5, "12345"),
        ("123456", 5, "123…6"),
        (f"ab{NOWHERE}", 11, "ab…"),
        ("runs/a/b/c/d/e/f/g/seed-1", 12, "runs/a/…ed-1"),
        ("x" * 1_000_000, 3, "x…x"),
    ],
)
def test_long_text_keeps_both_ends(text: str, most: int, expected: str) -> None:
    assert short(text, most) == expected
    assert columns(short(text, most)) <= most


def test_wide_characters_take_two_columns(chinese_font: str) -> None:
    assert columns("登録") == 4
    assert short("登録登録登録", 8) == "登録…録"
    assert columns("e\u0301") == 1


def texts_of_every_kind(text: str, figure: Figure) -> None:
    figure.suptitle(short(text))
    axes = figure.subplots()
    axes.plot([1, 2], label=short(text))
    axes.set(xlabel=short(text), ylabel=short(text), title=short(text))
    axes.set_xticks([0, 1], [short(text), short(text)], rotation=90)
    axes.legend()


@pytest.mark.parametrize(
    "text", ["登録", f"登{NOWHERE}", "$5 and $6", "$a_1$", "$\\frac$", "\\", "100%_^{", "שלום", "สวัสดี"]
)
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_no_text_warns_or_breaks(
    text: str, ending: str, chinese_font: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        save_picture(texts_of_every_kind, text, tmp_path / f"a.{ending}")
    assert not caplog.records
    figure = make_figure(texts_of_every_kind, text)
    assert figure.get_suptitle() == short(text)
    assert not figure.axes[0].xaxis.label.get_parse_math()
    drawn_in = figure.axes[0].xaxis.label.get_fontfamily()
    assert drawn_in == (["DejaVu Sans", chinese_font] if "登" in text else ["DejaVu Sans"])
