"""The mutation run itself: which mutants are made, and that what survives is seen."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation import run
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.table import Verdict, kept, rows_of, write_table


def made_of(*lines: str) -> list[str]:
    """What each mutant of a function with these lines has instead."""
    source = "def backward(dy):\n" + "".join(f"    {line}\n" for line in lines)
    found = mutants(source, ["backward"])
    plain = ast.unparse(ast.parse(source)).splitlines()
    for mutant in found:
        changed = [(a, b) for a, b in zip(plain, mutant.source.splitlines(), strict=False) if a != b]
        assert changed and changed[0][0].strip() == mutant.original  # what went before was put back
    return [mutant.mutated for mutant in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("da = h * (1 - z)", ["0 * (h * (1 - z))", "-(h * (1 - z))", "h", "1 - z", "h * 1", "h * -z", "h * (1 + z)"]),
        ("da = a + b @ c", ["0 * (a + b @ c)", "-(a + b @ c)", "a", "b @ c", "a - b @ c", "-a + b @ c"]),
        ("da = a / b ** 2", ["0 * (a / b ** 2)", "-(a / b ** 2)", "a", "a / b"]),
        ("da = -(a * b)", ["0 * -(a * b)", "--(a * b)", "a * b", "-a", "-b"]),
        ("da = a.sum((0, 1))", ["0 * a.sum((0, 1))", "-a.sum((0, 1))", "a.mean((0, 1))"]),
        ("da = outer(a, m * h)", ["0 * outer(a, m * h)", "-outer(a, m * h)", "outer(a, m)", "outer(a, h)"]),
        ("da = dh * (h[t] > 0)", ["0 * (dh * (h[t] > 0))", "-(dh * (h[t] > 0))", "dh", "h[t] > 0", "dh * (h[t] <= 0)"]),
        ("da = a if b is None else c", ["a", "c", *(f"{x} if b is None else {y}" for x, y in
            [("0 * a", "c"), ("-a", "c"), ("a", "0 * c"), ("a", "-c")])]),
        ("da = dy[:n, rows][way]", ["0 * dy[:n, rows][way]", "-dy[:n, rows][way]", "dy[:n, rows]"]),
        ("da = slice(None, None, -1 if reverse else 1)", ["slice(None, None, -1)", "slice(None, None, 1)"]),
        ("da = f(a, mask=mask)", ["0 * f(a, mask=mask)", "-f(a, mask=mask)", "f(a)"]),
        ("da = torch.add(a, b)", ["0 * torch.add(a, b)", "-torch.add(a, b)", "torch.add(torch.zeros_like(a), b)",
            "torch.add(a, torch.zeros_like(b))"]),
        ("da = [k * l]", ["[0 * (k * l)]", "[-(k * l)]", "[k]", "[l]"]),
    ],
)  # fmt: skip
def test_of_a_value(line: str, expected: list[str]) -> None:
    assert made_of(line) == [f"da = {value}" for value in expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x[t] = a", ["(left out)", "x[t] = 0 * a", "x[t] = -a"]),
        ("x[t] = y[t] = a", ["y[t] = a", "x[t] = a", "x[t] = y[t] = 0 * a", "x[t] = y[t] = -a"]),
        ("x += a * b", ["(left out)", "x -= a * b", "x += a", "x += b"]),
        ("x[k] -= 1", ["(left out)", "x[k] += 1"]),
        ("x /= a", ["(left out)", "x *= a"]),
        ("x |= {k: d for k, d in named}", ["(left out)",
            *(f"x |= {{k: {d} for k, d in named}}" for d in ("0 * d", "-d"))]),
        ("x, T = (a.copy(), len(a))", ["x, T = (0 * a.copy(), len(a))", "x, T = (-a.copy(), len(a))"]),
        ("c.mul_(f)", ["(left out)", "c.mul_(f).neg_()"]),
        ("c.add_(a)", ["(left out)", "c.add_(a, alpha=-1)"]),
        ("c.addmm_(a, b, alpha=2)", ["(left out)", "c.addmm_(a, b, alpha=-2)"]),
        ("c.addcmul_(a, b)", ["(left out)", "c.addcmul_(a, b, value=-1)", "c.add_(a)", "c.add_(b)"]),
        ("torch.mul(a, b, out=c)", ["(left out)", "torch.mul(a, b, out=c).neg_()",
            "torch.mul(torch.ones_like(a), b, out=c)", "torch.mul(a, torch.ones_like(b), out=c)"]),
        ("torch.tanh(a, out=c).mul_(o)", ["(left out)", "torch.tanh(a, out=c).mul_(o).neg_()",
            "torch.tanh(a, out=c).neg_().mul_(o)"]),
        ("tanh_backward(d, y, grad_input=c)", ["(left out)", "tanh_backward(d, y, grad_input=c).neg_()",
            "tanh_backward(torch.ones_like(d), y, grad_input=c)"]),
        ("np.exp(a, out=c)", ["(left out)", "np.negative(np.exp(a, out=c), out=c)"]),
        ("add(a, b, out=c)", ["(left out)", "np.negative(add(a, b, out=c), out=c)", "add(np.zeros_like(a), b, out=c)",
            "add(a, np.zeros_like(b), out=c)"]),
        ("set_product(c, a, b)", ["(left out)", "set_product(c, a, -b)"]),
        ("np.add.at(c, k, a)", ["(left out)", "np.add.at(c, k, -a)"]),
        ("return G(a, None)", ["return G(0 * a, None)", "return G(-a, None)"]),
    ],
)  # fmt: skip
def test_of_a_statement(line: str, expected: list[str]) -> None:
    assert made_of(line) == expected


def test_of_loops_and_conditions() -> None:
    found = made_of("for t in reversed(range(T)):", "    if m is not None and a > 0:", "        c.neg_()")
    assert found[:3] == ["for t in range(T):", "if m is None and a > 0:", "if m is not None and a <= 0:"]


def test_what_is_no_term_is_left_alone() -> None:
    lines = ['"""Text."""', "T, H = (len(c), c.shape[-1])", "x = np.empty((2 * H, T))", "a, b = tape", "return x"]
    with pytest.raises(ValueError, match="nothing to mutate"):
        made_of(*lines)


def test_functions_are_found_in_their_classes() -> None:
    source = "class Engine:\n    def backward(self):\n        return -a\n\ndef backward():\n    return b * c\n"
    assert {m.original for m in mutants(source, ["Engine.backward"])} == {"return -a"}
    assert {m.original for m in mutants(source, ["backward"])} == {"return b * c"}
    with pytest.raises(ValueError, match=r"no Engine\.forward"):
        mutants(source, ["Engine.forward"])


CHECK = "from gatewise.toy import backward\n\ndef test_toy():\n    assert backward(2, 3) == {expected}\n"
PROGRAM = """
import sys
from pathlib import Path
from tests.mutation import run

run.ROOT, run.PRELOADED = Path(sys.argv[1]), ()
run.TARGETS = [run.Target("toy.py", ["backward"], ["test_toy.py"])]
run.EQUIVALENT = {("toy.py", "return a + b", f"return a {operator} b"): "b is 0" for operator in sys.argv[2]}
sys.argv[1:] = ["--verbose", "--out", str(run.ROOT / "out")]
sys.exit(run.main())
"""


def run_on(project: Path, test: str, equivalent: str = "") -> subprocess.CompletedProcess[str]:
    """Run it on a project of one function, ``return a + b``, and one test."""
    package = project / "src" / "gatewise"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "toy.py").write_text("def backward(a, b):\n    return a + b\n", encoding="utf-8")
    (project / "pytest.ini").write_text("[pytest]\nmarkers = slow\n", encoding="utf-8")
    (project / "test_toy.py").write_text(test, encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM, str(project), equivalent]
    return subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True, check=False)


def test_all_killed(tmp_path: Path) -> None:
    ran = run_on(tmp_path, CHECK.format(expected="5"))
    assert ran.returncode == 0, ran.stderr
    table = (tmp_path / "out" / "mutations.md").read_text(encoding="utf-8")
    assert "| toy.py | 6 | 6 | 6 | 0 | 0 |" in table
    line = "killed by test_toy.py::test_toy: toy.py:2 backward: return a + b  ->  return a - b"
    assert line in ran.stdout
    assert (tmp_path / "src" / "gatewise" / "toy.py").read_text(encoding="utf-8").endswith("return a + b\n")


def test_survivors_are_named_and_the_status_is_1(tmp_path: Path) -> None:
    ran = run_on(tmp_path, CHECK.format(expected="backward(2, 3)"), equivalent="-")
    assert ran.returncode == 1, ran.stderr
    assert "SURVIVED toy.py:2 backward: return a + b  ->  return b" in ran.stdout
    assert "5 mutants, 5 survived" in ran.stdout  # the equivalent one is not run
    assert "- `SURVIVED toy.py:2 backward" in (tmp_path / "out" / "mutations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("test", "equivalent", "message"),
    [
        (CHECK.format(expected="6"), "", "as it is"),
        ("def test_nothing():\n    assert True\n", "", "was not imported"),
        (CHECK.format(expected="5"), "%", "not made"),
    ],
    ids=["fails anyway", "tests something else", "excludes what is not there"],
)
def test_a_run_that_means_nothing_stops(tmp_path: Path, test: str, equivalent: str, message: str) -> None:
    ran = run_on(tmp_path, test, equivalent)
    assert ran.returncode == 1 and message in ran.stderr
    assert not (tmp_path / "out").exists()


def test_rows_of_files_that_are_not_run_again_stay_while_their_mutants_are_the_same(tmp_path: Path) -> None:
    def verdicts(file: str, made: list[Mutant]) -> list[Verdict]:
        return [Verdict(file, *mutant[:4], "test_toy.py::test_toy", "assert 1 == 2") for mutant in made]

    made = {
        "sum.py": mutants("def backward(a, b):\n    return a + b\n", ["backward"]),
        "product.py": mutants("def backward(a, b):\n    return a * b\n", ["backward"]),
    }
    assert not kept(tmp_path, made)
    for name in ("product.py", "sum.py"):
        rows = kept(tmp_path, made) | rows_of(verdicts(name, made[name]), {}, made)
        write_table(rows, list(made), tmp_path)
    table = (tmp_path / "mutations.md").read_text(encoding="utf-8")
    assert [line.split()[1] for line in table.splitlines() if ".py | " in line] == ["sum.py", "product.py"]
    assert "| all | 10 | 10 | 10 | 0 | 0 | |" in table
    moved = {**made, "product.py": mutants("\n\ndef backward(a, b):\n    return a * b\n", ["backward"])}
    assert kept(tmp_path, moved).keys() == made.keys()
    fewer = {**made, "product.py": made["product.py"][1:]}  # one has been listed as equivalent
    assert kept(tmp_path, fewer).keys() == {"sum.py"}
    changed = {**made, "product.py": mutants("def backward(a, b):\n    return b * a\n", ["backward"])}
    assert kept(tmp_path, changed).keys() == {"sum.py"}
