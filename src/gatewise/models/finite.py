"""A check that the outputs of a model are finite."""

from torch import Tensor

from gatewise.errors import NotFinite


def check_finite(answers: Tensor, what: str) -> Tensor:
    """Return the outputs of a model after checking that they are finite.

    Raises:
        NotFinite: an output is not finite; without this check, the argmax of NaNs would look like a valid result.
    """
    if not bool(answers.isfinite().all()):
        raise NotFinite.of(what)
    return answers
