"""The library as WebAssembly, its module of JavaScript in Node, and the page in a browser."""

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise import runtime
from gatewise.runtime.sampling import Sampler
from tests.conftest import REPOSITORY
from tests.library.builds import WEIGHTS, model_file, run, tool, varied_language, varied_tagger
from tests.runtime.rig import CASES, LANGUAGE, LM, STREAMED, Case, inputs_of
from tests.serving.pages import FILES, choose, drawn_gates, open_page, type_into

pytestmark = pytest.mark.slow
WEB = REPOSITORY / "examples" / "web"
LARGEST, SLOWEST, CLOSE = 150_000, 0.3, 1e-5
"""Bytes of the module, compressed; its speed as a part of the native library's; logits, relative to the largest."""


@pytest.fixture(scope="module")
def wasm() -> Path:
    if not (REPOSITORY / "build" / "zig" / ".made").exists():
        pytest.skip("the module was not built: make wasm")
    run(tool("make"), "wasm", cwd=REPOSITORY)
    return WEB / "gatewise.wasm"


def asked(wasm: Path, *questions: tuple[Path | None, str, Any]) -> list[dict[str, Any]]:
    """The answers of the module in Node to (model, question, arguments) of node.mjs."""
    rows = [{"path": str(path), "ask": ask, "args": args} for path, ask, args in questions]
    program = Path(__file__).with_name("node.mjs")
    found = run(tool("node"), program, input=json.dumps({"wasm": str(wasm), "questions": rows}))
    answers: list[dict[str, Any]] = json.loads(found)
    return answers


def value(wasm: Path, path: Path | None, ask: str, *args: Any) -> Any:
    (answer,) = asked(wasm, (path, ask, args))
    assert "value" in answer, answer
    return answer["value"]


def close(found: Any, expected: Any) -> None:
    assert np.shape(found) == np.shape(expected)
    assert np.abs(np.array(found) - expected).max() <= CLOSE * np.abs(expected).max()


def as_json(inputs: Any) -> Any:
    return inputs.tolist() if isinstance(inputs, np.ndarray) else inputs


def test_the_module_is_small(wasm: Path) -> None:
    assert len(gzip.compress(wasm.read_bytes(), 9)) <= LARGEST


def test_the_module_does_what_the_library_does_with_every_model(wasm: Path, tmp_path: Path) -> None:
    """Whole sequences, of which the second is shorter, in the weights of each kind in turn."""
    questions, expected = list[tuple[Path, str, Any]](), list[Any]()
    for k, (name, case) in enumerate(CASES.items()):
        model = model_file(tmp_path, name, WEIGHTS[k % 3])
        loaded = runtime.load(model)
        sequences = [inputs_of(case, steps, seed=steps) for steps in (5, 4)]
        tagger = case.task == "tagger"
        rows = [
            loaded._native.run(np.array([len(one)]), loaded._inputs(one), None, tagger) for one in sequences
        ]  # fmt: skip
        questions.append((model, "run", [[as_json(one) for one in sequences], tagger]))
        expected.append(rows if tagger else [row[0] for row in rows])
        if tagger:
            questions.append((model, "tag", [sequences]))
            expected.append(loaded.tag(sequences))
            questions.append((model, "tagProbabilities", [sequences]))
            expected.append(loaded.tag_probabilities(sequences))
    for answer, wanted in zip(asked(wasm, *questions), expected, strict=True):
        for found, row in zip(answer["value"], wanted, strict=True):
            if isinstance(row, list):
                assert found == row
            else:
                close(found, row)


@pytest.mark.parametrize("name", ["lm lstm", "lm gru tied characters", "tagger", "classifier mean", "regressor"])
def test_steps_states_and_traces(name: str, wasm: Path, tmp_path: Path) -> None:
    assert name in STREAMED
    model, inputs = model_file(tmp_path, name, "int8"), inputs_of(CASES[name], 4)
    loaded = runtime.load(model)
    state = loaded.initial_state()
    for k, found in enumerate(value(wasm, model, "step", as_json(inputs))):
        traced = loaded.trace(inputs[k : k + 1], state.copy())["h"]
        close(found["h"], traced[:, 0, 0, 0])
        expected = loaded.step(inputs[k : k + 1], [state])
        close(found["found"], np.repeat(expected, 2, 0))
        assert found["found"][0] == found["found"][1] == found["alone"] == found["outputs"]
        assert found["kept"] == found["found"]
        assert found["saved"] == len(state.save())


@pytest.mark.parametrize("name", LANGUAGE)
def test_text_is_read_generated_and_scored_as_in_python(name: str, wasm: Path, tmp_path: Path) -> None:
    model = model_file(tmp_path, name)
    loaded, options = runtime.load(model), {"temperature": 0.9, "seed": 2**40 + 7}
    described, ids, greedy, drawn, nucleus, (nll,) = (
        answer["value"] for answer in asked(
            wasm,
            (model, "info", []),
            (model, "encode", ["the dog xyzzy\nate"]),
            (model, "generate", ["the dog", {"maxTokens": 20, "temperature": 0}]),
            (model, "generate", ["the dog", {"maxTokens": 20, **options}]),
            (model, "generate", ["the dog", {"maxTokens": 20, **options, "topK": 6, "topP": 0.8}]),
            (model, "score", [[[1, 2, 3, 4]]]),
        )
    )  # fmt: skip
    assert described["tokens_listed"] == list(loaded.vocabulary.tokens) and described["task"] == "language-model"
    assert described["cell"] == described["cell_described"]
    if CASES[name].level != "prose":
        assert ids == [i for line in ("the dog xyzzy", "ate") for i in loaded.vocabulary.sequences(line)[0][1:]][:-1]
        text = [
            loaded.generate("the dog", max_tokens=20, temperature=0.0),
            loaded.generate("the dog", max_tokens=20, **options),
            loaded.generate("the dog", max_tokens=20, **options, top_k=6, top_p=0.8),
        ]
        assert ["the dog" + one for one in (greedy, drawn, nucleus)] == text
    assert nll == pytest.approx(loaded.score([1, 2, 3, 4])[0], rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.3, "top_k": 5},
        {"temperature": 2.0, "top_p": 0.7},
        {"top_k": 9, "top_p": 0.5},
    ],
)
def test_the_module_draws_what_python_draws(options: dict[str, Any], wasm: Path) -> None:
    logits = np.random.default_rng(1).normal(0, 2, (200, 50)).astype(np.float32)
    ours = Sampler(**options, seed=2**33 + 5)
    theirs = {"temperature": 1, "seed": 2**33 + 5, "topK": None, "topP": None}
    theirs |= {{"top_k": "topK", "top_p": "topP"}.get(key, key): setting for key, setting in options.items()}
    assert value(wasm, None, "draw", theirs, logits.tolist()) == [ours.draw(row) for row in logits]


def test_the_module_is_fast(wasm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, since the instruction set is chosen once."""
    model = model_file(tmp_path, Case(LM, {"hidden_size": 200, "num_layers": 2}))
    timed = (
        "import sys, time\nfrom gatewise import runtime\n"
        "m, best = runtime.load(sys.argv[1]), 9\ns = m.initial_state()\n"
        "for _ in range(5):\n    began = time.perf_counter()\n    for k in range(500): m.step([k % 10], [s])\n"
        "    best = min(best, (time.perf_counter() - began) / 500)\nprint(best)"
    )
    monkeypatch.setenv("GATEWISE_INSTRUCTIONS", "portable")
    native, module = float(run(sys.executable, "-c", timed, model)), value(wasm, model, "speed", 500)
    print(f"native, portable: {1e6 * native:.1f} us a step; WebAssembly: {1e6 * module:.1f}")
    assert native / module >= SLOWEST


def test_what_the_module_refuses(wasm: Path, tmp_path: Path) -> None:
    model, both = model_file(tmp_path, "lm lstm"), model_file(tmp_path, "tagger both lstm crf")
    damaged = tmp_path / "damaged.gatewise"
    damaged.write_bytes(model.read_bytes()[:-1])
    answers = asked(
        wasm,
        (damaged, "info", []),
        (both, "step", [["a"]]),
        (model, "step", [[12]]),
        (model, "loadState", [[1, 2, 3]]),
        (model, "freed", []),
        (model, "another", [str(model)]),
        (both, "generate", ["a", {}]),
        (model, "generate", ["a", {"temperature": -1}]),
    )
    assert {answer["name"] for answer in answers} == {"GatewiseError"}
    assert [answer["code"] for answer in answers] == [4, 2, 3, 3, 2, 3, 2, 2]
    assert "outside the vocabulary" in answers[2]["message"] and "both directions" in answers[1]["message"]


def test_the_page_runs_models_without_a_server(wasm: Path, tmp_path: Path) -> None:
    """The page that the server has, beside the module: it finds no server, and the models that lie there."""
    site, options = tmp_path / "site", {"max_tokens": 12, "temperature": 0.9, "seed": 7}
    shutil.copytree(WEB, site, ignore=shutil.ignore_patterns("*.gatewise"))
    for file in FILES.glob("*.*s"):
        assert (site / file.name).read_bytes() == file.read_bytes(), f"{file.name}: make wasm copies it"
    shutil.copy(varied_language(tmp_path / "language"), site / "language.gatewise")
    shutil.copy(varied_tagger(tmp_path / "tagger"), site / "tagger.gatewise")
    shutil.copy(model_file(tmp_path, "text last"), site / "text.gatewise")
    shutil.copy(model_file(tmp_path, "regressor horizon"), site / "forecast.gatewise")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            found = re.search(r"http://\S+?:\d+/", server.stdout.readline())
            assert found is not None
            with open_page(tmp_path, found[0]) as page:
                page.value("globalThis.$ = (id) => document.getElementById(id)")
                assert "WebAssembly" in page.value("$('about').textContent") and not page.value("$('open').hidden")
                lm = runtime.load(site / "language.gatewise")
                for name, value in options.items():
                    page.value(f"$('{name}').value = {value}")
                type_into(page, "#texts textarea", "the dog")
                page.value("document.querySelector('#texts .primary').click()")
                page.wait("gatewise.part.texts[0].tokens.length === 14 && !gatewise.part.texts[0].running")
                written = page.value("gatewise.part.texts[0].tokens.map(({ text }) => text).join('')")
                assert written == lm.generate("the dog", **options)
                ids = page.value("gatewise.part.texts[0].tokens.map(({ token }) => token)")
                traced = lm.trace([lm.vocabulary.eos_id, *ids])
                for gate, values in traced.items():
                    expected = values[-1, 0, 1:, 0]
                    drawn = drawn_gates(page, gate, lm.num_layers - 1)
                    assert np.abs(drawn - (np.tanh(expected) if gate == "c" else expected)).max() <= 1 / 255
                assert page.value("gatewise.part.texts[0].rate") >= 50
                choose(page, "tagger")
                type_into(page, "#tag-text", "the dog ate xyzzy")
                page.wait("gatewise.part.words.length === 4")
                tags = runtime.load(site / "tagger.gatewise").tag([["the", "dog", "ate", "xyzzy"]])[0]
                assert page.value("[...document.querySelectorAll('.tag')].map((one) => one.textContent)") == tags
                choose(page, "text")
                type_into(page, "#class-text", "the dog ate it")
                page.wait("gatewise.part.steps === 4")
                verdicts = np.array(page.value("gatewise.part.all.map((p) => Object.values(p))"))
                expected = runtime.load(site / "text.gatewise").predict_proba_over_time("the dog ate it")
                assert np.abs(verdicts - expected).max() < 1e-5
                choose(page, "forecast")
                table = page.value("$('values').value").split("\n")[1:]
                values = [[float(one) if one else np.nan for one in line.split(", ")] for line in table]
                forecast = runtime.load(site / "forecast.gatewise").forecast(np.array(values), steps=12)
                shown = page.value("[...$('forecasts').children].map((one) => Number(one.textContent))")
                assert shown == pytest.approx(forecast, rel=1e-3)
                # What it looked for and did not find: a server, and a model of digits.
                assert all("404" in text for text in page.complaints), page.complaints
                files = [file.name for file in FILES.iterdir() if file.suffix != ".md" and file.stem != "index"]
                names = {"", *files, "wasm.js", "gatewise.js", "gatewise.wasm", "v1/models"}
                names |= {f"{name}.gatewise" for name in ("language", "tagger", "text", "digits", "forecast")}
                asked = {url.removeprefix(found[0]) for url in page.requests if not url.startswith("data:")}
                assert asked == names
        finally:
            server.terminate()
