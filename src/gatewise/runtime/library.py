"""The C library of inference, ``csrc/gatewise.h``, through ctypes: the same binary as ``gatewise._native``.

Only this file takes the address of an array, after checking that it is of the dtype and shape that the library reads or
writes. What the library allocates is freed when the last object that needs it is.
"""

import ctypes
import importlib.util
import shutil
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import GatewiseError, InputError, NotFinite, OutOfMemory, RunError, UsageError

NAME = "gatewise._native"
Floats = npt.NDArray[np.floating]

ABI = 1
"""The version of ``gatewise.h`` that this file declares."""

TEXT = np.dtype([("data", np.uintp), ("size", np.uintp)])
"""``gw_text``."""

_ERRORS: dict[int, type[GatewiseError]] = {1: NotFinite, 2: UsageError, 3: InputError, 4: RunError, 5: OutOfMemory}


class Error(ctypes.Structure):
    """``gw_error``."""

    _fields_ = [("code", ctypes.c_int32), ("message", ctypes.c_char * 508)]


class Options(ctypes.Structure):
    """``gw_options``."""

    _fields_ = [("size", ctypes.c_size_t), ("threads", ctypes.c_int32)]


_INTS = ("task", "cell", "weights", "level", "streams", "crf")
_LONGS = ("inputs", "layers", "directions", "hidden", "outputs", "traced", "tokens", "labels", "eos", "bos", "unk")


class Info(ctypes.Structure):
    """``gw_info``."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        *((name, ctypes.c_int32) for name in _INTS),
        *((name, ctypes.c_int64) for name in (*_LONGS, "window")),
    ]

    task: int
    inputs: int
    streams: int
    directions: int
    hidden: int
    layers: int
    outputs: int
    traced: int


_TAGGER, _REGRESSOR = 1, 4
_READ: dict[int, npt.DTypeLike] = {0: np.int64, 1: TEXT, 2: TEXT, 3: np.float64, _REGRESSOR: np.float64}
"""The dtype of the inputs of a task."""

_P, _I, _L, _Z, _E = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_size_t, ctypes.POINTER(Error)
_A = ctypes.POINTER(ctypes.c_void_p)
"""The address of an address: where a new handle is written, or the first of several states."""
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "gw_version": (_I, []),
    "gw_open_memory": (_I, [_P, _Z, ctypes.POINTER(Options), _A, _E]),
    "gw_close": (None, [_P]),
    "gw_describe": (_I, [_P, ctypes.POINTER(Info), _E]),
    "gw_state_new": (_I, [_P, _A, _E]),
    "gw_state_copy": (_I, [_P, _A, _E]),
    "gw_state_free": (None, [_P]),
    "gw_state_save": (_I, [_P, _P, _Z, ctypes.POINTER(_Z), _E]),
    "gw_state_load": (_I, [_P, _P, _Z, _A, _E]),
    "gw_step": (_I, [_P, _L, _P, _A, _P, _E]),
    "gw_outputs": (_I, [_P, _L, _A, _P, _E]),
    "gw_run": (_I, [_P, _L, _P, _P, _A, _I, _P, _E]),
    "gw_score": (_I, [_P, _L, _P, _P, _A, _P, _E]),
    "gw_tag": (_I, [_P, _L, _P, _P, _P, _E]),
    "gw_tag_probabilities": (_I, [_P, _L, _P, _P, _P, _E]),
    "gw_trace": (_I, [_P, _P, _P, _P, _P, _E]),
}


def why_not_built() -> str:
    """Return why there is no extension module, with advice."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        return "it was not built because no C++ compiler was found; install g++ or clang++, then reinstall Gatewise"
    return f"it was not built although {compiler} exists; reinstall Gatewise with pip install -v to see why"


@cache
def library() -> ctypes.CDLL:
    """Return the library, its functions declared.

    Raises:
        UsageError: it was not built, or cannot be loaded.
    """
    found = importlib.util.find_spec(NAME)
    if found is None or found.origin is None:
        raise UsageError(f"gatewise.runtime needs Gatewise's own library, but {why_not_built()}")
    try:
        loaded = ctypes.CDLL(found.origin)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as problem:
        raise UsageError(f"{found.origin}: cannot be loaded ({problem}); reinstall Gatewise") from None
    if loaded.gw_version() != ABI:
        raise UsageError(f"{found.origin}: version {loaded.gw_version()}; expected {ABI}: reinstall Gatewise")
    return loaded


class Handle:
    """What the library allocated, at ``address``; freed with this object.

    Args:
        address: where it is.
        free: the function that frees it.
        needed: a handle that must outlive this one.
    """

    __slots__ = ("__weakref__", "address")

    def __init__(self, address: int, free: Callable[[int], object], needed: "Handle | None" = None) -> None:
        self.address = address
        # At exit the process gives all memory back; a thread may still compute then.
        weakref.finalize(self, _free, free, address, needed).atexit = False


def _free(free: Callable[[int], object], address: int, needed: Handle | None) -> None:
    free(address)


class NativeModel:
    """A model that the library has opened.

    Args:
        content: the content of a model file; not needed afterwards.
        threads: the most threads of a call.

    Raises:
        RunError: the file is invalid.
        UsageError: there is no library, or ``threads`` is out of range.
    """

    def __init__(self, content: bytes, threads: int) -> None:
        self._library = library()
        if not isinstance(threads, int) or not 1 <= threads <= 4096:
            raise UsageError(f"threads is {threads!r}; expected 1 to 4096")
        options = Options(ctypes.sizeof(Options), threads)
        bytes_ = np.frombuffer(content, np.uint8)
        place = address(bytes_, np.uint8, (len(content),))
        opened = self._new(lambda to, error: self._library.gw_open_memory(place, len(content), options, to, error))
        self._model = Handle(opened, self._library.gw_close)
        self.info = Info(ctypes.sizeof(Info))
        self._call(self._library.gw_describe, self._model.address, self.info)
        self._number = np.dtype(np.float64 if self.info.task == _REGRESSOR else np.float32)

    def __reduce__(self) -> Any:
        raise TypeError("models and states of gatewise.runtime are not pickled; load the model there, save the state")

    def _call(self, function: Callable[..., int], *arguments: Any) -> None:
        error = Error()
        if code := function(*arguments, error):
            raise _ERRORS.get(code, GatewiseError)(error.message.decode(errors="replace"))

    def _new(self, make: Callable[[Any, Error], int]) -> int:
        made = ctypes.c_void_p()
        self._call(make, made)
        if not made.value:
            raise GatewiseError("the library made nothing; reinstall Gatewise")
        return made.value

    def _state(self, made: int) -> Handle:
        return Handle(made, self._library.gw_state_free, self._model)

    def new_state(self) -> Handle:
        """Return the state before the first step."""
        return self._state(self._new(lambda to, error: self._library.gw_state_new(self._model.address, to, error)))

    def copy_state(self, state: Handle) -> Handle:
        """Return a copy of a state."""
        return self._state(self._new(lambda to, error: self._library.gw_state_copy(state.address, to, error)))

    def save_state(self, state: Handle) -> bytes:
        """Return a state as a safetensors file."""
        size = ctypes.c_size_t()
        self._call(self._library.gw_state_save, state.address, None, 0, size)
        content = np.empty(size.value, np.uint8)
        place = address(content, np.uint8, (size.value,))
        self._call(self._library.gw_state_save, state.address, place, size.value, size)
        return content.tobytes()

    def load_state(self, content: bytes) -> Handle:
        """Return the state that ``save_state`` wrote.

        Raises:
            InputError: it is damaged, or of another model.
        """
        read = np.frombuffer(content or b"\0", np.uint8)
        place, size = address(read, np.uint8, read.shape), len(content)
        return self._state(
            self._new(lambda to, error: self._library.gw_state_load(self._model.address, place, size, to, error))
        )

    def step(self, inputs: "Inputs", states: Sequence[Handle]) -> Floats:
        """Read one input of each of B rows, and change their states; return (B, K). See ``gw_step``."""
        rows, place = len(inputs), self._inputs(inputs)
        self._check_states(states, rows)
        outputs, to = self._outputs(rows)
        self._call(self._library.gw_step, self._model.address, rows, place, _each(states), to)
        return outputs

    def outputs(self, states: Sequence[Handle]) -> Floats:
        """Return the outputs of B states after all that they have read, (B, K). See ``gw_outputs``."""
        outputs, to = self._outputs(len(states))
        self._call(self._library.gw_outputs, self._model.address, len(states), _each(states), to)
        return outputs

    def run(
        self,
        lengths: npt.NDArray[np.int64],
        inputs: "Inputs",
        states: Sequence[Handle] | None = None,
        over_time: bool = False,
    ) -> Floats:
        """Read whole sequences; return the outputs of each, (rows, K), or of each input. See ``gw_run``."""
        rows, place = self._check_rows(lengths, inputs, states), self._inputs(inputs)
        outputs, to = self._outputs(len(inputs) if over_time or self.info.task == _TAGGER else rows)
        held = None if states is None else _each(states)
        steps = address(lengths, np.int64, (rows,))
        self._call(self._library.gw_run, self._model.address, rows, steps, place, held, over_time, to)
        return outputs

    def read(self, inputs: "Inputs", state: Handle) -> None:
        """Read inputs of one row, and change its state, without outputs. See ``gw_run``."""
        place, lengths = self._inputs(inputs), np.array([len(inputs)], np.int64)
        steps = address(lengths, np.int64, (1,))
        self._call(self._library.gw_run, self._model.address, 1, steps, place, _each([state]), False, None)

    def score(
        self, lengths: npt.NDArray[np.int64], ids: "Inputs", states: Sequence[Handle] | None
    ) -> npt.NDArray[np.float64]:
        """Score ids; see ``gw_score``. Return the summed nll of each row."""
        rows = self._check_rows(lengths, ids, states)
        nll = np.zeros(rows)
        held = None if states is None else _each(states)
        steps, to, place = address(lengths, np.int64, (rows,)), address(nll, np.float64, (rows,)), self._inputs(ids)
        self._call(self._library.gw_score, self._model.address, rows, steps, place, held, to)
        return nll

    def tag(self, lengths: npt.NDArray[np.int64], words: "Inputs") -> npt.NDArray[np.int64]:
        """Return the label of each word; see ``gw_tag``."""
        labels = np.zeros(len(words), np.int64)
        self._tag(self._library.gw_tag, lengths, words, address(labels, np.int64, labels.shape))
        return labels

    def tag_probabilities(self, lengths: npt.NDArray[np.int64], words: "Inputs") -> npt.NDArray[np.float64]:
        """Return the probability of each label for each word, (words, C); see ``gw_tag_probabilities``."""
        p = np.zeros((len(words), self.info.outputs))
        self._tag(self._library.gw_tag_probabilities, lengths, words, address(p, np.float64, p.shape))
        return p

    def _tag(self, function: Any, lengths: npt.NDArray[np.int64], words: "Inputs", to: int) -> None:
        rows = self._check_rows(lengths, words, None)
        self._call(function, self._model.address, rows, address(lengths, np.int64, (rows,)), self._inputs(words), to)

    def trace(self, inputs: "Inputs", state: Handle) -> npt.NDArray[np.float32]:
        """Run one step of one row; return what is inside, (L, traced, H). See ``gw_trace``."""
        place = self._inputs(inputs)
        self._check_states([state], len(inputs))
        shape = (self.info.layers, self.info.traced, self.info.hidden)
        found = np.empty(shape, np.float32)
        to = address(found, np.float32, shape)
        self._call(self._library.gw_trace, self._model.address, place, state.address, to, None)
        return found

    def _outputs(self, rows: int) -> tuple[Floats, int]:
        """Return an array for the outputs of some rows, and its address."""
        shape = (rows, self.info.outputs)
        found = np.empty(shape, self._number)
        return found, address(found, self._number, shape)

    def _inputs(self, inputs: "Inputs") -> int:
        """Return the address of inputs, which must be those of the model's task."""
        width = (self.info.inputs,) if self.info.inputs else ()
        return address(inputs.array, _READ[self.info.task], (len(inputs), *width))

    def _check_rows(self, lengths: npt.NDArray[np.int64], inputs: "Inputs", states: Sequence[Handle] | None) -> int:
        if int(lengths.sum()) != len(inputs) or (len(lengths) and int(lengths.min()) < 1):
            raise ValueError(f"{len(inputs)} inputs for lengths that sum up to {lengths.sum()}; expected equally many")
        if states is not None:
            self._check_states(states, len(lengths))
        return len(lengths)

    def _check_states(self, states: Sequence[Handle], rows: int) -> None:
        if len(states) != rows:
            raise InputError(f"{len(states)} states for {rows} rows; expected one for each row")


class Inputs:
    """Inputs of steps in memory that the library reads.

    Args:
        array: int64 ids (n,), float64 numbers (n, I), or words (n,) of dtype ``TEXT``.
        kept: what the addresses in ``array`` refer to.
    """

    def __init__(self, array: npt.NDArray[Any], kept: object = None) -> None:
        self.array, self._kept = array, kept

    def __len__(self) -> int:
        return len(self.array)

    def at(self, step: int) -> "Inputs":
        """Return one of them."""
        return Inputs(self.array[step : step + 1], self._kept)


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Return inputs one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Inputs(np.concatenate([part.array for part in parts]), [part._kept for part in parts])


def words(texts: Iterable[str]) -> Inputs:
    """Return words as the library reads them.

    Raises:
        InputError: one is no string, or no text that UTF-8 can hold.
    """
    encoded = list[bytes]()
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"{text!r:.60} stands where a word is expected; expected a string")
        try:
            encoded.append(text.encode())
        except UnicodeEncodeError:
            raise InputError(f"the word {text!r:.60} has half of a character; expected valid text") from None
    joined = b"".join(encoded) + b"\0"  # never empty
    sizes = np.fromiter(map(len, encoded), np.uintp, len(encoded))
    buffer = np.frombuffer(joined, np.uint8)
    array = np.empty(len(encoded), TEXT)
    array["size"] = sizes
    array["data"] = np.cumsum(sizes, dtype=np.uintp) - sizes + np.uintp(address(buffer, np.uint8, buffer.shape))
    return Inputs(array, buffer)


def address(array: npt.NDArray[Any], dtype: npt.DTypeLike, shape: tuple[int, ...]) -> int:
    """Return the address of an array, after checking that it has the memory that the library will use.

    Raises:
        ValueError: it has another dtype or shape, or is not contiguous.
    """
    if not isinstance(array, np.ndarray) or array.dtype != dtype or not array.dtype.isnative or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"an array is {found}; expected {np.dtype(dtype)} {shape}")
    if not array.flags.c_contiguous or not array.flags.aligned or not array.ctypes.data:
        raise ValueError("an array is not contiguous in memory; expected one that is")
    return int(array.ctypes.data)


def _each(states: Sequence[Handle]) -> Any:
    return (ctypes.c_void_p * len(states))(*(state.address for state in states))
