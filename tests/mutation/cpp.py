"""The mutants of a function in ``csrc/``, statement by statement: what ``mutants.py`` is for Python.

An assignment, or a number that is stored, is mutated as the same expression in Python is; a statement is left out, a
condition turned round, of a choice (``a ? b : c``) each side taken. Excluded are indices (``Index``, ``for``), the
making of buffers, prefetches, barriers, and what the portable instruction set does not compile.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.mutation.mutants import Mutant
from tests.mutation.mutants import mutants as of_python

STRUCTURE = re.compile(
    r"(const )?(Index|Steps|Mark|Rows<|Real\*|Factor\*|const Real\*\*|const bool far|constexpr|using|alignas)|"
    r"me\.|continue|fetch_"
)
"""How statements begin that make room, count, fetch or wait."""

NOT_COMPILED = "if constexpr (P::kInPairs)"
"""How a block begins that the portable instruction set does not have."""

POINTERS = "h_before["
"""How assignments begin whose value says where numbers stand."""

BODY = re.compile(r"\[&\]\([^()]*\) \{")
"""How a function begins that is written where it is given to a call."""

VALUES = {"store": 1, "P::put": 2, "Cell::backward": 4}
"""Calls, and which of their arguments is a number to be right or wrong."""


class Edit(NamedTuple):
    """A text put in the place of a part of the source."""

    start: int
    end: int
    text: str


class Statement(NamedTuple):
    """A part of the source: what stands before ``;``, or before ``{`` (a header)."""

    start: int
    end: int
    header: bool


def mutants(source: str, functions: list[str]) -> list[Mutant]:
    """Return every mutant of the named functions (``backward``, ``Lstm.backward``), by line, none twice.

    Raises:
        ValueError: a function is not there, or has no mutant.
    """
    found = dict[str, Mutant]()
    for name in functions:
        before = len(found)
        for statement in _statements(source, *_body(source, name)):
            original = _on_one_line(source[statement.start : statement.end])
            for edit in _edits(source, statement):
                whole = source[: edit.start] + edit.text + source[edit.end :]
                shift = len(edit.text) - (edit.end - edit.start)
                mutated = _on_one_line(whole[statement.start : statement.end + shift]) or "(left out)"
                line = source.count("\n", 0, statement.start) + 1
                found.setdefault(whole, Mutant(name, line, original, mutated, whole))
        if len(found) == before:
            raise ValueError(f"{name} has nothing to mutate")
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _on_one_line(text: str) -> str:
    return " ".join(re.sub(r"//.*", "", text).split())


def _body(source: str, name: str) -> tuple[int, int]:
    *owners, function = name.split(".")
    at = 0
    for owner in owners:
        at = _found(re.compile(rf"^struct {owner}\b", re.MULTILINE).search(source), name)
    start = _found(re.compile(rf"\bvoid {function}\(").search(source, at), name)
    opened = source.index("{", _closing(source, source.index("(", start)))
    return opened + 1, _closing(source, opened)


def _found(match: re.Match[str] | None, name: str) -> int:
    if match is None:
        raise ValueError(f"there is no {name} in the file")
    return match.start()


def _closing(source: str, opened: int) -> int:
    """Where the bracket closes that opens there."""
    depth = 0
    for at in range(opened, len(source)):
        depth += (source[at] in "([{") - (source[at] in ")]}")
        if depth == 0:
            return at
    raise ValueError("a bracket is not closed")


def _statements(source: str, start: int, end: int) -> Iterator[Statement]:
    at = begin = start
    while at < end:
        letter = source[at]
        if source.startswith("//", at):
            at = source.index("\n", at)
            if not source[begin:at].strip().startswith("//"):
                continue
            begin = at
        elif letter in "([" or (letter == "{" and re.search(r"(\w|= )$", source[begin:at])):  # of a call; a list
            closed = _closing(source, at)
            body = BODY.search(source, at, closed)  # given to a call: its statements, as of a loop
            at = body.end() - 2 if body else closed
        elif letter in ";{}":
            first = begin + len(source[begin:at]) - len(source[begin:at].lstrip())
            if source.startswith(NOT_COMPILED, first):
                at = _closing(source, at)
            elif source[first:at].strip(" \n)"):
                yield Statement(first, at, header=letter == "{")
            begin = at + 1
        at += 1


def _edits(source: str, statement: Statement) -> Iterator[Edit]:
    start, end, header = statement
    while match := re.match(r"(\} )?(else )?(if|for) \(", source[start:end]):
        opened = start + match.end() - 1
        closed = _closing(source, opened)
        if match[3] == "if":
            yield Edit(opened + 1, closed, f"!({source[opened + 1 : closed]})")
        start = closed + 1
        start += len(source[start:end]) - len(source[start:end].lstrip())
    text = source[start:end]
    if header or not text:
        return
    if text.startswith("const Real* "):  # a number read from one place or another
        yield from _choices(source, start, end)
    elif STRUCTURE.match(text):
        return
    elif call := re.match(r"([\w:]+)(<P>)?\(", text):
        yield Edit(start, end, "")
        if call[1] in VALUES:
            yield from _of_value(source, *_arguments(source, start + call.end() - 1)[VALUES[call[1]]])
    else:
        declared = re.match(r"(const )?V ", text)
        for first, last in _parts(source, start + (declared.end() if declared else 0), end):
            if assigned := re.search(r"[^<>=!]=\s", source[first:last]):
                if "[" in source[first : first + assigned.start()] and not declared:
                    yield Edit(start, end, "")
                of = _choices if text.startswith(POINTERS) else _of_value
                yield from of(source, first + assigned.end(), last)


def _parts(source: str, start: int, end: int) -> list[tuple[int, int]]:
    """What commas separate, without the blanks around it."""
    commas, at = [start - 1], start
    while at < end:
        if source[at] in "([{":
            at = _closing(source, at)
        elif source[at] == ",":
            commas.append(at)
        at += 1
    texts = [(a + 1, b) for a, b in zip(commas, [*commas[1:], end], strict=True)]
    return [(b - len(source[a:b].lstrip()), a + len(source[a:b].rstrip())) for a, b in texts]


def _arguments(source: str, opened: int) -> list[tuple[int, int]]:
    return _parts(source, opened + 1, _closing(source, opened))


def _choices(source: str, start: int, end: int) -> Iterator[Edit]:
    """Each side of each ``a ? b : c``, the inner ones first."""
    at = start
    while (at := source.find("?", at, end)) >= 0:
        first, depth = at, 0
        while first > start and not (depth == 0 and re.search(r"([(\[{,]|[^=<>!]= )$", source[start:first])):
            first -= 1
            depth += (source[first] in ")]}") - (source[first] in "([{")
        last, colon, depth, nested = at + 1, 0, 0, 0
        while last < end and not (depth == 0 and source[last] in ")]},;"):
            depth += (source[last] in "([{") - (source[last] in ")]}")
            nested += depth == 0 and source[last] == "?"
            if depth == 0 and source[last - 1 : last + 2] == " : ":
                colon, nested = (last, -1) if nested == 0 else (colon, nested - 1)
            last += 1
        for side in (source[at + 1 : colon], source[colon + 1 : last]):
            yield Edit(first, last, side.strip())
        at += 1


def _of_value(source: str, start: int, end: int) -> Iterator[Edit]:
    """What Python's mutants make of an expression; what is no Python in it stays as it is."""
    yield from _choices(source, start, end)
    text, kept = source[start:end], list[str]()

    def put_away(piece: str) -> str:
        kept.append(piece)
        return f"kept_{len(kept) - 1}_"

    at, plain = 0, ""
    while at < len(text):
        match = re.compile(r"V\{\}|load\(|\((?=[^()]*\?)").match(text, at)
        if match is None:
            plain += text[at]
            at += 1
            continue
        last = match.end() if match[0] == "V{}" else _closing(text, match.end() - 1) + 1
        plain += put_away(text[at:last])
        at = last
    if "?" in plain or "{" in plain:  # a choice as a whole, a list
        if "{" not in plain:
            yield from (Edit(start, end, f"{sign}({text})") for sign in ("0 * ", "-"))
        return
    try:
        found = of_python(f"def value():\n    x = {plain}\n", ["value"])
    except ValueError:  # a constant
        return
    for mutant in found:
        mutated = mutant.mutated.removeprefix("x = ")
        yield Edit(start, end, re.sub(r"kept_(\d+)_", lambda k: kept[int(k[1])], mutated))
