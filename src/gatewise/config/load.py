"""Loading a validated ``Config`` from a recipe's TOML and ``--set`` overrides, and writing it as TOML."""

import difflib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from gatewise.config.schema import Config
from gatewise.errors import GatewiseError, UsageError
from gatewise.files import LARGEST_SETTINGS
from gatewise.reading import read_text
from gatewise.runtime.settings import parse_tables, parse_toml, place
from gatewise.wording import setting


def recipe_names() -> list[str]:
    """Return the names of the built-in recipes."""
    folder = resources.files("gatewise") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """Return the TOML of a built-in recipe.

    Raises:
        UsageError: there is no recipe of this name.
    """
    if name not in recipe_names():
        raise UsageError(
            f"unknown recipe {name!r}: expected one of {', '.join(recipe_names())}, or the path of a TOML file"
            + _nearest(name, recipe_names())
        )
    return (resources.files("gatewise") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def load_config(
    recipe: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    error: type[GatewiseError] = UsageError,
) -> Config:
    """Read a recipe (built-in name or path of a TOML file), apply dotted overrides and validate every key.

    Args:
        recipe: a built-in name such as ``ptb-small``, or the path of a TOML file.
        overrides: values by dotted key, such as ``{"training.epochs": 1}``; they take precedence over the recipe.
        error: the exception class to raise; ``RunError`` for a run folder's ``config.toml``.

    Raises:
        GatewiseError: of class ``error``, with file and line if the error is in a file.
        UsageError: an override is invalid.
    """
    text, source = _read(recipe, error)
    tables = parse_tables(text, source, error)
    merged = {section: dict(keys) for section, keys in tables.items()}
    for key, value in (overrides or {}).items():
        section, _, name = key.partition(".")
        if not section or not name:
            raise UsageError(
                f"{key!r} is not a dotted key; expected SECTION.KEY, such as {setting('training.epochs', 1)}"
            )
        if isinstance(value, str) and not _is_unicode(value):
            raise UsageError(
                f"{key} is {value!r}, which is not valid UTF-8, as config.toml needs; rename the file or folder"
            )
        merged.setdefault(section, {})[name] = value
    try:
        return Config.model_validate(merged)
    except ValidationError as problem:
        key, reason = _explain(problem)
    # The file is at fault if it is invalid without the overrides, too.
    try:
        Config.model_validate(tables)
    except ValidationError as problem:
        if key not in (overrides or {}) and _explain(problem)[0] == key:
            raise error(f"{place(text, source, key)}: {reason}") from None
    raise UsageError(f"{setting()}: {reason}")


def parse_override(assignment: str) -> tuple[str, Any]:
    """Split ``training.epochs=1`` into key and value; the value is parsed as TOML, or kept as a plain string."""
    key, equals, raw = assignment.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{setting()} {assignment!r}: expected KEY=VALUE, such as {setting('training.epochs', 1)}")
    try:
        (value,) = parse_toml(f"v = {raw.strip()}").values()
    except (ValueError, RecursionError):  # invalid TOML, or more than one value
        value = raw.strip()
    return key.strip(), value


def to_toml(config: Config) -> str:
    """Serialize the resolved configuration, with every key, as TOML."""
    return tomli_w.dumps(config.model_dump())


def _read(recipe: str | Path, error: type[GatewiseError]) -> tuple[str, str]:
    """Return the TOML text and its name for messages."""
    path = Path(recipe)
    if isinstance(recipe, str) and path.suffix != ".toml" and not os.path.isfile(path):
        return recipe_text(recipe), f"recipe {recipe}"
    return read_text(path, LARGEST_SETTINGS, "a TOML file", error), str(path)


def _explain(problem: ValidationError) -> tuple[str, str]:
    """Return the dotted key of pydantic's first error, and a one-line description."""
    first = problem.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        advice = _nearest(key, _known_keys()) or f"; expected one of the sections {', '.join(Config.model_fields)}"
        return key, f"unknown key {key}{advice}"
    if first["type"] == "value_error":
        return key, f"[{key}] {message}"
    return key, f"{key} is {_shown(first['input'])}; {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):  # endlessly nested tables, or more digits than Python prints
        return f"a {type(value).__name__} too deeply nested or too long to show"


def _is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: a lone surrogate is a non-UTF-8 byte of the command line."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _known_keys() -> list[str]:
    """Return all dotted keys, and the sections themselves."""
    keys = []
    for section, field in Config.model_fields.items():
        keys.append(section)
        assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        keys += [f"{section}.{name}" for name in field.annotation.model_fields]
    return keys


def _nearest(name: str, known: list[str]) -> str:
    """Suggest what was probably meant: the same or the most similar name, in any section or in other libraries."""
    section, _, ending = name.rpartition(".")
    meant = {key: key for key in known}
    if section:
        meant = _ELSEWHERE | {key.rpartition(".")[2]: key for key in known if "." in key}
    match = difflib.get_close_matches(ending, meant, n=1, cutoff=0.6)
    if section and not match:  # perhaps the section is what is wrong
        match, meant = difflib.get_close_matches(name, known, n=1, cutoff=0.5), {key: key for key in known}
    return f"; did you mean {meant[match[0]]}?" if match else ""


_ELSEWHERE = {
    "lr": "training.learning_rate",
    "early_stopping": "training.patience",
    "early_stopping_patience": "training.patience",
    "num_epochs": "training.epochs",
    "n_epochs": "training.epochs",
    "clip": "training.max_grad_norm",
    "grad_clip": "training.max_grad_norm",
    "clipnorm": "training.max_grad_norm",
    "scheduler": "training.schedule",
    "lr_schedule": "training.schedule",
    "class_weight": "training.class_weights",
    "ema": "training.average_decay",
    "optim": "training.optimizer",
    "units": "model.hidden_size",
    "hidden_dim": "model.hidden_size",
    "n_hidden": "model.hidden_size",
    "n_layers": "model.num_layers",
    "layers": "model.num_layers",
    "embedding_dim": "model.embedding_size",
    "embed_dim": "model.embedding_size",
    "rnn_type": "model.cell",
    "batch": "data.batch_size",
    "bptt": "data.tbptt_length",
    "seq_len": "data.tbptt_length",
    "lookback": "data.window",
    "input_chunk_length": "data.window",
    "output_chunk_length": "data.horizon",
    "text_column": "data.column",
    "target_column": "data.label_column",
    "validation_size": "data.valid_size",
    "val_size": "data.valid_size",
    "num_threads": "runtime.threads",
    "accelerator": "runtime.device",
}
"""What other libraries call some keys."""
