"""A RUN argument with missing or invalid files is status 4, and bad data to evaluate on is status 3."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gatewise.data.tokenizer_file import vocabulary_json
from gatewise.runtime.vocabulary import Vocabulary
from tests.cli.conftest import Gatewise, contents
from tests.conftest import unseal

COMMANDS = ["evaluate", "generate"]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def cut(name: str, keep: float) -> Callable[[Path], None]:
    """Return a function that truncates a file of the run."""

    def damage(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: int(keep * len(content))])

    return damage


def change_config(before: str, after: str) -> Callable[[Path], None]:
    """Return a function that replaces a line of ``config.toml``."""

    def damage(run: Path) -> None:
        text = (run / "config.toml").read_text()
        assert before in text
        (run / "config.toml").write_text(text.replace(before, after))

    return damage


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Return a function that changes the arrays of ``model.safetensors``."""

    def damage(run: Path) -> None:
        weights = load_file(run / "model.safetensors")
        change(weights)
        save_file(weights, run / "model.safetensors")

    return damage


def unsealed(damage: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that damages a run whose weights were written by another program."""

    def both(run: Path) -> None:
        unseal(run)
        damage(run)

    return both


def change_file(name: str, before: str, after: str) -> Callable[[Path], None]:
    """Return a function that replaces a text in a file of the run, whatever bytes it holds."""

    def damage(run: Path) -> None:
        content = (run / name).read_bytes()
        assert before.encode() in content
        (run / name).write_bytes(content.replace(before.encode(), after.encode(), 1))

    return damage


def flip(name: str, place: float) -> Callable[[Path], None]:
    """Return a function that flips one bit of a file of the run."""

    def damage(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[int(place * (len(content) - 1))] ^= 4
        (run / name).write_bytes(content)

    return damage


def replace_by(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that puts something else in a file's place."""

    def damage(run: Path) -> None:
        (run / name).unlink()
        make(run / name)

    return damage


TOKENIZER = ["restore it, or train again"]
BAD_RUNS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "weights missing": (
        lambda run: (run / "model.safetensors").unlink(),
        ["model.safetensors: no such file", "train it"],
    ),
    "weights cut short": (cut("model.safetensors", 0.9), ["model.safetensors: damaged or truncated", "train again"]),
    "weights cut to the header": (cut("model.safetensors", 0.01), ["model.safetensors: damaged", "train again"]),
    "weights empty": (cut("model.safetensors", 0), ["model.safetensors: damaged or truncated", "train again"]),
    "weights with a flipped bit": (flip("model.safetensors", 0.7), ["model.safetensors: damaged", "SHA-256"]),
    "weights with a flipped bit at the end": (flip("model.safetensors", 1), ["model.safetensors: damaged", "SHA-256"]),
    "weights with another epoch": (
        change_file("model.safetensors", '\\"epoch\\":2', '\\"epoch\\":1'),
        ["model.safetensors: damaged", "SHA-256"],
    ),
    "weights whose seal has another name": (
        change_file("model.safetensors", '"gatewise"', '"gatewisf"'),
        ["model.safetensors: damaged", "its metadata is not stored under 'gatewise'"],
    ),
    "weights without their hash": (
        change_file("model.safetensors", "sha256", "sha257"),
        ["model.safetensors: damaged", "no valid hash or format version"],
    ),
    "weights of a newer format": (
        change_file("model.safetensors", '\\"format\\":1', '\\"format\\":2'),
        ["model.safetensors: format 2", "upgrade Gatewise"],
    ),
    "weights a folder": (
        replace_by("model.safetensors", Path.mkdir),
        ["model.safetensors: a folder, not a regular file"],
    ),
    "weights a pipe": (
        replace_by("model.safetensors", os.mkfifo),
        ["model.safetensors: a named pipe, not a regular"],
    ),
    "weights a device": (
        replace_by("model.safetensors", lambda path: path.symlink_to("/dev/zero")),
        ["model.safetensors: a device, not a regular file"],
    ),
    "config of another size": (
        change_config("hidden_size = 8", "hidden_size = 9"),
        ["model.hidden_size is 9", "trained with 8"],
    ),
    "config of another cell": (change_config('cell = "lstm"', 'cell = "gru"'), ["model.cell is 'gru'", "with 'lstm'"]),
    "config of another level": (
        change_config('level = "word"', 'level = "character"'),
        ["config.toml:", "data.level is 'character'", "with 'word'"],
    ),
    "config of tied weights": (
        change_config("tie_weights = false", "tie_weights = true"),
        ["config.toml:", "model.tie_weights is True", "with False"],
    ),
    "weights of another size": (
        unsealed(change_config("hidden_size = 8", "hidden_size = 9")),
        ["embedding.weight has shape (14, 8)", "expected (14, 9)", "different runs"],
    ),
    "weights of another cell": (
        unsealed(change_config('cell = "lstm"', 'cell = "gru"')),
        ["rnn.weight_ih_l0 has shape (32, 8)", "expected (24, 8)"],
    ),
    "weights of a size that no memory holds": (
        unsealed(change_config("hidden_size = 8", "hidden_size = 100000000")),
        ["embedding.weight has shape (14, 8)", "expected (14, 100000000)"],
    ),
    "weights of a size that no number holds": (
        unsealed(change_config("hidden_size = 8", "hidden_size = 1" + "0" * 30)),
        ["config.toml:37: model.hidden_size is 1", "less than"],
    ),
    "weights of layers without end": (
        unsealed(change_config("num_layers = 1", "num_layers = 1000000000")),
        ["model.num_layers is 1000000000", "holds 7 arrays"],
    ),
    "weights that are not tied": (
        unsealed(change_config("tie_weights = false", "tie_weights = true")),
        ["config.toml:", "two different matrices"],
    ),
    "tokenizer of another level": (
        unsealed(change_config('level = "word"', 'level = "character"')),
        ["tokenizer.json: a vocabulary of words", "data.level in config.toml is 'character'"],
    ),
    "a weight missing": (
        change_weights(lambda weights: weights.pop("decoder.bias")),
        ["missing decoder.bias", "expected shape (14,)", "train again"],
    ),
    "a weight too many": (
        change_weights(lambda weights: weights.update(extra=torch.zeros(2))),
        ["unexpected 'extra';", "config.toml describes no such weight"],
    ),
    "a weight that is not a number": (
        change_weights(lambda weights: weights["decoder.bias"].fill_(float("nan"))),
        ["model.safetensors", "decoder.bias", "train again"],
    ),
    "config missing": (
        lambda run: (run / "config.toml").unlink(),
        ["no config.toml in this folder", "expected a run folder"],
    ),
    "config no TOML": (change_config("[model]", "[model"), ["invalid TOML", "fix this line"]),
    "config no UTF-8": (
        lambda run: (run / "config.toml").write_bytes(b"# \xe9\n"),
        ["config.toml:1: invalid UTF-8", "expected a TOML file"],
    ),
    "config unknown key": (
        change_config("num_layers", "nun_layers"),
        ["unknown key model.nun_layers", "did you mean model.num_layers?"],
    ),
    "config wrong value": (change_config("hidden_size = 8", "hidden_size = 0"), ["model.hidden_size is 0", "or equal"]),
    "tokenizer missing": (
        lambda run: (run / "tokenizer.json").unlink(),
        ["tokenizer.json: no such file", "train again"],
    ),
    "config nested without end": (
        lambda run: (run / "config.toml").write_text("[data]\ncolumns = " + "[" * 100_000),
        ["config.toml: invalid TOML", "nested too deeply"],
    ),
    "config a number without end": (
        lambda run: (run / "config.toml").write_text("[model]\nhidden_size = " + "9" * 10_000),
        ["config.toml: invalid TOML", "too many digits"],
    ),
    "config too large": (
        lambda run: (run / "config.toml").write_bytes(b"#" * (1 << 20) + b"\n"),
        ["config.toml: larger than 128 KiB"],
    ),
    "tokenizer another than sealed": (cut("tokenizer.json", 0.5), ["tokenizer.json: not the file", *TOKENIZER]),
    "tokenizer with a flipped bit": (flip("tokenizer.json", 0.5), ["tokenizer.json: not the file", *TOKENIZER]),
    "tokenizer a pipe": (replace_by("tokenizer.json", os.mkfifo), ["tokenizer.json: a named pipe", *TOKENIZER]),
    "unsealed tokenizer a pipe": (
        unsealed(replace_by("tokenizer.json", os.mkfifo)),
        ["tokenizer.json: a named pipe", *TOKENIZER],
    ),
    "tokenizer cut short": (unsealed(cut("tokenizer.json", 0.5)), ["tokenizer.json: invalid JSON", *TOKENIZER]),
    "tokenizer no UTF-8": (
        unsealed(lambda run: (run / "tokenizer.json").write_bytes(b"\xff\xfe")),
        ["tokenizer.json:1: invalid UTF-8", *TOKENIZER],
    ),
    "tokenizer nested without end": (
        unsealed(lambda run: (run / "tokenizer.json").write_text('{"model": ' + "[" * 100_000)),
        ["tokenizer.json: JSON nested too deeply", *TOKENIZER],
    ),
    "tokenizer of another run": (
        unsealed(
            lambda run: (run / "tokenizer.json").write_text(vocabulary_json(Vocabulary(["<eos>", "<unk>", "the"])))
        ),
        ["embedding.weight has shape (14, 8)", "expected (3, 8)", "different runs"],
    ),
    "tokenizer without <unk>": (
        unsealed(change_file("tokenizer.json", '"<unk>":', '"<other>":')),
        ["tokenizer.json: invalid ids; expected 0 to 13, including those of <eos> and <unk>", "train again"],
    ),
    "tokenizer of another kind": (
        unsealed(change_file("tokenizer.json", '"WordLevel"', '"WordPiece"')),
        ["tokenizer.json: not a word-level vocabulary", *TOKENIZER],
    ),
    "folder empty": (
        lambda run: (shutil.rmtree(run), run.mkdir()),
        ["no config.toml in this folder", "expected a run folder created by gatewise train"],
    ),
    "folder missing": (shutil.rmtree, ["run: no such folder", "expected a run folder created by gatewise train"]),
    "a file": (
        lambda run: (shutil.rmtree(run), run.write_text("text")),
        ["run: a file", "expected a run folder created by gatewise train"],
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BAD_RUNS)
def test_bad_run(name: str, command: str, gatewise: Gatewise, run: Path, tmp_path: Path) -> None:
    """Missing or invalid files in a run are status 4, and nothing is changed."""
    damage, fragments = BAD_RUNS[name]
    damage(run)
    before = contents(tmp_path)
    gatewise(command, run).check_refused(4, f"gatewise: {run}", *fragments)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [("[model]", "[model"), ("num_layers", "nun_layers"), ("hidden_size = 8", "hidden_size = 0")],
    ids=["no TOML", "unknown key", "wrong value"],
)
def test_config_faults_have_their_line(before: str, after: str, gatewise: Gatewise, run: Path) -> None:
    """An error in a run's config.toml is reported with its line number."""
    lines = (run / "config.toml").read_text().splitlines()
    number = next(k for k, line in enumerate(lines, 1) if line.startswith(before))
    change_config(before, after)(run)
    gatewise("evaluate", run).check_refused(4, f"gatewise: {run / 'config.toml'}:{number}: ")


def test_weights_in_bf16(gatewise: Gatewise, run: Path) -> None:
    """Weights saved in bf16 by another program are read, or refused as an error in the run; never unforeseen."""
    weights = load_file(run / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, run / "model.safetensors")
    result = gatewise("evaluate", run)
    assert result.status in (0, 4), result.err


def test_config_that_names_no_data(gatewise: Gatewise, run: Path) -> None:
    """A run whose config.toml names no data is an error in the run; --data helps."""
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(re.sub(r'(?m)^path = ".*"$', 'path = ""', text))
    gatewise("evaluate", run).check_refused(4, "--data")


@pytest.mark.parametrize("bias", [1e6, 3e38])
def test_a_figure_that_is_not_finite_is_no_success(bias: float, gatewise: Gatewise, run: Path) -> None:
    """A model with infinite perplexity is status 1, without metrics; a finite nll is reported in the message."""
    change_weights(lambda weights: weights["decoder.bias"][0].fill_(bias))(run)
    known = ["(its nll, ", "nats per token, is finite)"] if bias == 1e6 else []
    gatewise("evaluate", run, "--json").check_refused(1, f"gatewise: {run}: perplexity is inf", *known)


def test_config_stays_editable(gatewise: Gatewise, run: Path) -> None:
    """Settings on logging, the data's location and the hardware may be changed in a finished run."""
    before = gatewise("evaluate", run, "--json").out
    for old, new in (
        ("dropout = ", "dropout = 0.5 # "),
        ("learning_rate = 1.0", "learning_rate = 2"),
        ("epochs = 2", "epochs = 9"),
    ):
        change_config(old, new)(run)
    assert gatewise("evaluate", run, "--json").out == before


def test_other_programs_read_and_write_the_weights(gatewise: Gatewise, run: Path) -> None:
    """PyTorch's safetensors reads the sealed file; files that it writes, with or without metadata, are read here."""
    before = gatewise("evaluate", run, "--json").out
    weights = load_file(run / "model.safetensors")
    for metadata in (None, {"format": "pt"}):
        save_file(weights, run / "model.safetensors", metadata)
        assert gatewise("evaluate", run, "--json").out == before


def test_a_run_of_an_earlier_version_is_read(gatewise: Gatewise, run: Path) -> None:
    """Weights with metadata but neither version nor hash are still read."""
    before = gatewise("evaluate", run, "--json").out
    facts = json.dumps({"task": "language-model", "epoch": 2, "step": 100})
    save_file(load_file(run / "model.safetensors"), run / "model.safetensors", {"gatewise": facts})
    assert gatewise("evaluate", run, "--json").out == before


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("missing", None, ["no such file or folder", "data like that of the training"]),
        ("toy.txt", b"", ["toy.txt: the file is empty", "expected text"]),
        ("toy.txt", b"\n", ["toy.txt: 1 token", "expected at least 2"]),
        ("toy.txt", b"the dog\ncaf\xe9\n", ["toy.txt:2: byte 0xe9 is not valid UTF-8", "convert the file"]),
        (".", b"the dog\n", ["no *.test.txt in this folder", "train, valid and test"]),
    ],
    ids=["missing", "empty", "one token", "no UTF-8", "missing split"],
)
def test_bad_data_to_evaluate_on(
    name: str, content: bytes | None, fragments: list[str], gatewise: Gatewise, tiny_run: Path, tmp_path: Path
) -> None:
    """Unreadable --data of evaluate is status 3."""
    if content is not None:
        (tmp_path / "toy.txt").write_bytes(content)
    before = contents(tmp_path)
    gatewise("evaluate", tiny_run, "--data", tmp_path / name).check_refused(3, *fragments)
    assert contents(tmp_path) == before


def test_data_of_the_run_has_moved(gatewise: Gatewise, corpus: Path, run: Path, tmp_path: Path) -> None:
    """If the run's own data is gone, the message suggests --data, with which the evaluation works."""
    change_config(str(corpus), str(tmp_path / "gone"))(run)
    gatewise("evaluate", run).check_refused(3, f"{tmp_path / 'gone'}: no such folder", "--data")
    assert gatewise("evaluate", run, "--data", corpus).status == 0
