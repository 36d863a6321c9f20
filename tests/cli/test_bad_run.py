"""A RUN argument with anything missing or wrong inside is status 4, and bad data to evaluate on is status 3."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gatewise.data.vocabulary import Vocabulary
from tests.cli.conftest import Gatewise, contents

COMMANDS = ["evaluate", "generate"]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def cut(name: str, keep: float) -> Callable[[Path], None]:
    """Return what cuts a file of the run down to a part of its bytes."""

    def damage(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: int(keep * len(content))])

    return damage


def change_config(before: str, after: str) -> Callable[[Path], None]:
    """Return what replaces a line of ``config.toml``."""

    def damage(run: Path) -> None:
        text = (run / "config.toml").read_text()
        assert before in text
        (run / "config.toml").write_text(text.replace(before, after))

    return damage


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Return what changes the arrays of ``model.safetensors``."""

    def damage(run: Path) -> None:
        weights = load_file(run / "model.safetensors")
        change(weights)
        save_file(weights, run / "model.safetensors")

    return damage


BAD_RUNS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "weights missing": (
        lambda run: (run / "model.safetensors").unlink(),
        ["model.safetensors: no such file", "train it"],
    ),
    "weights cut short": (cut("model.safetensors", 0.9), ["model.safetensors: damaged or cut short", "train again"]),
    "weights cut to the header": (cut("model.safetensors", 0.01), ["model.safetensors: damaged", "train again"]),
    "weights empty": (cut("model.safetensors", 0), ["model.safetensors: damaged or cut short", "train again"]),
    "weights of another size": (
        change_config("hidden_size = 8", "hidden_size = 9"),
        ["embedding.weight has shape (14, 8)", "expected (14, 9)", "different runs"],
    ),
    "weights of another cell": (
        change_config('cell = "lstm"', 'cell = "gru"'),
        ["rnn.weight_ih_l0 has shape (32, 8)", "expected (24, 8)"],
    ),
    "a weight missing": (
        change_weights(lambda weights: weights.pop("decoder.bias")),
        ["no decoder.bias inside", "expected shape (14,)", "train again"],
    ),
    "a weight too many": (
        change_weights(lambda weights: weights.update(extra=torch.zeros(2))),
        ["unexpected extra inside", "config.toml describes no such weight"],
    ),
    "a weight that is not a number": (
        change_weights(lambda weights: weights["decoder.bias"].fill_(float("nan"))),
        ["model.safetensors", "decoder.bias", "train again"],
    ),
    "config missing": (lambda run: (run / "config.toml").unlink(), ["no config.toml inside", "expected a run folder"]),
    "config no TOML": (change_config("[model]", "[model"), ["no valid TOML", "mend the line"]),
    "config no UTF-8": (
        lambda run: (run / "config.toml").write_bytes(b"# \xe9\n"),
        ["config.toml:1: bytes that are no UTF-8", "expected a TOML file"],
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
    "tokenizer cut short": (cut("tokenizer.json", 0.5), ["tokenizer.json: no vocabulary can be read", "train again"]),
    "tokenizer no UTF-8": (
        lambda run: (run / "tokenizer.json").write_bytes(b"\xff\xfe"),
        ["tokenizer.json: no vocabulary can be read", "train again"],
    ),
    "tokenizer of another run": (
        lambda run: (run / "tokenizer.json").write_text(Vocabulary(["<eos>", "<unk>", "the"]).json),
        ["embedding.weight has shape (14, 8)", "expected (3, 8)", "different runs"],
    ),
    "tokenizer without <unk>": (
        lambda run: (run / "tokenizer.json").write_text(
            (run / "tokenizer.json").read_text().replace('"<unk>":', '"<other>":')
        ),
        ["tokenizer.json: expected ids 0 to 13 with <eos> and <unk>", "train again"],
    ),
    "folder empty": (
        lambda run: (shutil.rmtree(run), run.mkdir()),
        ["no config.toml inside", "expected a run folder, as gatewise train writes it"],
    ),
    "folder missing": (shutil.rmtree, ["run: no such folder", "expected a run folder, as gatewise train writes it"]),
    "a file": (
        lambda run: (shutil.rmtree(run), run.write_text("text")),
        ["run: a file", "expected a run folder, as gatewise train writes it"],
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BAD_RUNS)
def test_bad_run(name: str, command: str, gatewise: Gatewise, run: Path, tmp_path: Path) -> None:
    """Whatever is missing or wrong inside a run is status 4, and nothing is changed."""
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
    """A fault in a run's config.toml is told with the number of its line."""
    lines = (run / "config.toml").read_text().splitlines()
    number = next(k for k, line in enumerate(lines, 1) if line.startswith(before))
    change_config(before, after)(run)
    gatewise("evaluate", run).check_refused(4, f"gatewise: {run / 'config.toml'}:{number}: ")


def test_weights_in_bf16(gatewise: Gatewise, run: Path) -> None:
    """Weights that another program saved in bf16 are read, or refused as a fault of the run; never unforeseen."""
    weights = load_file(run / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, run / "model.safetensors")
    result = gatewise("evaluate", run)
    assert result.status in (0, 4), result.err


def test_config_that_names_no_data(gatewise: Gatewise, run: Path) -> None:
    """A run whose config.toml names no data is a fault of the run, and --data is the way out."""
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(re.sub(r'(?m)^path = ".*"$', 'path = ""', text))
    gatewise("evaluate", run).check_refused(4, "--data")


def test_infinite_perplexity_is_still_json(gatewise: Gatewise, run: Path) -> None:
    """A model that is hopelessly wrong still gives JSON that every reader takes: no Infinity, no NaN."""
    change_weights(lambda weights: weights["decoder.bias"][0].fill_(1e6))(run)
    result = gatewise("evaluate", run, "--json")
    assert result.status == 0, result.err
    json.loads(result.out, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("missing", None, ["no such folder", "*.test.txt"]),
        ("toy.txt", b"", ["toy.txt: the file is empty", "expected text"]),
        ("toy.txt", b"\n", ["toy.txt: 1 token", "expected at least 2"]),
        ("toy.txt", b"the dog\ncaf\xe9\n", ["toy.txt:2: byte 0xe9 is no UTF-8", "convert the file"]),
        (".", b"the dog\n", ["no *.test.txt in this folder", "train, valid and test"]),
    ],
    ids=["missing", "empty", "one token", "no UTF-8", "missing split"],
)
def test_bad_data_to_evaluate_on(
    name: str, content: bytes | None, fragments: list[str], gatewise: Gatewise, tiny_run: Path, tmp_path: Path
) -> None:
    """An evaluate --data that cannot be read is status 3."""
    if content is not None:
        (tmp_path / "toy.txt").write_bytes(content)
    before = contents(tmp_path)
    gatewise("evaluate", tiny_run, "--data", tmp_path / name).check_refused(3, *fragments)
    assert contents(tmp_path) == before


def test_data_of_the_run_has_moved(gatewise: Gatewise, corpus: Path, run: Path, tmp_path: Path) -> None:
    """Where the run's own data is gone the hint is --data, and with it the figures come."""
    change_config(str(corpus), str(tmp_path / "gone"))(run)
    gatewise("evaluate", run).check_refused(3, f"{tmp_path / 'gone'}: no such folder", "--data")
    assert gatewise("evaluate", run, "--data", corpus).status == 0
