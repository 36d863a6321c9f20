"""The mutants of C++: which are made of a statement, and that those of csrc are there."""

import pytest

from tests.mutation import run
from tests.mutation.cpp import mutants


def made_of(*lines: str) -> list[str]:
    """What each mutant of a function with these lines has instead."""
    source = "struct Cell {\n    static void backward(const V* a, V& b) {\n" + "\n".join(lines) + "\n    }\n};\n"
    found = mutants(source, ["Cell.backward"])
    assert all(mutant.source != source for mutant in found)
    assert {mutant.line for mutant in found} <= set(range(3, 3 + len(lines)))
    return [mutant.mutated for mutant in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("V a = b * c;  // (7)", ["V a = 0 * (b * c)", "V a = -(b * c)", "V a = b", "V a = c"]),
        ("V a = b, c = tanh(d);", ["V a = 0 * b, c = tanh(d)", "V a = -b, c = tanh(d)", "V a = b, c = 0 * tanh(d)",
            "V a = b, c = -tanh(d)"]),
        ("da[0] = b;", ["(left out)", "da[0] = 0 * b", "da[0] = -b"]),
        ("d = d * load(m + w, count);", ["d = 0 * (d * load(m + w, count))", "d = -(d * load(m + w, count))", "d = d",
            "d = load(m + w, count)"]),
        ("store(to + at * H, d, count);", ["(left out)", "store(to + at * H, 0 * d, count)",
            "store(to + at * H, -d, count)"]),
        ("if (m) clear(x, 0);", ["if (!(m)) clear(x, 0)", "if (m)"]),
        ("V a = p == q ? b : V{};", ["V a = b", "V a = V{}", "V a = 0 * (p == q ? b : V{})",
            "V a = -(p == q ? b : V{})"]),
        ("V a = h * (h <= V{} ? V{} : g);", ["V a = h * (V{})", "V a = h * (g)", "V a = 0 * (h * (h <= V{} ? V{} : g))",
            "V a = -(h * (h <= V{} ? V{} : g))", "V a = h", "V a = (h <= V{} ? V{} : g)"]),
        ("const Real* from = a ? (b ? c : d) : e;", ["const Real* from = (b ? c : d)", "const Real* from = e",
            "const Real* from = a ? (c) : e", "const Real* from = a ? (d) : e"]),
        ("for (Index g = 0; g < G; ++g) sums[g] = da[g];", ["for (Index g = 0; g < G; ++g)",
            "for (Index g = 0; g < G; ++g) sums[g] = 0 * da[g]", "for (Index g = 0; g < G; ++g) sums[g] = -da[g]"]),
        ("multiply<P>({H, I, {da, width, nullptr}, false}, me);", ["(left out)"]),
    ],
)  # fmt: skip
def test_of_a_statement(line: str, expected: list[str]) -> None:
    assert made_of(line) == expected


def test_blocks_are_looked_into() -> None:
    found = made_of("if (s < 0) {", "    store(to, d, n);", "} else {  // a remark; with a sign", "    d = e;", "}")
    assert found == ["if (!(s < 0))", "(left out)", "store(to, 0 * d, n)", "store(to, -d, n)", "d = 0 * e", "d = -e"]


def test_a_function_given_to_a_call_is_looked_into() -> None:
    found = made_of(
        "part.step(s, [&](Index block, const Group& group) {", "    const Index n = a;", "    d = e;", "});"
    )
    assert found == ["d = 0 * e", "d = -e"]


def test_indices_buffers_and_barriers_are_left_alone() -> None:
    lines = ["const Index n = s > 0 ? a : b;", "Real* x = me.shared<Real>(n * H);", "me.barrier();", "// d = e;"]
    lines += ["if constexpr (P::kInPairs) {", "if (a) {", "d = e;", "}", "}", "fetch_row(a);"]
    with pytest.raises(ValueError, match="nothing to mutate"):
        made_of(*lines)
    with pytest.raises(ValueError, match=r"no Other\.backward"):
        mutants("struct Cell {};", ["Other.backward"])


@pytest.mark.parametrize("target", [target for target in run.TARGETS if target.native], ids=lambda target: target.file)
def test_the_native_engines_backward_passes_have_their_mutants(target: run.Target) -> None:
    found = [*run.wanted(target)]
    assert len(found) > 100
    lines = (run.ROOT / target.path).read_text(encoding="utf-8").splitlines()
    assert all(mutant.original[:12] in " ".join(lines[mutant.line - 1].split()) for mutant in found)
