"""Errors before training: one clear line, the right exit status, and nothing written."""

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gatewise.engines.registry import EVERY
from tests.cli.conftest import TINY_OPTIONS, Gatewise, contents


def empty(name: str) -> Callable[[Path], object]:
    """Return a function that empties one file of a folder."""
    return lambda folder: (folder / name).write_bytes(b"")


def file_for_folder(folder: Path) -> None:
    """Replace the folder by a file."""
    shutil.rmtree(folder)
    folder.write_text("text")


def folder_for_file(folder: Path) -> None:
    """Replace the training text by a folder."""
    (folder / "toy.train.txt").unlink()
    (folder / "toy.train.txt").mkdir()


def no_utf8(folder: Path) -> None:
    """Write a Latin-1 letter into the third line of the validation text."""
    lines = (folder / "toy.valid.txt").read_bytes().splitlines(keepends=True)
    (folder / "toy.valid.txt").write_bytes(b"".join([*lines[:2], b"caf\xe9\n", *lines[2:]]))


BAD_DATA: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing folder": (shutil.rmtree, ["data: no such file or folder", "a folder with *.train.txt"]),
    "missing split": (lambda data: (data / "toy.valid.txt").unlink(), ["no *.valid.txt", "train, valid and test"]),
    "split there twice": (
        lambda data: (data / "more.test.txt").write_text("the dog\n"),
        ["2 files for the split test (more.test.txt, toy.test.txt)", "move the others elsewhere"],
    ),
    "file for a folder": (
        file_for_folder,
        ["data: 1 line; expected at least 3, one for each of train, valid and test"],
    ),
    "folder for a file": (folder_for_file, ["toy.train.txt: cannot read it", "expected a text file"]),
    "empty training text": (empty("toy.train.txt"), ["toy.train.txt: the file is empty", "expected text"]),
    "empty test text": (empty("toy.test.txt"), ["toy.test.txt: the file is empty", "expected text"]),
    "invalid UTF-8": (no_utf8, ["toy.valid.txt:3: byte 0xe9 is not valid UTF-8", "convert the file"]),
    "UTF-16": (
        lambda data: (data / "toy.train.txt").write_text("the dog\n", encoding="utf-16"),
        ["toy.train.txt:1: byte 0xff is not valid UTF-8", "convert the file"],
    ),
    "training text shorter than a window": (
        lambda data: (data / "toy.train.txt").write_text("the dog ate the apple\n" * 3),
        ["18 tokens are shorter than one window", "4 x 6 = 24", "provide more text or set a smaller batch_size"],
    ),
    "validation text shorter than a window": (
        lambda data: (data / "toy.valid.txt").write_text("the dog\n"),
        ["toy.valid.txt: 3 tokens are shorter than one window", "provide more text or set a smaller batch_size"],
    ),
    "test text of one token": (
        lambda data: (data / "toy.test.txt").write_text("\n"),
        ["toy.test.txt: 1 token", "expected at least 2"],
    ),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(name: str, gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """Data unusable for training is status 3, before anything is written."""
    damage, fragments = BAD_DATA[name]
    data = tmp_path / "data"
    shutil.copytree(corpus, data)
    damage(data)
    before = contents(tmp_path)
    gatewise("train", "--data", data, "--out", tmp_path / "out", *TINY_OPTIONS).check_refused(3, *fragments)
    assert contents(tmp_path) == before


BAD_RECIPES: dict[str, tuple[str, int | None, list[str]]] = {
    "unknown key": (
        "[model]\nnumber_layers = 3\n",
        2,
        ["unknown key model.number_layers", "did you mean model.num_layers?"],
    ),
    "mistyped key": ("# mine\n[data]\nbatch_sise = 3\n", 3, ["data.batch_sise", "did you mean data.batch_size?"]),
    "key of another section": ("[model]\nlearning_rate = 1.0\n", 2, ["did you mean training.learning_rate?"]),
    "unknown section": ("[task]\n[modle]\nnum_layers = 3\n", 2, ["unknown key modle", "did you mean model?"]),
    "wrong type": ('[training]\nseed = 2\nepochs = "two"\n', 3, ["training.epochs is 'two'", "integer"]),
    "dropout of 1": ("[model]\ndropout = 1.0\n", 2, ["model.dropout is 1.0", "less than 1"]),
    "no hidden units": ("[model]\n\nhidden_size = 0\n", 3, ["model.hidden_size is 0", "greater than or equal to 1"]),
    "not a number": ("[training]\nlearning_rate = nan\n", 2, ["training.learning_rate is nan", "finite number"]),
    "keys that exclude each other": (
        '[model]\ncell = "gru"\nforget_bias = 1.0\n',
        None,
        ["forget_bias is 1.0 but a gru cell has no forget gate", "set it to 0"],
    ),
    "broken TOML": ("[model\nnum_layers = 3\n", 1, ["invalid TOML", "fix this line"]),
    "key given twice": ("[model]\nnum_layers = 3\nnum_layers = 4\n", 3, ["invalid TOML", "fix this line"]),
    "key outside a section": ("# mine\nepochs = 3\n", 2, ["epochs is not inside a section", "[training]"]),
    "dotted key": ("# mine\nmodel.num_layers = 0\n", 2, ["model.num_layers is 0"]),
}


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_bad_recipe(name: str, gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """An invalid recipe is status 2; the message has file and line, and the nearest key if one is unknown."""
    text, line, fragments = BAD_RECIPES[name]
    recipe = tmp_path / "my.toml"
    recipe.write_text(text)
    before = contents(tmp_path)
    result = gatewise("train", recipe, "--data", corpus, "--out", tmp_path / "out")
    result.check_refused(2, f"gatewise: {recipe}:{'' if line is None else f'{line}: '}", *fragments)
    assert contents(tmp_path) == before


def test_recipe_is_blamed_not_set(gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """An error in the recipe is reported with its location in the recipe, even if --set adds to the section."""
    recipe = tmp_path / "my.toml"
    recipe.write_text('[model]\ncell = "gru"\nforget_bias = 1.0\n')
    result = gatewise("train", recipe, "--data", corpus, "--out", tmp_path / "out", "--set", "model.hidden_size=8")
    result.check_refused(2, f"gatewise: {recipe}:", "no forget gate")


@pytest.mark.parametrize("kind", ["missing", "a folder", "no UTF-8"])
def test_unreadable_recipe(kind: str, gatewise: Gatewise, tmp_path: Path) -> None:
    """An unreadable recipe file is status 2."""
    recipe = tmp_path / "my.toml"
    if kind == "a folder":
        recipe.mkdir()
    elif kind == "no UTF-8":
        recipe.write_bytes(b"# caf\xe9\n")
    before = contents(tmp_path)
    gatewise("train", recipe).check_refused(2, f"{recipe}:", "expected a TOML file")
    assert contents(tmp_path) == before


BAD_OPTIONS: dict[str, tuple[str, list[str]]] = {
    "unknown recipe": (
        "train ptb-smal",
        ["unknown recipe 'ptb-smal'", "ptb-large, ptb-medium", "did you mean ptb-small?"],
    ),
    "recipe without data": ("train ptb-small --out {out}", ["no data", "--data PATH"]),
    "unknown recipe to print": ("recipes ptb-tiny", ["unknown recipe 'ptb-tiny'", "ptb-large"]),
    "--set without =": ("train --set training.epochs", ["--set 'training.epochs'", "expected KEY=VALUE"]),
    "--set with no key": ("train --set =3", ["--set '=3'", "expected KEY=VALUE"]),
    "--set without a section": ("train --set epochs=1", ["'epochs' is not a dotted key", "training.epochs=1"]),
    "--set unknown key": ("train --set training.epocs=1", ["--set: unknown key", "did you mean training.epochs?"]),
    "--set wrong type": ("train --set training.epochs=two", ["--set: training.epochs is 'two'", "integer"]),
    "negative seed": ("train --seed -1 --out {out}", ["training.seed is -1", "greater than or equal to 0"]),
    "--resume without --out": ("train --resume", ["--resume requires --out"]),
    "unknown engine": (
        "train --set runtime.engine=cudnn",
        ["runtime.engine is 'cudnn'", "'auto', 'torch', 'reference' or 'native'"],
    ),
    "unknown precision": ("train --set training.precision=fp8", ["training.precision is 'fp8'", "'fp32', 'bf16'"]),
    "unknown device": ("train --set runtime.device=tpu --out {out}", ["device 'tpu'", "expected auto, cpu or cuda"]),
    "device not there": ("train --set runtime.device=cuda:99", ["device 'cuda:99'", "expected auto, cpu or cuda"]),
    "device without numbers": ("train --set runtime.device=meta {tiny}", ["'meta'", "expected auto, cpu or cuda"]),
    "negative temperature": ("generate {run} --temperature -1", ["temperature is -1.0", "expected 0 (greedy) or more"]),
    "temperature nan": ("generate {run} --temperature nan", ["temperature is nan", "expected 0 (greedy) or more"]),
    "temperature inf": ("generate {run} --temperature inf", ["temperature is inf", "expected 0 (greedy) or more"]),
    "top-k 0": ("generate {run} --top-k 0", ["is 0; expected 1 or more"]),
    "top-p 0": ("generate {run} --top-p 0", ["is 0.0; expected a number above 0 and at most 1"]),
    "top-p 1.5": ("generate {run} --top-p 1.5", ["is 1.5; expected a number above 0 and at most 1"]),
    "top-p nan": ("generate {run} --top-p nan", ["is nan; expected a number above 0 and at most 1"]),
    "max-tokens 0": ("generate {run} --max-tokens 0", ["is 0; expected 1 or more"]),
    "empty prompt": ("generate {run} --prompt ''", ["the prompt is empty", "expected text, or no prompt"]),
    "blank prompt": ("generate {run} --prompt '  '", ["the prompt is empty", "expected text, or no prompt"]),
    "seed beyond 64 bits": ("generate {run} --seed 99999999999999999999", ["seed", "99999999999999999999"]),
    "unknown command": ("trian", ["'trian'", "--help"]),
    "unknown option": ("train --epochs 3", ["--epochs", "gatewise train --help"]),
    "missing argument": ("evaluate", ["Missing", "gatewise evaluate --help"]),
    "missing command": ("data", ["Missing command", "gatewise data --help"]),
    "option without value": ("train --out", ["'--out' requires an argument", "--help"]),
    "one argument too many": ("doctor now", ["now", "gatewise doctor --help"]),
    "no integer for --seed": ("train --seed x", ["--seed", "valid integer", "gatewise train --help"]),
    "no integer for --top-k": ("generate {run} --top-k few", ["--top-k", "valid integer", "--help"]),
    "unknown split": ("evaluate {run} --split dev", ["--split", "'dev'", "'valid', 'test'", "--help"]),
    "unknown corpus": ("data fetch wikitext", ["unknown corpus 'wikitext'", "expected one of ptb"]),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options(name: str, gatewise: Gatewise, corpus: Path, tiny_run: Path, tmp_path: Path) -> None:
    """Command-line errors are status 2, and nothing is written."""
    line, fragments = BAD_OPTIONS[name]
    tiny = shlex.join([*TINY_OPTIONS, "--data", str(corpus)])
    words = shlex.split(line.format(run=tiny_run, out=tmp_path / "out", tiny=tiny))
    before = contents(tiny_run)
    gatewise(*words).check_refused(2, *fragments)
    assert contents(tiny_run) == before
    assert contents(tmp_path) == {}


def test_fp16_on_a_processor_without_it(
    gatewise: Gatewise, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Precision fp16 is refused if the processor has no fp16 arithmetic."""
    monkeypatch.setattr("gatewise.training.precision.has_fp16", lambda device: False)
    options = ["--set", "training.precision=fp16", "--set", "runtime.device=cpu"]
    result = gatewise("train", "--data", corpus, "--out", tmp_path / "out", *TINY_OPTIONS, *options)
    result.check_refused(2, "precision 'fp16' is not available", "use fp32 or bf16")
    assert contents(tmp_path) == {}


def test_high_without_the_native_engine(
    gatewise: Gatewise, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Precision high is refused if the native engine was not built."""
    monkeypatch.setattr(EVERY["native"], "why_not", lambda device: "it was not built")
    options = ["--set", "training.precision=high"]
    result = gatewise("train", "--data", corpus, "--out", tmp_path / "out", *TINY_OPTIONS, *options)
    result.check_refused(2, "precision 'high' is not available", "native engine", "not built", "use fp32")
    assert contents(tmp_path) == {}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_out_in_a_folder_that_is_read_only(gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """An --out below a folder without write permission is status 2."""
    (tmp_path / "locked").mkdir(mode=0o555)
    result = gatewise("train", "--data", corpus, "--out", tmp_path / "locked" / "run", *TINY_OPTIONS)
    result.check_refused(2, "not writable", "choose another --out")


def test_debug_shows_the_traceback(gatewise: Gatewise, tmp_path: Path) -> None:
    """With --debug, anywhere on the command line, the exception itself is raised."""
    from gatewise import DataError

    with pytest.raises(DataError, match="no such file or folder"):
        gatewise("train", "--data", tmp_path / "nowhere", "--debug")
