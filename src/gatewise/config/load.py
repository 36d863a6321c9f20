"""From a recipe's TOML and ``--set`` overrides to a checked ``Config``, and back to TOML."""

import difflib
import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from gatewise.config.schema import Config
from gatewise.errors import GatewiseError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # the same library, before it joined Python

Tables = dict[str, dict[str, Any]]


def recipe_names() -> list[str]:
    """List the built-in recipes."""
    folder = resources.files("gatewise") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """Return the TOML of a built-in recipe.

    Raises:
        UsageError: no recipe has this name.
    """
    if name not in recipe_names():
        raise UsageError(
            f"no recipe {name!r}: expected one of {', '.join(recipe_names())}, or the path of a TOML file"
            + _nearest(name, recipe_names())
        )
    return (resources.files("gatewise") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def load_config(
    recipe: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    error: type[GatewiseError] = UsageError,
) -> Config:
    """Read a recipe (built-in name or path of a TOML file), apply dotted overrides and check every key.

    Args:
        recipe: a built-in name such as ``ptb-small``, or the path of a TOML file.
        overrides: dotted keys to values, such as ``{"training.epochs": 1}``; they win over the recipe.
        error: what to raise; a run folder's ``config.toml`` is read with ``RunError``.

    Raises:
        GatewiseError: of class ``error``, in one line, with file and line where the fault lies in a file.
    """
    text, source = _read(recipe, error)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        line = re.search(r"at line (\d+)", str(problem))
        where = f"{source}:{line[1]}" if line else source
        reason = re.sub(r"\s*\(at .*\)", "", str(problem))
        raise error(f"{where}: this is no valid TOML ({reason}); mend the line") from None
    loose = [key for key, value in tables.items() if not isinstance(value, dict)]
    if loose:
        raise error(f"{source}: {loose[0]} stands outside a section; expected [data], [model], [training], …")
    overrides = overrides or {}
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if not section or not name:
            raise UsageError(f"{key!r} is no dotted key; expected SECTION.KEY=VALUE, such as training.epochs=1")
        tables.setdefault(section, {})[name] = value
    try:
        return Config.model_validate(tables)
    except ValidationError as problem:
        raise _explain(problem, text, source, set(overrides), error) from None


def parse_override(assignment: str) -> tuple[str, Any]:
    """Split ``training.epochs=1`` into key and value; the value is read as TOML, else as a plain string."""
    key, equals, raw = assignment.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {assignment!r}: expected KEY=VALUE, such as --set training.epochs=1")
    try:
        value = tomllib.loads(f"v = {raw.strip()}")["v"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    return key.strip(), value


def to_toml(config: Config) -> str:
    """Write the resolved configuration, every key stated, as TOML."""
    return tomli_w.dumps(config.model_dump())


def _read(recipe: str | Path, error: type[GatewiseError]) -> tuple[str, str]:
    """Return the TOML text and the name to give it in messages."""
    path = Path(recipe)
    if isinstance(recipe, str) and path.suffix != ".toml" and not path.is_file():
        return recipe_text(recipe), f"recipe {recipe}"
    try:
        return path.read_text(encoding="utf-8-sig"), str(path)
    except UnicodeDecodeError:
        raise error(f"{path}: bytes that are no UTF-8; expected a TOML file") from None
    except OSError as problem:
        raise error(f"{path}: cannot read it ({problem.strerror}); expected a TOML file") from None


def _explain(
    problem: ValidationError, text: str, source: str, overridden: set[str], error: type[GatewiseError]
) -> GatewiseError:
    """Turn pydantic's first finding into one line with its place."""
    first = problem.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if key in overridden or (key not in overridden and any(o.startswith(key + ".") for o in overridden)):
        where, error = "--set", UsageError
    else:
        line = _line_of(text, key)
        where = f"{source}:{line}" if line and source.endswith(".toml") else source
    if first["type"] == "extra_forbidden":
        known = _known_keys()
        return error(f"{where}: unknown key {key}{_nearest(key, known)}")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return error(f"{where}: [{key}] {message}")
    return error(f"{where}: {key} is {first['input']!r}; {message[0].lower()}{message[1:]}")


def _known_keys() -> list[str]:
    """Every dotted key, and the sections themselves."""
    keys = []
    for section, field in Config.model_fields.items():
        keys.append(section)
        assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        keys += [f"{section}.{name}" for name in field.annotation.model_fields]
    return keys


def _nearest(name: str, known: list[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not match:
        ending = name.rpartition(".")[2]
        match = [key for key in known if key.rpartition(".")[2] == ending][:1]
    return f"; did you mean {match[0]}?" if match else ""


def _line_of(text: str, key: str) -> int | None:
    """Find the line that sets a dotted key (or opens its section) in TOML text."""
    section, _, name = key.partition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\]]+)\]", line):
            current = header[1].strip()
            if not name and current == section:
                return number
        elif current == section and name and re.match(rf"\s*{re.escape(name)}\s*=", line):
            return number
    return None
