"""What the models of all tasks have in common: steps on states, whole sequences, what is inside a step."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import InputError, RunError, UsageError
from gatewise.runtime.batches import batches_by_length
from gatewise.runtime.library import Handle, Inputs, NativeModel, joined
from gatewise.runtime.model_file import ModelFile
from gatewise.runtime.sequences import Sequences
from gatewise.spec import CELLS

Floats = npt.NDArray[np.floating]


class State:
    """What a model has read of one sequence. Steps change it in place; one call at a time may use it.

    It keeps its model alive. ``copy.copy`` copies it, too; to pickle it, save it.
    """

    __slots__ = ("__weakref__", "_handle", "_lock", "_native")

    def __init__(self, native: NativeModel, handle: Handle) -> None:
        self._native, self._handle, self._lock = native, handle, Lock()

    def copy(self) -> "State":
        """Return a copy, which goes on independently."""
        with in_use([self]):
            return State(self._native, self._native.copy_state(self._handle))

    def save(self) -> bytes:
        """Return the content of a safetensors file, which the model's ``load_state`` reads."""
        with in_use([self]):
            return self._native.save_state(self._handle)

    @property
    def steps(self) -> int:
        """How many inputs it has read since the state before the first step."""
        content = self.save()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return int(header["__metadata__"]["count"])

    def reset(self) -> None:
        """Go back to the state before the first step."""
        with in_use([self]):
            self._restart()

    def _restart(self) -> None:
        self._handle = self._native.new_state()

    def __copy__(self) -> "State":
        return self.copy()

    def __deepcopy__(self, memo: object) -> "State":
        return self.copy()

    def __reduce__(self) -> Any:
        return self._native.__reduce__()


@contextmanager
def in_use(states: Sequence[State]) -> Iterator[list[Handle]]:
    """Keep other calls from using some states within the block; yield what the library knows them by.

    Raises:
        UsageError: another thread uses one, or one stands for two rows.
    """
    if len(set(map(id, states))) < len(states):
        raise UsageError("the same state stands for two rows; copy it first")
    held = list[State]()
    try:
        for state in states:
            if not state._lock.acquire(blocking=False):
                raise UsageError("a state is in use by another thread; give each thread its own: copy it")
            held.append(state)
        yield [state._handle for state in states]
    finally:
        for state in held:
            state._lock.release()


class Model(ABC):
    """A model of one task, read by ``load``.

    Attributes:
        task: ``language-model``, ``tagger``, ``text-classifier``, ``classifier`` or ``regressor``.
        weights: how its weights are stored: ``fp32``, ``bf16`` or ``int8``.
        streams: whether it reads step by step: in one direction, and nothing relative to the last step.
        cell: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        traced: the names of what ``trace`` returns.
        num_layers, hidden_size: L and H.
        bidirectional: whether it reads in both directions.
    """

    def __init__(self, file: ModelFile, threads: int) -> None:
        try:
            self._native = NativeModel(file.content, threads)
        except RunError as problem:
            raise RunError(f"{file.source}: {problem}") from None
        self.task: str = file.about["task"]
        self.weights: str = file.about["weights"]
        info = self._native.info
        self.streams = bool(info.streams)
        self.cell: str = file.about["cell"]
        self.traced = tuple(CELLS[self.cell].traced)
        self.num_layers, self.hidden_size, self.bidirectional = info.layers, info.hidden, info.directions == 2

    @abstractmethod
    def _inputs(self, inputs: Any) -> Inputs:
        """Return inputs of single steps as the library reads them.

        Raises:
            GatewiseError: they are invalid.
        """

    def initial_state(self) -> State:
        """Return the state before the first step, of one sequence.

        Raises:
            UsageError: the model does not stream.
        """
        self._check_streams()
        return State(self._native, self._native.new_state())

    def load_state(self, content: bytes) -> State:
        """Return the state whose ``save`` gave these bytes.

        Raises:
            UsageError: the model does not stream.
            InputError: the bytes are damaged, or of a state of another model or other weights.
        """
        self._check_streams()
        if not isinstance(content, bytes | bytearray | memoryview):
            raise InputError(f"the state is {type(content).__name__}; expected the bytes that save() returned")
        return State(self._native, self._native.load_state(bytes(content)))

    def step(self, inputs: Any, states: Sequence[State]) -> Floats:
        """Read one input of each of B sequences, and change their states.

        Args:
            inputs: (B,) ids of a language model, (B,) words, or (B, I) numbers in the units of the training data.
            states: B different ones, of this model.

        Returns:
            (B, K): logits of the next token, scores of the tags, logits of the labels after all that was read, or
            predictions in the units of the training data, which are float64; all else is float32.

        Raises:
            UsageError: the model does not stream, or a state is in use.
            InputError: an input is invalid; no state has changed.
            NotFinite: an output is not finite; likewise.
        """
        given = self._inputs(inputs)
        with self._using(states) as handles:
            return self._native.step(given, handles)

    def read(self, inputs: Any, state: State) -> Floats:
        """Read T inputs of one sequence, and change its state; the result is that of the last of T steps, (K,).

        Raises:
            InputError: there are none, or one is invalid.
        """
        last: Floats = self.read_each([inputs], [state])[0]
        return last

    def read_each(self, inputs: Sequence[Any], states: Sequence[State]) -> Floats:
        """Read one sequence for each of B states, and change these.

        Args:
            inputs: B sequences of any lengths from 1 on, each as for ``read``.
            states: B different ones, of this model.

        Returns:
            (B, K): what ``step`` gives for the last input of each.

        Raises:
            UsageError: the model does not stream, or a state is in use.
            InputError: a sequence is empty, or an input is invalid; no state has changed.
            NotFinite: an output is not finite; likewise.
        """
        given = [self._inputs(sequence) for sequence in inputs]
        if not given or not all(map(len, given)):
            raise InputError("no inputs; expected one or more")
        lengths = np.array([len(one) for one in given])
        with self._using(states) as handles:
            found: Floats = self._native.run(lengths, joined(given), handles)
        return found if len(found) == len(lengths) else found[np.cumsum(lengths) - 1]  # a tagger answers each word

    def outputs(self, states: Sequence[State]) -> Floats:
        """Return what ``step`` gave after the last input that each of B states has read; the states do not change.

        Args:
            states: B different ones, of this model.

        Returns:
            (B, K), of a state that has read nothing that of zeros.

        Raises:
            UsageError: the model does not stream, or a state is in use.
            InputError: there are no states, or one has read nothing and the model pools what it reads.
        """
        with self._using(states) as handles:
            return self._native.outputs(handles)

    def trace(self, inputs: Any, state: State | None = None) -> dict[str, npt.NDArray[np.float32]]:
        """Read T inputs of one sequence; return what is inside each step.

        Args:
            inputs: (T,) ids or words, or (T, I) numbers.
            state: changed in place; a new one if not given.

        Returns:
            The gates after their activation and the states, each (L, 1, T, 1, H), as the modules of ``gatewise.nn``
            give them: an LSTM's i, f, g, o, c, h; a GRU's r, z, n, h; an RNN's h.

        Raises:
            UsageError: the model does not stream, or the state is in use.
            InputError: an input is invalid.
        """
        given = self._inputs(inputs)
        own = self.initial_state() if state is None else state
        info = self._native.info
        found = np.empty((info.traced, info.layers, len(given), info.hidden), np.float32)
        with self._using([own]) as [handle]:
            for t in range(len(given)):
                found[:, :, t] = self._native.trace(given.at(t), handle).transpose(1, 0, 2)
        return {name: found[k][:, None, :, None] for k, name in enumerate(self.traced)}

    def _check_streams(self) -> None:
        if not self.streams:
            why = "reads in both directions" if self._native.info.directions == 2 else "reads relative to the last step"
            raise UsageError(f"this model {why}, so it has no state; give it whole sequences")

    @contextmanager
    def _using(self, states: Sequence[State]) -> Iterator[list[Handle]]:
        self._check_streams()
        if isinstance(states, State) or not all(isinstance(state, State) for state in states):
            raise UsageError("the states are not a list of states; expected one for each row, from initial_state()")
        with in_use(states) as handles:
            yield handles

    def _read_all(self, sequences: Sequences) -> Floats:
        """Return the outputs after the last step of each sequence, (N, K)."""
        lengths, parts = sequences.lengths, list[Floats]()
        order = list[int]()
        for rows in batches_by_length(lengths.tolist()):
            parts.append(self._native.run(lengths[rows], sequences.batch(rows)))
            order += rows
        return np.concatenate(parts)[np.argsort(order)]

    def _read_over_time(self, sequences: Sequences) -> list[Floats]:
        """Return the outputs after each step of each sequence, (T_n, K)."""
        found = dict[int, Floats]()
        for rows in batches_by_length(sequences.lengths.tolist()):
            lengths = sequences.lengths[rows]
            outputs = self._native.run(lengths, sequences.batch(rows), None, True)
            found |= zip(rows, np.split(outputs, np.cumsum(lengths)[:-1]), strict=True)
        none = np.empty((0, self._native.info.outputs), np.float32)
        return [found.get(row, none) for row in range(len(sequences.lengths))]
