"""Every gradient of every cell against central differences, by name."""

from itertools import product

import numpy as np
import pytest

from gatewise.reference import gradcheck
from gatewise.spec import CELLS, RecurrentSpec
from tests.reference.rig import KINK, Case, make_smooth
from tests.tolerances import FINITE_DIFFERENCES

RAGGED = (3, 0, 4)
MASKS = ("none", "steps", "batch", "some")
KINDS = [(cell, 0) for cell in CELLS] + [("lstm", 2)]
"""The cells, and the LSTM projected."""


def small(kind: tuple[str, int], num_layers: int, both: bool, ragged: bool, masks: str, bias: bool) -> Case:
    spec = RecurrentSpec(kind[0], 2, 3, num_layers, bias, both, kind[1])
    return Case(spec, lengths=RAGGED if ragged else None, masks=masks)


EVERY = [small(*options) for options in product(KINDS, (1, 2), (False, True), (False, True), MASKS, (True, False))]
QUICK = [
    small(kind, *options)
    for options in [
        (1, False, False, "none", True),
        (1, False, False, "steps", False),
        (1, True, True, "batch", True),
        (1, True, False, "some", True),
        (2, False, True, "some", False),
        (2, True, False, "steps", True),
    ]
    for kind in KINDS
]
AWKWARD = [
    Case(RecurrentSpec(cell, input_size, H, 2, bidirectional=both, proj_size=P), T, B, lengths, "steps")
    for cell, P, input_size, H, T, B, both, lengths in [
        *((cell, 0, 1, 1, 1, 1, False, None) for cell in CELLS),
        *((cell, 0, 2, 1, 3, 2, True, (0, 2)) for cell in CELLS),
        *((cell, 0, 3, 2, 2, 1, True, (1,)) for cell in CELLS),
        ("lstm", 1, 1, 2, 1, 1, True, None),
        ("lstm", 1, 2, 2, 3, 2, False, (2, 1)),
    ]
]


def assert_gradients_are_right(case: Case) -> None:
    problem = make_smooth(case)
    if case.spec.cell == "rnn_relu":
        assert np.abs(problem.pre_activations()).min() > KINK
    gradients = problem.gradients()
    assert {name: d.shape for name, d in gradients.items()} == {n: a.shape for n, a in problem.arrays.items()}
    assert gradcheck.check(problem.loss, problem.arrays, gradients, FINITE_DIFFERENCES) == {}


@pytest.mark.parametrize("case", QUICK + AWKWARD, ids=lambda case: case.name)
def test_every_gradient(case: Case) -> None:
    assert_gradients_are_right(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in EVERY if case not in QUICK], ids=lambda case: case.name)
def test_every_gradient_of_every_combination(case: Case) -> None:
    assert_gradients_are_right(case)
