"""Recipes and overrides: what is accepted, and one clear line with its place for whatever is wrong."""

from pathlib import Path
from typing import Any

import pytest

from gatewise.config import Config, load_config, parse_override, to_toml
from gatewise.errors import RunError, UsageError


def recipe(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path: Path | str, overrides: dict[str, Any] | None = None) -> str:
    """Return the one line that a recipe is refused with."""
    with pytest.raises(UsageError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    assert load_config(recipe(tmp_path, "")) == Config()


def test_path_as_string_and_byte_order_mark(tmp_path: Path) -> None:
    path = recipe(tmp_path, "\ufeff[model]\nhidden_size = 7\n")
    assert load_config(str(path)).model.hidden_size == load_config(path).model.hidden_size == 7


@pytest.mark.parametrize(
    ("text", "line", "wrong", "nearest"),
    [
        ("[model]\nhiden_size = 3\n", 2, "model.hiden_size", "model.hidden_size"),
        ("[model]\nnum_layers = 1\n\n[training]\nseed = 1\nlerning_rate = 1\n", 6, "lerning_rate", "learning_rate"),
        ("# mine\n[modell]\nhidden_size = 3\n", 2, "modell", "model"),
        ("[model]\nepochs = 3\n", 2, "model.epochs", "training.epochs"),
    ],
)
def test_unknown_key_names_the_nearest(tmp_path: Path, text: str, line: int, wrong: str, nearest: str) -> None:
    path = recipe(tmp_path, text)
    said = complaint(path)
    assert said.startswith(f"{path}:{line}: ")
    assert f"{wrong}; did you mean" in said
    assert said.rstrip("?").endswith(nearest)


@pytest.mark.parametrize(
    ("section", "key", "value", "found"),
    [
        ("model", "hidden_size", "0", "0"),
        ("model", "hidden_size", "true", "True"),
        ("model", "hidden_size", '"200"', "'200'"),
        ("model", "hidden_size", "200.0", "200.0"),
        ("model", "dropout", "1", "1"),
        ("model", "dropout", "-0.1", "-0.1"),
        ("model", "init_scale", "nan", "nan"),
        ("model", "init_scale", "-0.1", "-0.1"),
        ("model", "cell", '"elman"', "'elman'"),
        ("model", "tie_weights", "1", "1"),
        ("training", "learning_rate", "0", "0"),
        ("training", "learning_rate", "inf", "inf"),
        ("training", "epochs", "0", "0"),
        ("training", "precision", '"fp8"', "'fp8'"),
        ("data", "path", "3", "3"),
        ("data", "batch_size", "[20]", "[20]"),
        ("runtime", "engine", '"warp"', "'warp'"),
    ],
)
def test_wrong_value_is_named_with_its_line(tmp_path: Path, section: str, key: str, value: str, found: str) -> None:
    path = recipe(tmp_path, f"[task]\n\n[{section}]\n{key} = {value}\n")
    assert complaint(path).startswith(f"{path}:4: {section}.{key} is {found}; ")


def test_whole_number_is_taken_for_a_real_one(tmp_path: Path) -> None:
    assert load_config(recipe(tmp_path, "[training]\nlearning_rate = 1\n")).training.learning_rate == 1.0


@pytest.mark.parametrize(
    ("text", "line"),
    [("[model]\nhidden_size =\n", 2), ("[model\n", 1), ("[model]\ncell = 'gru'\ncell = 'lstm'\n", 3)],
)
def test_broken_toml(tmp_path: Path, text: str, line: int) -> None:
    path = recipe(tmp_path, text)
    said = complaint(path)
    assert said.startswith(f"{path}:{line}") and "TOML" in said


def test_key_outside_a_section(tmp_path: Path) -> None:
    path = recipe(tmp_path, "# mine\nhidden_size = 3\n[model]\n")
    said = complaint(path)
    assert said.startswith(f"{path}:2: ") and "hidden_size" in said and "[model]" in said


def test_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"[model]\n# caf\xe9\n")
    said = complaint(path)
    assert said.startswith(f"{path}:2: ") and "UTF-8" in said


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert complaint(str(tmp_path / "none.toml")).startswith(f"{tmp_path / 'none.toml'}: ")
    assert complaint(tmp_path).startswith(f"{tmp_path}: ")


def test_unknown_recipe() -> None:
    said = complaint("ptb-smal")
    assert "'ptb-smal'" in said and "demo" in said and said.endswith("did you mean ptb-small?")


def test_forget_bias_needs_an_lstm(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[model]\ncell = 'gru'\nforget_bias = 1.0\n")
    said = complaint(path)
    assert said.startswith(str(path)) and "forget_bias is 1.0" in said and "gru" in said
    assert load_config(path, {"model.cell": "lstm"}).model.forget_bias == 1


def test_tied_weights_need_equal_sizes(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[model]\nhidden_size = 4\nembedding_size = 5\ntie_weights = true\n")
    said = complaint(path)
    assert "tie_weights" in said and "5 and 4" in said
    for size in (0, 4):
        assert load_config(path, {"model.embedding_size": size}).model.tie_weights


def test_run_folder_reads_with_its_own_error(tmp_path: Path) -> None:
    for text in ("[model]\nhidden_size = 0\n", "[model\n", "loose = 1\n"):
        with pytest.raises(RunError):
            load_config(recipe(tmp_path, text), error=RunError)
    with pytest.raises(RunError):
        load_config(tmp_path / "none.toml", error=RunError)


def test_overrides_win() -> None:
    config = load_config("ptb-small", {"training.epochs": 1, "model.cell": "gru"})
    assert (config.training.epochs, config.model.cell, config.model.hidden_size) == (1, "gru", 200)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"model.hiden_size": 3}, "model.hiden_size; did you mean model.hidden_size?"),
        ({"modle.hidden_size": 3}, "did you mean model"),
        ({"training.lr": 3}, "training.lr; did you mean training.learning_rate?"),
        ({"training.early_stoping": 3}, "training.early_stoping; did you mean training.patience?"),
        ({"model.batchsize": 3}, "model.batchsize; did you mean data.batch_size?"),
        ({"data.hiden_dim": 3}, "data.hiden_dim; did you mean model.hidden_size?"),
        ({"model.hidden_size": "many"}, "model.hidden_size is 'many'"),
        ({"model.dropout": 1}, "model.dropout is 1"),
        ({"model.forget_bias": 1.0, "model.cell": "gru"}, "forget_bias"),
        ({"training.seed": True}, "training.seed is True"),
    ],
)
def test_wrong_override_is_said_to_be_one(overrides: dict[str, Any], words: str) -> None:
    said = complaint("ptb-small", overrides)
    assert said.startswith("overrides: ") and words in said


@pytest.mark.parametrize("key", ["epochs", ".epochs", "training."])
def test_override_needs_a_dotted_key(key: str) -> None:
    assert repr(key) in complaint("demo", {key: 1})


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("training.epochs=1", "training.epochs", 1),
        (" training.epochs = 1 ", "training.epochs", 1),
        ("training.learning_rate=1e-3", "training.learning_rate", 0.001),
        ("model.tie_weights=true", "model.tie_weights", True),
        ("model.cell=gru", "model.cell", "gru"),
        ('model.cell="gru"', "model.cell", "gru"),
        ("data.path=/home/me/a b=c", "data.path", "/home/me/a b=c"),
        ("data.path=C:\\text", "data.path", "C:\\text"),
        ("data.path=", "data.path", ""),
    ],
)
def test_override_is_toml_or_else_a_string(assignment: str, key: str, value: object) -> None:
    found = parse_override(assignment)
    assert found == (key, value) and type(found[1]) is type(value)


@pytest.mark.parametrize("assignment", ["training.epochs", "=1", " =1"])
def test_override_needs_key_and_value(assignment: str) -> None:
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        parse_override(assignment)


def test_to_toml_round_trip(tmp_path: Path) -> None:
    awkward = 'a "quoted" \\ path\twith 中文'
    config = load_config(
        "ptb-large",
        {"data.path": awkward, "training.seed": 2**63 - 1, "training.learning_rate": 1e-9},
    )
    text = to_toml(config)
    assert load_config(recipe(tmp_path, text)) == config
    for section in Config.model_fields:
        for key in getattr(config, section).__class__.model_fields:
            assert f"\n{key} = " in text.partition(f"[{section}]")[2].partition("\n[")[0]
