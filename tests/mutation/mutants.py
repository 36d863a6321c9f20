"""A function's mutants: one term deleted, one sign turned, one factor dropped, one assignment left out at a time.

What is excluded, because it is no term of a derivative or changes nothing that a result can show: shapes, dtypes,
indices, the making of buffers, copies, and a returned name that was assigned (and mutated) above.
"""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

STRUCTURE = {
    *("len", "range", "slice", "list", "tuple", "dict", "set", "zip", "enumerate", "isinstance", "cast"),
    *("zeros", "zeros_like", "ones", "ones_like", "empty", "empty_like", "full", "full_like", "arange", "eye"),
    *("new_empty", "new_zeros", "size", "dim", "split", "chunk", "unbind", "plan", "issubdtype", "removeprefix"),
}
"""Calls that make room or take apart; inside them only a choice (``a if b else c``) is mutated."""

OF_A_SHAPE = {"reshape", "view", "sum", "mean", "max", "unsqueeze", "transpose"}
"""Methods whose arguments are sizes and axes."""

PROPERTIES = {"shape", "dtype", "device", "ndim"}
OPPOSITE: dict[type[ast.AST], type[ast.AST]] = {
    one: other
    for pair in [
        *((ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Gt, ast.LtE), (ast.Lt, ast.GtE), (ast.Eq, ast.NotEq)),
        *((ast.Is, ast.IsNot), (ast.In, ast.NotIn)),
    ]
    for one, other in (pair, pair[::-1])
}
SCALED = {
    **dict.fromkeys(("add_", "sub_", "addmm_", "addbmm_", "baddbmm_", "addmv_", "addmm", "baddbmm"), "alpha"),
    **dict.fromkeys(("addcmul_", "addcdiv_", "addcmul", "addcdiv"), "value"),
}
"""Calls that add a term, and their keyword by which it is multiplied."""

INTO = {"out", "grad_input"}
"""Keywords for the array that a call writes."""

NEUTRAL = {
    **dict.fromkeys(("mul", "multiply"), "ones_like"),
    **dict.fromkeys(("add", "sub", "subtract"), "zeros_like"),
}
"""Functions of two arrays, and what stands for one of them that is left out."""


class Mutant(NamedTuple):
    """A whole source text in which one thing is wrong."""

    function: str
    line: int
    original: str
    mutated: str
    source: str


class Slot(NamedTuple):
    """A place in the syntax tree: a field of a node, or an entry of a list."""

    owner: Any
    key: str | int

    def get(self) -> Any:
        return self.owner[self.key] if isinstance(self.key, int) else getattr(self.owner, self.key)

    def put(self, node: Any) -> None:
        if isinstance(self.key, int):
            self.owner[self.key] = node
        else:
            setattr(self.owner, self.key, node)

    @contextmanager
    def holding(self, node: Any) -> Iterator[None]:
        kept = self.get()
        self.put(node)
        yield
        self.put(kept)


class Edit(NamedTuple):
    """A node put in a slot's place."""

    slot: Slot
    node: Any


def mutants(source: str, functions: list[str]) -> list[Mutant]:
    """Return every mutant of the named functions (``backward``, ``Class.backward``), by line, none twice.

    Raises:
        ValueError: a function is not there, or has no mutant.
    """
    tree, found = ast.parse(source), dict[str, Mutant]()
    for name in functions:
        before = len(found)
        for block, k in _statements(_function(tree, name)):
            statement = block[k]
            text = _headline(statement)
            for slot, node in _statement_edits(block, k):
                with slot.holding(node):
                    mutated = "(left out)" if isinstance(block[k], ast.Pass) else _headline(block[k])
                    whole = ast.unparse(tree) + "\n"
                if mutated != text:
                    found.setdefault(whole, Mutant(name, statement.lineno, text, mutated, whole))
        if len(found) == before:
            raise ValueError(f"{name} has nothing to mutate")
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _function(tree: ast.Module, name: str) -> ast.FunctionDef:
    block: list[ast.stmt] = tree.body
    for part in name.split("."):
        node = next((n for n in block if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part), None)
        if node is None:
            raise ValueError(f"there is no {name} in the file")
        block = node.body
    assert isinstance(node, ast.FunctionDef)
    return node


def _headline(statement: ast.stmt) -> str:
    return ast.unparse(statement).splitlines()[0]


def _statements(function: ast.FunctionDef) -> Iterator[tuple[list[ast.stmt], int]]:
    for owner in ast.walk(function):
        for field in ("body", "orelse"):
            block = getattr(owner, field, None)
            if isinstance(block, list):
                yield from ((block, k) for k in range(len(block)))


def _statement_edits(block: list[ast.stmt], k: int) -> Iterator[Edit]:
    statement, left_out = block[k], Edit(Slot(block, k), ast.Pass())
    match statement:
        case ast.Expr(ast.Call() as call):
            yield left_out
            yield from _in_place(Slot(statement, "value"), call, whole=True)
            yield from _inside(Slot(statement, "value"), outermost=True)
        case ast.Assign(targets):
            stored = [target for target in targets if isinstance(target, ast.Subscript)]
            if stored and len(targets) == 1:
                yield left_out
            elif stored:
                yield from (Edit(Slot(statement, "targets"), [t for t in targets if t is not out]) for out in stored)
            apart = isinstance(targets[0], ast.Tuple) and not isinstance(statement.value, ast.Tuple)
            yield from _term(Slot(statement, "value"), whole=not apart)
        case ast.AugAssign(op=op):
            yield left_out
            if type(op) in OPPOSITE:
                yield Edit(Slot(statement, "op"), OPPOSITE[type(op)]())
            yield from _term(Slot(statement, "value"), whole=False)
        case ast.AnnAssign(value=ast.expr()):
            yield from _term(Slot(statement, "value"))
        case ast.Return(value=ast.expr() as value):
            yield from _term(Slot(statement, "value"), whole=not isinstance(value, ast.Name))
        case ast.If() | ast.While():
            yield from _comparisons(statement.test)
        case ast.For(iter=ast.Call(ast.Name("reversed"), [inner])):
            yield Edit(Slot(statement, "iter"), inner)


def _term(slot: Slot, whole: bool = True) -> Iterator[Edit]:
    """What is assigned or returned: zero, negated, and what ``_inside`` finds; of a tuple each entry."""
    node = slot.get()
    match node:
        case ast.Tuple(elts) | ast.List(elts):
            for k in range(len(elts)):
                yield from _term(Slot(elts, k))
        case ast.Starred():
            yield from _term(Slot(node, "value"), whole=False)
        case ast.DictComp():
            yield from _term(Slot(node, "value"))
        case ast.ListComp() | ast.GeneratorExp():
            yield from _term(Slot(node, "elt"))
        case ast.Dict(values=values):
            for k in range(len(values)):
                yield from _term(Slot(values, k))
        case ast.IfExp():
            yield Edit(slot, node.body)
            yield Edit(slot, node.orelse)
            yield from _term(Slot(node, "body"), whole)
            yield from _term(Slot(node, "orelse"), whole)
        case ast.Constant():
            return
        case ast.Compare() | ast.BoolOp():
            yield from _comparisons(node)
        case ast.Call() if _name(node)[:1].isupper():  # a tuple with names
            for k in range(len(node.args)):
                yield from _term(Slot(node.args, k))
            for keyword in node.keywords:
                yield from _term(Slot(keyword, "value"))
        case _ if _is_structure(node):
            for inner in ast.walk(node):
                for field, value in ast.iter_fields(inner):
                    places = [Slot(value, k) for k in range(len(value))] if isinstance(value, list) else []
                    for place in places or [Slot(inner, field)]:
                        if isinstance(choice := place.get(), ast.IfExp):
                            yield Edit(place, choice.body)
                            yield Edit(place, choice.orelse)
        case _:
            if whole:
                yield Edit(slot, ast.BinOp(ast.Constant(0), ast.Mult(), node))
                yield Edit(slot, ast.UnaryOp(ast.USub(), node))
            if isinstance(node, ast.Call):
                yield from _in_place(slot, node, whole=False)
            yield from _inside(slot, outermost=True)


def _inside(slot: Slot, outermost: bool = False) -> Iterator[Edit]:
    """Terms deleted or negated, factors dropped, within an expression."""
    node = slot.get()
    match node:
        case _ if _is_structure(node):
            return
        case ast.BinOp(left, op, right):
            match op:
                case ast.Add():
                    yield from (Edit(slot, left), Edit(slot, right))
                    yield Edit(Slot(node, "op"), ast.Sub())
                    yield Edit(Slot(node, "left"), ast.UnaryOp(ast.USub(), left))
                case ast.Sub():
                    yield from (Edit(slot, left), Edit(slot, ast.UnaryOp(ast.USub(), right)))
                    yield Edit(Slot(node, "op"), ast.Add())
                case ast.Mult():
                    yield from (Edit(slot, left), Edit(slot, right))
                case ast.Div() | ast.Pow():
                    yield Edit(slot, left)
            yield from _inside(Slot(node, "left"))
            yield from _inside(Slot(node, "right"))
        case ast.UnaryOp(ast.USub(), operand):
            yield Edit(slot, operand)
            yield from _inside(Slot(node, "operand"))
        case ast.Compare() | ast.BoolOp():
            yield from _comparisons(node)
        case ast.IfExp() | ast.Tuple() | ast.List():
            yield from _term(slot)
        case ast.Subscript(value=ast.Subscript() as inner, slice=ast.Name()):
            yield Edit(slot, inner)  # x[rows][way] → x[rows]
        case ast.Subscript() | ast.Attribute() | ast.Starred():
            yield from _inside(Slot(node, "value"))
        case ast.Call(func=func, args=args, keywords=keywords):
            if not outermost:
                yield from _in_place(slot, node, whole=False)
            if isinstance(func, ast.Attribute):
                if func.attr == "sum":
                    yield Edit(Slot(func, "attr"), "mean")
                yield from _inside(Slot(func, "value"))
            for k in range(len(args) if _name(node) not in OF_A_SHAPE else 0):
                yield from _inside(Slot(args, k))
            for keyword in keywords:  # handed on under its own name
                if isinstance(keyword.value, ast.Name) and keyword.value.id == keyword.arg and keyword.arg not in INTO:
                    yield Edit(Slot(node, "keywords"), [other for other in keywords if other is not keyword])


def _in_place(slot: Slot, call: ast.Call, whole: bool) -> Iterator[Edit]:
    """Calls that change an array, or add or multiply under a name of their own; ``whole``: a statement by itself."""
    name, args = _name(call), call.args
    module = getattr(call.func.value, "id", "") if isinstance(call.func, ast.Attribute) else ""
    into = next((keyword.value for keyword in call.keywords if keyword.arg in INTO), None)
    if isinstance(call.func, ast.Name) and any(keyword.arg == "out" for keyword in call.keywords):
        module = "np"  # a function of NumPy's under a local name
    method = call.func.value if isinstance(call.func, ast.Attribute) and name.endswith("_") else None
    if name in SCALED:
        kept = [keyword for keyword in call.keywords if keyword.arg != SCALED[name]]
        old = next((keyword.value for keyword in call.keywords if keyword.arg == SCALED[name]), ast.Constant(1))
        for factor in (ast.UnaryOp(ast.USub(), old), *(() if whole else (ast.Constant(0),))):
            yield Edit(Slot(call, "keywords"), [*kept, ast.keyword(SCALED[name], factor)])
        if name == "addcmul_" and method is not None:
            for k in (0, 1):
                yield Edit(slot, ast.Call(ast.Attribute(method, "add_"), [args[k]], []))
    elif method is not None:
        yield Edit(slot, _negated(call))
        if not whole:
            yield Edit(slot, method)
    elif into is not None and module == "np":
        yield Edit(slot, ast.Call(ast.Attribute(ast.Name("np"), "negative"), [call], [ast.keyword("out", into)]))
    elif into is not None:
        yield Edit(slot, _negated(call))
    elif whole and args:
        yield Edit(Slot(args, len(args) - 1), ast.UnaryOp(ast.USub(), args[-1]))
    if name in ("sigmoid_backward", "tanh_backward"):  # the gradient is a factor
        yield Edit(Slot(args, 0), ast.Call(ast.Attribute(ast.Name("torch"), "ones_like"), [args[0]], []))
    if module in ("torch", "np") and name in NEUTRAL:
        for k in (0, 1):
            neutral = ast.Call(ast.Attribute(ast.Name(module), NEUTRAL[name]), [args[k]], [])
            if not isinstance(args[k], ast.Constant):
                yield Edit(Slot(args, k), neutral)


def _comparisons(test: ast.expr) -> Iterator[Edit]:
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            yield from (Edit(Slot(node.ops, k), OPPOSITE[type(op)]()) for k, op in enumerate(node.ops))


def _negated(call: ast.Call) -> ast.Call:
    return ast.Call(ast.Attribute(call, "neg_"), [], [])


def _name(call: ast.Call) -> str:
    """The last part of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_structure(node: ast.AST) -> bool:
    """Whether this is a shape, a dtype, a buffer or an index rather than a number to be right or wrong."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        if isinstance(node, ast.Attribute) and node.attr in PROPERTIES:
            return True
        node = node.value
    # dict[str, Array]() has no name and makes an empty dict.
    return isinstance(node, ast.Call) and (_name(node) in STRUCTURE or not _name(node))
