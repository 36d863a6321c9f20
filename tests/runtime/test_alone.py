"""``gatewise.runtime`` where nothing but NumPy is installed, on a run folder of every task."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.interchange.runs import export_run

ALONE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "gatewise", "tomli"):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Nothing())
"""

READ = """
import json
from gatewise.runtime import RunReader

for path in sys.argv[1:]:
    run = RunReader.existing(path)
    settings = run.read_settings()
    header = run.open_weights(settings)
    arrays, facts = run.read_weights(header.shapes, header)
    found = {"sums": {name: float(array.sum(dtype="float64")) for name, array in arrays.items()}}
    found["task"] = settings["task.name"]
    if run.characters_file.exists():
        words, characters = run.read_words()
        found["ids"] = words.encode(["the", "dog"]) + characters.encode("dog")
    elif run.tokenizer_file.exists():
        found["ids"] = run.read_vocabulary(settings["data.level"]).encode_line("the dog")
    if run.labels_file.exists():
        found["labels"] = list(run.read_labels().labels)
    if run.scaling_file.exists():
        found["scaling"] = run.read_scaling()[1].y_std
    print(json.dumps(found))
"""

USE = """
import json
import numpy as np
from gatewise import runtime

x = np.linspace(-1, 1, 24).reshape(1, 6, 4)
for path in sys.argv[1:]:
    m = runtime.load(path)
    found = {"task": m.task, "weights": m.weights}
    if m.streams:
        state = m.initial_state()
        inputs = {"language-model": [1, 2, 3], "tagger": ["the", "dog", "xyzzy"], "regressor": [[9.0], [11.0], [10.0]]}
        steps = inputs.get(m.task, x[0, :3])
        found["steps"] = [m.step([one], [state])[0].tolist() for one in steps]
        back = m.load_state(state.save())
        found["restored"] = m.step(steps[:1], [back]).tolist() == m.step(steps[:1], [state]).tolist()
    if m.task == "language-model":
        found["text"] = m.generate("the dog", max_tokens=12, seed=7)
        found["figure"] = m.perplexity(["the dog ate that apple", "it"])
    elif m.task == "tagger":
        found["tags"] = m.tag([["The", "dog", "xyzzy"], []])
    elif m.task == "classifier":
        found["p"] = m.predict_proba(x).tolist()
    else:
        found["figure"] = m.forecast(np.linspace(8, 12, 9), 3).tolist()
    print(json.dumps(found))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))))
"""


def alone(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where only NumPy can be imported."""
    command = [sys.executable, "-c", ALONE + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_every_run_is_read(
    tiny_run: Path, scratch_run: Path, tagger_run: Path, classifier_run: Path, regressor_run: Path
) -> None:
    runs = [tiny_run, scratch_run, tagger_run, classifier_run, regressor_run]
    done = alone(READ, *map(str, runs))
    assert not done.stderr
    for path, line in zip(runs, done.stdout.splitlines(), strict=True):
        found, model = json.loads(line), gw.load(path)
        assert found["task"] == RunFolder(path).read_config().task.name
        assert found["sums"] == {
            name: pytest.approx(float(tensor.double().sum()), rel=1e-9) for name, tensor in model.state_dict().items()
        }
        if hasattr(model, "vocabulary"):
            assert found["ids"] == model.vocabulary.encode_line("the dog")
        elif hasattr(model, "lexicon"):
            assert found["ids"] == model.lexicon.encode(["the", "dog"]) + model.alphabet.encode("dog")
        assert found.get("scaling") == (model.scaling.y_std if hasattr(model, "scaling") else None)


def test_the_configuration_is_the_one_that_training_checks(tagger_run: Path) -> None:
    config: Config = RunFolder(tagger_run).read_config()
    settings = RunFolder(tagger_run).read_settings()
    assert settings.items() >= config.meaning().items()


def test_what_needs_more_names_the_extra(tiny_run: Path) -> None:
    use = "import gatewise as gw\ntry:\n    gw.{}\nexcept ImportError as problem:\n    print(problem)"
    for name in ("train", "load", "LanguageModel"):
        done = alone(use.format(name))
        line = f"gatewise.{name} needs "
        assert done.stdout.startswith(line) and done.stdout.endswith("; it comes with the extra 'train'\n"), done.stderr
    done = alone("sys.argv = ['gatewise', 'doctor']\nfrom gatewise.__main__ import run\nrun()")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "gatewise: the command line needs typer, which is not installed; it comes with the extra 'train'\n"
    )


def test_the_extension_module_needs_no_torch() -> None:
    assert alone("import gatewise._native\nprint(sorted(m for m in sys.modules if 'torch' in m))").stdout == "[]\n"


def test_every_model_is_used(
    tiny_run: Path, scratch_run: Path, tagger_run: Path, classifier_run: Path, regressor_run: Path, tmp_path: Path
) -> None:
    """From its run folder and from a file; nothing else of PyTorch's models is needed for what they give."""
    runs = [tiny_run, scratch_run, tagger_run, classifier_run, regressor_run]
    for k, run in enumerate(runs):
        export_run(run, tmp_path / f"{k}.gatewise", "runtime")
    done = alone(USE, *map(str, runs), *(str(tmp_path / f"{k}.gatewise") for k in range(len(runs))))
    assert not done.stderr
    *lines, imported = map(json.loads, done.stdout.splitlines())
    assert {"gatewise", "numpy"} <= set(imported) and not {"torch", "pydantic", "typer"} & set(imported)
    assert lines[:5] == lines[5:]
    for run, found in zip(runs, lines, strict=False):
        model = gw.load(run)
        assert found["weights"] == "fp32" and found.get("restored", True)
        if found["task"] == "language-model":
            assert found["text"] == model.generate("the dog", max_tokens=12, seed=7)
            assert found["figure"] == pytest.approx(model.perplexity(["the dog ate that apple", "it"]), rel=1e-6)
            ids = torch.tensor([[1], [2], [3]])
            expected = model(ids, model.initial_state(1))[0][:, 0]
            assert np.abs(np.array(found["steps"]) - expected.detach().numpy()).max() < 2e-6 * float(
                expected.abs().max()
            )
        elif found["task"] == "tagger":
            assert found["tags"] == model.tag([["The", "dog", "xyzzy"], []])
        elif found["task"] == "classifier":
            x = np.linspace(-1, 1, 24).reshape(1, 6, 4)
            assert found["p"] == [pytest.approx(model.predict_proba(x)[0].tolist(), abs=2e-6)]
        else:
            assert found["figure"] == pytest.approx(model.forecast(np.linspace(8, 12, 9), 3).tolist(), rel=1e-6)
            assert len(found["steps"]) == 3
