"""A model's answers, looked at before anybody relies on them."""

from torch import Tensor

from gatewise.errors import NotFinite


def check_finite(answers: Tensor, what: str) -> Tensor:
    """Return a model's answers, all of them finite.

    Raises:
        NotFinite: one is not: the largest of NaNs, too, would look like an answer.
    """
    if not bool(answers.isfinite().all()):
        raise NotFinite(
            f"{what} are not finite: the weights or the input are too large to compute with; scale the input as in "
            "training, or train again with a lower training.learning_rate"
        )
    return answers
