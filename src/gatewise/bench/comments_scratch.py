"""``gatewise bench comments-scratch``: training speed against dense algebra, and a tutorial's faults and their cost."""

from collections.abc import Callable, Collection, Mapping
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import Any

import numpy as np

from gatewise.bench.comments_scratch_dense import FAULTS, DenseLSTM
from gatewise.bench.harness import Runner, agree, in_turns, ratios
from gatewise.config import load_config
from gatewise.reference import Array, cross_entropy, gradcheck, stack
from gatewise.scratch import ScratchModel, initial_weights
from gatewise.spec import RecurrentSpec
from gatewise.tasks.scratch import ScratchData

SENTENCES = 200
EPOCHS = 3
SECONDS_A_TURN = 2.0
_CHECKED = 3
_FLOAT64 = 1e-9  # relative to the largest entry; the summation order differs
_FLOAT32 = 1e-5


class Steps:
    """The work of a runner: SGD steps on sentences.

    Args:
        arguments: the model's class, its initial weights, the sentences and the learning rate.
    """

    def __init__(
        self, arguments: tuple[type[ScratchModel] | type[DenseLSTM], dict[str, Array], list[list[int]], float]
    ) -> None:
        self.kind, self.weights, self.sentences, self.learning_rate = arguments

    def losses(self) -> Array:
        """Return the losses of the first sentences before any step."""
        model = self.kind(self.weights)
        return np.array([model.gradients(sentence)[0] for sentence in self.sentences[:5]])

    def run(self, steps: int) -> float:
        """Do steps from the initial weights and the first sentence, wrapping around; return their seconds."""
        model, following = self.kind(self.weights), cycle(self.sentences)
        model.gradients(self.sentences[0])
        with np.errstate(over="ignore"):  # the faults saturate the gates
            return timeit(lambda: model.step(next(following), self.learning_rate), number=steps)


def bench_speed(data: str | Path, *, threads: int = 1, turns: int = 5) -> dict[str, Any]:
    """Time training steps on the first 200 sentences: ours in float32 and the dense program's in float64, in turns.

    First checks on some sentences in float64 that the losses of ours, the dense program and the reference are equal,
    and that every gradient of ours, the reference and the dense program without its faults is equal.

    Args:
        data: a CSV file of comments.
        threads: NumPy threads for matrix products, in each program; 0 uses NumPy's default.
        turns: number of timings of each.

    Returns:
        Tokens per second of each (median), their ratio (median over the turns), and seconds per step in each turn.

    Raises:
        OutputsDiffer: a check failed.
    """
    sentences, weights, learning_rate = _start(data)
    for sentence in sentences[:_CHECKED]:
        _check(sentence, {name: weight.astype(float) for name, weight in weights.items()})
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    environment = dict.fromkeys(names, str(threads)) if threads else {}
    kinds = [(kind, weights, sentences, learning_rate) for kind in (ScratchModel, DenseLSTM)]
    with Runner(Steps, kinds[0], environment) as ours, Runner(Steps, kinds[1], environment) as peer:
        _losses_agree(ours.ask("losses"), peer.ask("losses"))
        steps, seconds = in_turns({"ours": ours.run, "dense": peer.run}, turns, SECONDS_A_TURN)
    tokens = sum(len(sentence) - 1 for sentence in islice(cycle(sentences), steps)) / steps
    return {
        "bench": "comments-scratch",
        "sentences": min(steps, len(sentences)),
        "threads": threads,
        **{f"{side}_tokens_per_second": tokens / median(taken) for side, taken in seconds.items()},
        **{f"{side}_seconds": taken for side, taken in seconds.items()},
        **ratios(seconds["ours"], seconds["dense"]),
    }


def check_faults() -> dict[str, dict[str, float]]:
    """Compare the dense program's gradients with central differences: without faults, with each fault, with all.

    The model is small (11 words, 4 units, float64), its weights are drawn from a fixed seed, and one word of the
    sentence occurs twice.

    Returns:
        For ``ours``, ``none``, each fault and ``all``: the names of the wrong gradients, each with its largest
            difference relative to the largest true derivative by that weight; empty if all are correct.
    """
    arrays = {name: 4 * weight.astype(float) for name, weight in initial_weights(11, 4, seed=1).items()}
    del arrays["rnn.bias_hh_l0"]
    sentence = [0, 5, 9, 7, 5, 3, 8, 1]

    def failures(gradients: Mapping[str, Array]) -> dict[str, float]:
        return gradcheck.check(lambda: DenseLSTM(arrays).forward(sentence)[0], arrays, gradients)

    found = {"ours": failures(ScratchModel(arrays).gradients(sentence)[1])}
    for name, faults in _variants().items():
        found[name] = failures(DenseLSTM(arrays, faults).gradients(sentence)[1])
    return found


def compare_losses(
    data: str | Path,
    *,
    sentences: int = SENTENCES,
    epochs: int = EPOCHS,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, list[float]]:
    """Train from equal weights with the true gradients (ours, float32), each fault, and all faults (dense, float64).

    Args:
        data: a CSV file of comments.
        sentences: number of sentences, from the start of the file.
        epochs: number of epochs; where the loss rises, the learning rate is halved, as in the recipe.
        report: called with one line after each training.

    Returns:
        For ``ours``, each fault and ``all``: the mean nll in nats per token over the sentences before the first epoch
        and after each epoch.
    """
    texts, weights, learning_rate = _start(data, sentences)
    losses = {}
    variants = {name: faults for name, faults in _variants().items() if faults}
    for name, faults in {"ours": None, **variants}.items():
        model: ScratchModel | DenseLSTM = ScratchModel(weights) if faults is None else DenseLSTM(weights, faults)
        rate, line = learning_rate, [_loss(model, texts)]
        for _ in range(epochs):
            with np.errstate(over="ignore"):  # a fault may saturate the gates
                for sentence in texts:
                    model.step(sentence, rate)
            line.append(_loss(model, texts))
            rate *= 0.5 if line[-1] > line[-2] else 1.0
        losses[name] = line
        report(f"{name}: {'  '.join(f'{loss:.4f}' for loss in line)}")
    return losses


def _variants() -> dict[str, Collection[str]]:
    return {"none": (), **{name: (name,) for name in FAULTS}, "all": tuple(FAULTS)}


def _start(data: str | Path, sentences: int = SENTENCES) -> tuple[list[list[int]], dict[str, Array], float]:
    """Return the sentences, initial weights and learning rate of the recipe."""
    config = load_config("comments-scratch", {"data.path": str(data), "data.max_sentences": sentences})
    read = ScratchData.read(config)
    weights = initial_weights(len(read.vocabulary), config.model.hidden_size, config.training.seed)
    return read.train.ids, weights, config.training.learning_rate


def _loss(model: ScratchModel | DenseLSTM, sentences: list[list[int]]) -> float:
    """Return the mean nll in nats per token."""
    with np.errstate(over="ignore"):
        nll, tokens = (model if isinstance(model, ScratchModel) else ScratchModel(model.weights)).nll(sentences)
    return nll / tokens


def _check(sentence: list[int], weights: dict[str, Array]) -> None:
    """Compare loss and gradients of one sentence among ours, the dense program without faults, and the reference."""
    loss, gradients = ScratchModel(weights).gradients(sentence)
    for name, (other_loss, others) in {
        "the dense program": DenseLSTM(weights, ()).gradients(sentence),
        "the reference": reference_gradients(sentence, weights),
    }.items():
        compared = {weight: others[weight] for weight in gradients}  # the reference has both biases
        agree({"loss": loss, **gradients}, {"loss": other_loss, **compared}, _FLOAT64, name)


def reference_gradients(sentence: list[int], weights: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
    """Return the loss and gradients of ``gatewise.reference``, by their names in a run folder."""
    V, H = weights["decoder.weight"].shape
    spec, zeros = RecurrentSpec("lstm", V, H), np.zeros((1, 1, H))
    own = {name.removeprefix("rnn."): weight for name, weight in weights.items() if name.startswith("rnn.")}
    y, state, tape = stack.forward(spec, np.array(sentence[:-1])[:, None], (zeros, zeros), own)
    loss, dz = cross_entropy(y[:, 0] @ weights["decoder.weight"].T + weights["decoder.bias"], np.array(sentence[1:]))
    dy = (dz @ weights["decoder.weight"])[:, None]
    _, _, dweights = stack.backward(spec, dy, tuple(np.zeros_like(part) for part in state), tape)
    rnn = {f"rnn.{name}": gradient for name, gradient in dweights.items()}
    return loss, {**rnn, "decoder.weight": dz.T @ y[:, 0], "decoder.bias": dz.sum(0)}


def _losses_agree(ours: Array, peer: Array) -> None:
    """Compare the losses of the timed programs: ours in float32, the peer's in float64."""
    agree({"relative loss": ours / peer}, {"relative loss": np.ones_like(peer)}, _FLOAT32)
