"""Makes the page of settings from the configuration: keys, types and defaults of its fields, and their docstrings."""

import ast
import inspect
import re
from typing import Annotated, Any, Literal, get_args, get_origin

from gatewise.config import schema

HEAD = """# Settings

Every key of a recipe, section by section, generated from `gatewise/config/schema.py`. A recipe is a TOML file
(`gatewise recipes NAME` prints one); `--set SECTION.KEY=VALUE` overrides a key. A key that the task does not read must
keep its default.
"""


def settings_page() -> str:
    """Return the page, in Markdown."""
    tree = ast.parse(inspect.getsource(schema))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    parts = [HEAD]
    for section, field in schema.Config.model_fields.items():
        kind: Any = field.annotation
        node = classes[kind.__name__]
        summary = (ast.get_docstring(node) or "").partition(": ")[2]
        parts.append(f"## [{section}]\n\n{markdown(summary[:1].upper() + summary[1:])}\n")
        texts = described(node)
        for key, entry in kind.model_fields.items():
            default = repr(entry.get_default(call_default_factory=True)).replace("'", '"').replace("True", "true")
            tasks = next((mark.tasks for mark in entry.metadata if isinstance(mark, schema.For)), ())
            facts = [type_name(entry.annotation), f"default `{default.replace('False', 'false')}`"]
            facts += [f"read by: {', '.join(tasks)}"] if tasks else []
            parts.append(f"### `{section}.{key}`\n\n*{'; '.join(facts)}*\n\n{markdown(texts[key])}\n")
    return "\n".join(parts)


def described(node: ast.ClassDef) -> dict[str, str]:
    """Return the text below each field of a class, by its name."""
    pairs = zip(node.body, node.body[1:], strict=False)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def type_name(kind: Any) -> str:
    """Return what may be written for a key: its choices, or the name of its type."""
    if get_origin(kind) is Annotated:
        return type_name(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f'`"{choice}"`' for choice in get_args(kind))
    if kind in (schema.Steps, schema.Choice):
        return "integer or span of time" if kind == schema.Steps else '`true`, `false` or `"auto"`'
    names = {str: "string", int: "integer", float: "number", bool: "`true` or `false`", list[str]: "list of strings"}
    return names[kind]


def markdown(text: str) -> str:
    """Return a docstring as Markdown: code between single backticks."""
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)
