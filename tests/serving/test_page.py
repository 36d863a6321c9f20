"""The page of ``gatewise serve`` in Chromium."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise import runtime
from tests.library.browser import Page, browser
from tests.library.builds import model_file, varied_language, varied_tagger
from tests.runtime.rig import LM, Case
from tests.serving.pages import (
    FILES,
    Cable,
    choose,
    chromium,
    controls_without_a_name,
    drawn_gates,
    open_page,
    press,
    type_into,
)
from tests.serving.rig import serve

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")
pytestmark = pytest.mark.slow
LARGEST = 60_000
SENT = {".html", ".js", ".css"}
FIELD = "#texts textarea"


def test_the_files_are_small_and_load_nothing_from_elsewhere() -> None:
    files = [file for file in FILES.iterdir() if file.suffix in SENT]
    assert len(files) > 5 and sum(file.stat().st_size for file in files) <= LARGEST
    index = (FILES / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in index and not re.search(
        r"<style|style=|\son\w+=|<script(?! type=module src=)", index
    )
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"https?://", text), file.name
        assert "innerHTML" not in text and "eval(" not in text.replace("wasm-unsafe-eval", ""), file.name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    chromium()
    large = Case(LM, {"hidden_size": 400, "num_layers": 2})
    return {
        "language": varied_language(folder / "language"),
        "large": model_file(folder, large),
        "characters": model_file(folder, "lm gru tied characters"),
        "tagger": varied_tagger(folder / "tagger"),
        "both": model_file(folder, "tagger both lstm crf"),
        "text": model_file(folder, "text last"),
        "rows": model_file(folder, "classifier last"),
        "forecast": model_file(folder, "regressor horizon"),
    }


@pytest.fixture(scope="module")
def page(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    named = [f"{name}={path}" for name, path in models.items()]
    with serve(*named) as (url, _), open_page(tmp_path_factory.mktemp("browser"), url) as page:
        page.value("globalThis.$ = (id) => document.getElementById(id)")
        yield page


def written(page: Page) -> str:
    text: str = page.value("gatewise.part.texts[0].tokens.map(({ text }) => text).join('')")
    return text


def write_on(page: Page, prompt: str, **options: Any) -> None:
    for name, value in options.items():
        page.value(f"$('{name}').value = {value}")
    type_into(page, FIELD, prompt)
    page.value("document.querySelector('#texts .primary').click()")
    page.wait("!gatewise.part.texts[0].running && gatewise.part.texts[0].tokens.length > 3")
    page.wait(f"gatewise.part.texts[0].tokens.length >= {options['max_tokens']}")
    page.wait("!gatewise.part.texts[0].running")


@pytest.mark.parametrize(("name", "prompt"), [("language", "the dog"), ("characters", "the b")])
def test_it_types_a_text_and_draws_the_gates_of_the_runtime(
    name: str, prompt: str, page: Page, models: dict[str, Path]
) -> None:
    choose(page, name)
    write_on(page, prompt, max_tokens=12, temperature=0.9, seed=7)
    lm = runtime.load(models[name])
    text = lm.generate(prompt, max_tokens=12, temperature=0.9, seed=7)
    assert written(page) == text
    ids = page.value("gatewise.part.texts[0].tokens.map(({ token }) => token)")
    traced = lm.trace([lm.vocabulary.eos_id, *ids])
    for layer in range(lm.num_layers):
        for gate, values in traced.items():
            expected = values[layer, 0, 1:, 0]
            found = drawn_gates(page, gate, layer)
            assert np.abs(found - (np.tanh(expected) if gate == "c" else expected)).max() <= 1 / 255
    probabilities = page.value("gatewise.part.texts[0].tokens.map(({ probability }) => probability)")
    nll = lm.score([lm.vocabulary.eos_id, *ids])[0]
    assert -np.log(probabilities).sum() == pytest.approx(nll, rel=1e-5)
    assert page.complaints == []


def test_it_writes_50_tokens_a_second_with_gates(page: Page) -> None:
    choose(page, "large")
    write_on(page, "the dog", max_tokens=300, temperature=1, seed=1)
    rate = page.value("gatewise.part.texts[0].rate")
    print(f"{rate:.0f} tokens a second")
    assert rate >= 50


def test_keys_select_a_span_and_its_units_are_those_that_are_on(page: Page, models: dict[str, Path]) -> None:
    choose(page, "language")
    write_on(page, "the dog ate it", max_tokens=40, temperature=1, seed=3)
    page.value("$('gate').value = 'o', $('gate').dispatchEvent(new Event('change'))")
    page.value("document.querySelector('.tokens').focus(), gatewise.view.point(-1)")
    for key, shift in (("Home", False), ("ArrowRight", False), ("ArrowRight", True), ("ArrowRight", True)):
        press(page, key, shift)
    assert page.value("gatewise.view.span") == [1, 3]
    assert page.value("document.querySelectorAll('.token[aria-selected=true]').length") == 3
    lm = runtime.load(models["language"])
    ids = page.value("gatewise.part.texts[0].tokens.map(({ token }) => token)")
    on = lm.trace([lm.vocabulary.eos_id, *ids])["o"][-1, 0, 1:, 0] >= 0.5
    units = np.flatnonzero(on[1:4].all(0))
    assert sorted(page.value("gatewise.view.units")) == units.tolist() and 0 < len(units) < on.shape[1]
    alike = np.flatnonzero(on[:, units].sum(1) >= 0.75 * len(units))
    expected = [t for t in alike.tolist() if not 1 <= t <= 3]
    assert [t for a, b in page.value("gatewise.view.places") for t in range(a, b + 1)] == expected
    press(page, "Escape")
    assert page.value("gatewise.view.span") is None


def test_it_goes_on_from_a_token_and_compares_two_texts(page: Page, models: dict[str, Path]) -> None:
    choose(page, "language")
    write_on(page, "the dog", max_tokens=10, temperature=0, seed=1)
    whole = written(page)
    page.value("gatewise.view.point(4), $('from-here-b').click()")
    page.wait("gatewise.part.texts[1]?.tokens.length === 15 && !gatewise.part.texts[1].running")
    second = page.value("gatewise.part.texts[1].tokens.map(({ text }) => text).join('')")
    assert second == runtime.load(models["language"]).generate("the dog", max_tokens=13, temperature=0.0)
    assert second.startswith(whole) and written(page) == whole
    page.value("$('record').value = 2, $('record').dispatchEvent(new Event('change'))")
    assert not np.any(drawn_minus(page)[:12])
    page.value("gatewise.view.point(2), gatewise.part.current = gatewise.part.texts[0], $('from-here').click()")
    page.wait("gatewise.part.texts[0].tokens.length === 13 && !gatewise.part.texts[0].running")
    assert written(page).startswith(whole)
    page.value("$('compare').click()")
    page.wait("gatewise.part.texts.length === 1")


def drawn_minus(page: Page) -> np.ndarray[Any, Any]:
    page.value("gatewise.view.draw()")
    levels = page.value("[...gatewise.view.drawn.levels]")
    found: np.ndarray[Any, Any] = np.array(levels).reshape(page.value("gatewise.view.drawn.columns"), -1) - 255
    return found


def test_taggers_classifiers_and_forecasters_say_what_the_runtime_says(page: Page, models: dict[str, Path]) -> None:
    for name in ("tagger", "both"):
        choose(page, name)
        type_into(page, "#tag-text", "the dog ate it\nread !")
        page.wait("gatewise.part.words.length === 6")
        tags = runtime.load(models[name]).tag([["the", "dog", "ate", "it"], ["read", "!"]])
        shown = page.value("[...document.querySelectorAll('.tag')].map((one) => one.textContent)")
        assert shown == [tag for one in tags for tag in one]
        assert page.value("$('gates').hidden") == (name == "both")
    choose(page, "text")
    type_into(page, "#class-text", "the dog ate it")
    page.wait("gatewise.part.steps === 4")
    expected = runtime.load(models["text"]).predict_proba_over_time("the dog ate it")
    found = page.value("gatewise.part.all.map((p) => Object.values(p))")
    assert np.abs(np.array(found) - expected).max() < 1e-6
    assert drawn_gates(page, "f", 0).shape == (4, 6)
    choose(page, "rows")
    page.value("$('shape').value = 8, $('shape').dispatchEvent(new Event('change'))")
    page.wait(
        "gatewise.part.rows?.length === 3 && gatewise.part.steps === 3 && gatewise.view.record.gates.length === 3"
    )
    rows = np.array(page.value("gatewise.part.rows"))
    (verdict,) = runtime.load(models["rows"]).classify([rows], over_time=True)
    found = page.value("gatewise.part.all.map((p) => Object.values(p))")
    assert np.abs(np.array(found) - verdict.probabilities).max() < 1e-5
    choose(page, "forecast")
    page.wait("gatewise.part.series")
    table = page.value("$('values').value").split("\n")
    values = [[float(one) if one else np.nan for one in line.split(", ")] for line in table[1:]]
    forecast = runtime.load(models["forecast"]).forecast(np.array(values), steps=12)
    numbers = page.value("[...$('forecasts').children].map((one) => Number(one.textContent))")
    assert numbers == pytest.approx(forecast, rel=1e-3)
    assert page.complaints == []


def test_a_drawing_is_centred_and_scaled_as_in_mnist(page: Page) -> None:
    strokes = "[[[2, 3], [2, 12], [9, 12]]]"
    picture = np.array(page.value(f"import('./parts.js').then(({{ picture }}) => picture({strokes}, 28))"))
    rows = np.flatnonzero((picture > 0.2).any(1))
    assert picture.shape == (28, 28) and picture.min() >= 0 and 0.95 < picture.max() <= 1.001
    assert 18 <= np.ptp(rows) + 1 <= 21
    middle = [(picture.sum(1 - axis) * (np.arange(28) + 0.5)).sum() / picture.sum() for axis in (0, 1)]
    assert np.abs(np.array(middle) - 14).max() < 0.1


def message(page: Page) -> str:
    """What the page says is wrong; empty where nothing is."""
    said: str = page.value("$('message').hidden ? '' : $('message').textContent")
    return said


def change(page: Page, field: str, value: str) -> None:
    page.value(f"$('{field}').value = {json.dumps(value)}, $('{field}').dispatchEvent(new Event('input'))")


def test_it_says_what_is_wrong_with_what_was_typed(page: Page) -> None:
    choose(page, "language")
    write_on(page, "the dog", max_tokens=5, temperature=0.85, seed=1)
    assert message(page) == ""
    page.value("$('max_tokens').value = 0, document.querySelector('#texts .primary').click()")
    page.wait("$('message').textContent.startsWith('max_tokens: ')")
    page.value("$('max_tokens').value = 5, document.querySelector('#texts button:nth-of-type(2)').click()")
    page.wait("$('message').hidden")
    for name, field in (("language", FIELD), ("tagger", "#tag-text"), ("text", "#class-text")):
        choose(page, name)
        type_into(page, field, "the dog " * 2501)
        page.wait("!$('message').hidden")
        assert message(page) == "The text has 20,008 characters; expected at most 20,000."
        type_into(page, field, "the")
        page.wait("$('message').hidden")
    choose(page, "forecast")
    columns = page.value("gatewise.part.model.columns")
    example = page.value("$('values').value").split("\n")
    for line, said in (
        (
            ",".join(["1"] * (len(columns) + 1)),
            f"Line 1 names no column “{columns[0]}”; expected {', '.join(columns)}.",
        ),
        (example[0] + "\n" + ", ".join(["1e400"] * len(columns)), "Line 2: “1e400” is not a number."),
    ):
        change(page, "values", "\n".join([line, *example[1:]]))
        page.wait(f"$('message').textContent === {json.dumps(said)}")
    change(page, "values", "\n".join(example))
    page.wait("$('message').hidden")


def test_it_reads_one_word_and_none(page: Page) -> None:
    choose(page, "text")
    type_into(page, "#class-text", "dog")
    page.wait("gatewise.part.steps === 1 && $('class-bars').children.length > 0")
    assert message(page) == ""
    choose(page, "tagger")
    type_into(page, "#tag-text", "dog")
    page.wait("$('tag-word').textContent.startsWith('dog')")
    change(page, "tag-text", "")
    page.wait("!$('tag-word').textContent && !$('tag-scores').children.length")
    choose(page, "rows")
    page.wait("$('said').textContent.match(/^Read as .*% after row 3 of 3$/)")
    page.value("$('pad-clear').click()")
    page.wait("!$('rows-verdict').textContent")
    assert page.value("$('shape').value") == "none" and page.value("$('said').textContent") != "Read as "
    assert page.complaints == []


def test_it_shows_the_end_of_a_text_while_it_is_written(page: Page) -> None:
    choose(page, "language")
    write_on(page, "the dog", max_tokens=400, temperature=1, seed=2)
    left = "((list) => list.scrollHeight - list.clientHeight - list.scrollTop)(gatewise.part.texts[0].list)"
    page.wait(f"{left} < 2")
    assert page.value("gatewise.part.texts[0].list.scrollTop") > 100


@pytest.mark.parametrize("name", ["language", "tagger", "text", "rows", "forecast"])
def test_every_control_has_a_name(name: str, page: Page) -> None:
    choose(page, name)
    if name == "language":
        write_on(page, "the dog", max_tokens=5, temperature=1, seed=1)
        page.value("gatewise.view.select(1, 2)")
    assert controls_without_a_name(page) == []


def test_it_is_light_and_dark_and_fits_a_telephone(page: Page) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.wait(f"document.documentElement.dataset.theme === '{scheme}'")
        grounds.append(page.value("getComputedStyle(document.documentElement).backgroundColor"))
    page.value("$('theme').value = 'light', $('theme').dispatchEvent(new Event('change'))")
    grounds.append(page.value("getComputedStyle(document.documentElement).backgroundColor"))
    assert grounds[0] == grounds[2] != grounds[1]
    page.ask("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    for name in ("language", "tagger", "text", "rows", "forecast"):
        choose(page, name)
        assert page.value("document.documentElement.scrollWidth") <= 360, name
    page.ask("Emulation.clearDeviceMetricsOverride")


def test_a_dropped_connection_loses_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    """It is cut while a text is read and while one is written; the text is then that of an undisturbed run."""
    prompt = "the dog ate it read book the " * 40
    lm = runtime.load(models["language"])
    expected = lm.generate(prompt.strip(), max_tokens=1500, temperature=1.0, seed=11)
    with serve(f"language={models['language']}") as (url, _):
        cable = Cable(int(url.rsplit(":", 1)[1]))
        with open_page(tmp_path, cable.address) as page:
            page.value("globalThis.$ = (id) => document.getElementById(id)")
            cable.plan([8_000, 40_000, 40_000])  # compressed; the first while the text is read
            write_on(page, prompt.strip(), max_tokens=1500, temperature=1, seed=11)
            page.wait("gatewise.part.texts[0].tokens.length === 1780 && !gatewise.part.texts[0].running")
            assert cable.made == 3
            assert written(page) == expected
            assert "nothing was lost, it went on after token" in page.value("$('connection').textContent")
            assert page.value("gatewise.part.texts[0].gates.length") == 1780
        cable.close()


def test_a_restarted_server_goes_on(models: dict[str, Path], tmp_path: Path) -> None:
    lm = runtime.load(models["large"])
    served = [f"language={models['large']}", "--state-dir", tmp_path / "states"]
    with serve(*served) as (url, first):
        port = int(url.rsplit(":", 1)[1])
        with open_page(tmp_path, url) as page:
            page.value("globalThis.$ = (id) => document.getElementById(id)")
            for name, value in {"max_tokens": 3000, "temperature": 1, "seed": 5}.items():
                page.value(f"$('{name}').value = {value}")
            type_into(page, FIELD, "the dog")
            page.value("document.querySelector('#texts .primary').click()")
            page.wait("gatewise.part.texts[0].tokens.length > 100")
            first.terminate()
            first.wait(30)
            assert page.value("gatewise.part.texts[0].tokens.length") < 3000
            time.sleep(1)
            with serve(*served, port=port):
                page.wait("!gatewise.part.texts[0].running")
                said = page.value("[$('connection').textContent, $('message').textContent]")
                assert page.value("gatewise.part.texts[0].tokens.length") == 3002, said
                expected = lm.generate("the dog", max_tokens=3000, temperature=1.0, seed=5)
                assert written(page) == expected


def test_a_model_chosen_while_the_server_is_gone_opens_when_it_is_back(models: dict[str, Path], tmp_path: Path) -> None:
    served = [f"{name}={models[name]}" for name in ("language", "tagger", "text")]
    with serve(*served) as (url, first):
        port = int(url.rsplit(":", 1)[1])
        with open_page(tmp_path, url) as page:
            page.value("globalThis.$ = (id) => document.getElementById(id)")
            first.terminate()
            first.wait(30)
            for name in ("tagger", "text"):
                page.value(f"$('model').value = '{name}', $('model').dispatchEvent(new Event('change'))")
                time.sleep(0.5)
            page.wait("$('connection').textContent.startsWith('Connection lost')")
            assert message(page) == "" and page.value("gatewise.model") is None
            with serve(*served, port=port):
                page.wait("gatewise.model?.id === 'text' && gatewise.part.steps > 0")
                assert message(page) == "" and page.value("$('connection').className") == "good"


def test_it_asks_for_a_key_and_talks_to_nobody_else(models: dict[str, Path], tmp_path: Path) -> None:
    key = "Schluessel+/~1"
    with (
        serve(f"language={models['language']}", key=key) as (url, _),
        browser(chromium(), tmp_path / "profile") as page,
    ):
        page.ask("Page.navigate", url=url)
        page.wait("document.getElementById('key-dialog')?.open")
        page.value("globalThis.$ = (id) => document.getElementById(id)")
        for typed in ("ключ", "wrong", key):
            type_into(page, "#key", typed)
            page.value("$('key-form').requestSubmit()")
            if typed == "ключ":  # no key has such letters
                assert page.value("$('key-dialog').open && $('key-wrong').hidden")
            if typed == "wrong":
                page.wait("$('key-dialog').open && !$('key-wrong').hidden")
        page.wait("gatewise.model")
        write_on(page, "the dog", max_tokens=8, temperature=0, seed=1)
        assert written(page) == runtime.load(models["language"]).generate("the dog", max_tokens=8, temperature=0.0)
        assert all(re.match(re.escape(url) + "/|data:", asked) for asked in page.requests), page.requests
        assert not [one for one in page.complaints if "401" not in one]
        refused = page.value("fetch('http://127.0.0.1:9/').then(() => 'went out', () => 'refused')")
        assert refused == "refused"
        until = time.monotonic() + 10
        while not any("Content Security Policy" in one for one in page.complaints) and time.monotonic() < until:
            page.value("0")
        assert any("Content Security Policy" in one for one in page.complaints)
