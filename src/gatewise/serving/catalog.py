"""The models that are served: their names, what they say about themselves, and which one a request means."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise import runtime
from gatewise.errors import UsageError
from gatewise.runtime.generation import start_of
from gatewise.runtime.model import State
from gatewise.serving.refusals import Refusal, invalid


class Served:
    """A model with its name.

    Attributes:
        name: what clients call it.
        model: of ``gatewise.runtime``.
        gates: what one step shows, see ``gate_bytes``; None where the model does not stream.
        gates_size: in bytes.
    """

    def __init__(self, name: str, model: runtime.Model) -> None:
        self.name, self.model, self.created = name, model, int(time.time())
        self.is_language_model = isinstance(model, runtime.LanguageModel)
        self.gates = _gates(model) if model.streams else None
        self.gates_size = max(len(self.gates or []) * model.num_layers * model.hidden_size, 1)
        self._fresh: State | None = None
        self._copying = Lock()
        if model.streams:
            self._fresh = model.initial_state()
            if isinstance(model, runtime.LanguageModel):
                model.read([start_of(model.vocabulary)], self._fresh)

    def fresh_state(self) -> State:
        """Return the state of a new session: of a language model, after ``<eos>`` or ``<bos>``.

        Raises:
            Refusal: the model does not stream.
        """
        if self._fresh is None:
            raise invalid(f"{self.name!r} reads whole sequences and has no state; expected a model that streams")
        with self._copying:  # the engine needs one after each sentence
            return self._fresh.copy()

    def gate_bytes(self, state: State, item: Any) -> bytes:
        """Read one input, and return the gates and states of the step, a byte each: arrays in the order of ``gates``.

        A byte b stands for low + b/255·(high − low).
        """
        found = self.model.trace([item], state)
        parts = list[npt.NDArray[np.uint8]]()
        for about in self.gates or []:
            x = found[about["name"]].reshape(-1)
            if "squash" in about:
                x = np.tanh(x)
            span = about["high"] - about["low"]
            parts.append(np.rint((x - about["low"]) * np.float32(255 / span)).clip(0, 255).astype(np.uint8))
        return np.concatenate(parts).tobytes()

    def as_json(self) -> dict[str, Any]:
        """Return what ``/v1/models`` says about it."""
        model = self.model
        about: dict[str, Any] = {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "gatewise",
            "task": model.task,
            "cell": model.cell,
            "weights": model.weights,
            "layers": model.num_layers,
            "hidden": model.hidden_size,
            "directions": 1 + model.bidirectional,
            "streams": model.streams,
            "gates": self.gates,
        }
        if isinstance(model, runtime.LanguageModel):
            about |= {"level": model.vocabulary.level, "vocabulary": len(model.vocabulary)}
        elif isinstance(model, runtime.Tagger):
            about |= {"labels": model.tags}
        elif isinstance(model, runtime.TextClassifier):
            about |= {"labels": model.labels, "level": model.level}
        elif isinstance(model, runtime.SequenceClassifier):
            about |= {"labels": model.labels, "inputs": model.input_size}
        elif isinstance(model, runtime.SequenceRegressor):
            scaling = model.scaling
            about |= {"inputs": model.input_size, "horizon": model.horizon, "window": model.window}
            about |= {"columns": scaling.columns, "target": scaling.target, "known": scaling.known}
        return about


def _gates(model: runtime.Model) -> list[dict[str, Any]]:
    def about(name: str) -> dict[str, Any]:
        if name == "c" or (name == "h" and model.cell == "rnn_relu"):
            return {"name": name, "low": -1, "high": 1, "squash": "tanh"}
        return {"name": name, "low": -1 if name in ("g", "n", "h") else 0, "high": 1}

    return [about(name) for name in model.traced]


class Catalog:
    """The models of a server, by name.

    Args:
        runs: run folders and model files, each as PATH or NAME=PATH.
        weights: of run folders, how to store their matrices; see ``runtime.load``.
        threads: the most of a step.

    Raises:
        UsageError: two have the same name.
        RunError: one is missing or invalid.
    """

    def __init__(self, runs: Sequence[str], weights: str | None = None, threads: int = 1) -> None:
        self._models = dict[str, Served]()
        for run in runs:
            name, path = _named(run)
            if name in self._models:
                raise UsageError(f"two models are called {name!r}; give one another name: other={path}")
            stored = None if path.is_file() else weights
            self._models[name] = Served(name, runtime.load(path, stored, threads))

    def __iter__(self) -> Iterator[Served]:
        return iter(self._models.values())

    def named(self, name: str) -> Served:
        """Return a model.

        Raises:
            Refusal: there is none with this name.
        """
        if found := self._models.get(name):
            return found
        raise Refusal(
            404, f"no model is called {name[:60]!r}; the server has {self._list(self._models.values())}", "no_model"
        )

    def choose(self, name: str | None, fits: Callable[[Served], bool], wanted: str) -> Served:
        """Return the model that a request names or, where it names none, the only one that fits.

        Args:
            name: what the request says.
            fits: whether the route is for a model.
            wanted: what the route is for, such as "a tagger".

        Raises:
            Refusal: none has the name, it does not fit, or not exactly one fits.
        """
        if name is not None:
            served = self.named(name)
            if not fits(served):
                raise invalid(f"{name!r} is a {served.model.task}; expected {wanted}")
            return served
        found = [served for served in self if fits(served)]
        if len(found) != 1:
            which = f"one of {self._list(found)}" if found else f"{wanted}, which is not served here"
            raise invalid(f"the body names no model; expected {which}")
        return found[0]

    def _list(self, models: Any) -> str:
        return ", ".join(repr(served.name) for served in models)


def _named(run: str) -> tuple[str, Path]:
    """Return the name and the path of an argument PATH or NAME=PATH."""
    path = Path(run).expanduser()
    if "=" in run and not path.exists():
        name, _, rest = run.partition("=")
        path = Path(rest).expanduser()
    else:
        resolved = path.resolve()
        name = resolved.stem if resolved.is_file() else resolved.name
    if not name or len(name) > 100 or not name.isprintable() or "/" in name:
        raise UsageError(f"{run!r}: the model has no usable name; expected NAME=PATH")
    return name, path
