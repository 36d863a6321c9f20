"""``gatewise.runtime`` where nothing but NumPy is installed, on a run folder of every task."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config

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
