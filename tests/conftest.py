"""Shared by all tests: shapes checked at run time, a cache of its own, a small corpus, and the real data's place."""

import csv
import gc
import os
import signal
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401  (the hook below finds it by its name)

# Every function with jaxtyping's shapes checks them in the tests. Not in the stacks: a compiler cannot trace that.
install_import_hook(
    ["gatewise.nn.loss", "gatewise.nn.crf", "gatewise.nn.words", "gatewise.models"], "tests.typechecker.check"
)

# A shell that starts the tests in the background has them ignore Ctrl-C, and their children would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def memory() -> Path | None:
    """Return the folder of files in memory, if programs may be run from it and it has room."""
    folder = Path("/dev/shm")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return None
    place = os.statvfs(folder)
    roomy = place.f_bavail * place.f_frsize > 4 << 30
    return folder if roomy and not place.f_flag & os.ST_NOEXEC else None


# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("gatewise", deadline=None)
hypothesis.settings.load_profile("gatewise")

# A run flushes its files thousands of times, and would wait for the disk as long as it computes.
IN_MEMORY = memory()
if IN_MEMORY:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))
CACHE = tempfile.TemporaryDirectory(prefix="gatewise-test-cache-", dir=IN_MEMORY)
os.environ["GATEWISE_CACHE"] = CACHE.name
if "PYTEST_XDIST_WORKER" in os.environ:  # two processes share the machine: no second thread, and one that waits sleeps
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "2")

REPOSITORY = Path(__file__).resolve().parent.parent

# Until the tests begin, nearly all that is made stays, and looking through it for what does not takes seconds.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: the last ones, of which two processes share out what is left, shall be quick."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


SENTENCES = [
    "the dog ate the apple",
    "everybody read that book",
    "the company said it will read the book",
    "it ate that apple",
    "",
]


def write_corpus(folder: Path, repeats: int = 40) -> Path:
    """Write a corpus of three small texts with words that repeat."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [SENTENCES[(7 * k + k // 3) % len(SENTENCES)] for k in range(5 * repeats)]
    for name, part in (("train", lines), ("valid", lines[: repeats * 2]), ("test", lines[repeats : repeats * 3])):
        (folder / f"toy.{name}.txt").write_text("".join(line + "\n" for line in part), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small corpus."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


TINY = {
    "data.batch_size": 4,
    "data.tbptt_length": 5,
    "model.hidden_size": 8,
    "model.num_layers": 1,
    "training.epochs": 2,
    "training.optimizer": "sgd",
    "training.learning_rate": 1.0,
    "logging.tensorboard": False,
}
"""Overrides that make any recipe a matter of a second."""


def unseal(run: Path) -> None:
    """Write a run's weights again as another program does, so that the files beside them may be any."""
    import safetensors.torch

    tensors = safetensors.torch.load_file(run / "model.safetensors")
    safetensors.torch.save_file(tensors, run / "model.safetensors")


@pytest.fixture(scope="session")
def tiny_run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the small corpus; tests that change a run copy it first."""
    import gatewise as gw

    out = tmp_path_factory.mktemp("runs") / "tiny"
    return gw.train("demo", data=corpus, out=out, overrides=TINY).path


COMMENTS = [
    "The dog ate the apple. Everybody read that book!",
    'He said: "It ate, the dog, that apple..." and left',
    "Where is the book? The dog ate the book.\nThe dog read it.",
]
"""Seven sentences, with quotes, commas and a line's end inside a field, and words that stand twice in one."""

TINY_SCRATCH = {
    "data.vocabulary_size": 20,
    "model.hidden_size": 6,
    "training.epochs": 3,
    "training.learning_rate": 0.1,
    "logging.tensorboard": False,
}
"""Overrides that make ``comments-scratch`` a matter of a moment."""


def write_comments(path: Path, repeats: int = 1) -> Path:
    """Write a CSV file with a column before ``body``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        writer.writerows([k, text] for k, text in enumerate(COMMENTS * repeats))
    return path


@pytest.fixture(scope="session")
def comments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CSV file of comments."""
    return write_comments(tmp_path_factory.mktemp("comments") / "toy.csv")


@pytest.fixture(scope="session")
def scratch_run(comments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``comments-scratch``; tests that change a run copy it first."""
    import gatewise as gw

    out = tmp_path_factory.mktemp("runs") / "scratch"
    return gw.train("comments-scratch", data=comments, out=out, overrides=TINY_SCRATCH).path


TINY_CLASSIFIER = {
    "data.batch_size": 10,
    "model.hidden_size": 8,
    "model.num_layers": 1,
    "model.dropout": 0.0,
    "training.max_steps": 40,
    "training.eval_every": 10,
    "training.learning_rate": 0.03,
    "logging.tensorboard": False,
}
"""Overrides that make ``mnist-rows`` a matter of a second."""


def write_sequences(folder: Path, labels: tuple[int, int, int] = (3, 5, 8)) -> Path:
    """Write three ``.npz`` files of sequences (6 steps of 4 numbers) whose largest column tells the label."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(7)
    for split, count in (("train", 90), ("valid", 20), ("test", 30)):
        which = draw.integers(0, 3, count)
        x = draw.normal(0, 0.3, (count, 6, 4))
        x[np.arange(count), :, which] += 1
        np.savez(folder / f"toy.{split}.npz", x=x.astype(np.float32), y=np.array(labels)[which])
    return folder


@pytest.fixture(scope="session")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small sequences."""
    return write_sequences(tmp_path_factory.mktemp("sequences") / "toy")


@pytest.fixture(scope="session")
def classifier_run(sequences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``mnist-rows`` on the small sequences; tests that change a run copy it first."""
    import gatewise as gw

    out = tmp_path_factory.mktemp("runs") / "classifier"
    return gw.train("mnist-rows", data=sequences, out=out, overrides=TINY_CLASSIFIER).path


TINY_REGRESSOR = {
    "data.window": 8,
    "data.valid_size": 20,
    "data.test_size": 30,
    "model.hidden_size": 8,
    "training.epochs": 12,
    "training.learning_rate": 0.02,
    "training.average_decay": 0.9,
    "logging.tensorboard": False,
}
"""Overrides that make ``sunspots`` a matter of a second."""


def write_waves(path: Path, rows: int = 200) -> Path:
    """Write a CSV file with a day, a wave of ``level`` and what pushes it a step later, ``wind``."""
    draw = np.random.default_rng(3)
    wind = draw.normal(0, 1, rows)
    level = 10 + 3 * np.sin(np.arange(rows) / 2) + np.concatenate([[0], wind[:-1]])
    lines = [f"{2 * day + 100},{a:.4f},{b:.4f}" for day, (a, b) in enumerate(zip(level, wind, strict=True))]
    path.write_text("\n".join(["day,level,wind", *lines, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of two columns and an index."""
    return write_waves(tmp_path_factory.mktemp("waves") / "waves.csv")


@pytest.fixture(scope="session")
def regressor_run(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``sunspots`` on the column ``level``; tests that change a run copy it first."""
    import gatewise as gw

    out = tmp_path_factory.mktemp("runs") / "regressor"
    return gw.train("sunspots", data=waves, out=out, overrides={**TINY_REGRESSOR, "data.columns": ["level"]}).path


TAGGED = [
    ("The/DET dog/NN ate/V the/DET apple/NN", "answers-1"),
    ("Everybody/NN read/V that/DET book/NN", "answers-2"),
    ("the/DET book/NN ate/V New_York/NN", "weblog-1"),
    ("It/NN read/V", "weblog-2"),
]
"""Tagged sentences; an underscore stands for a space."""

TINY_TAGGER = {
    "data.batch_size": 4,
    "model.embedding_size": 6,
    "model.hidden_size": 8,
    "model.num_layers": 1,
    "model.character_embedding_size": 4,
    "model.character_hidden_size": 4,
    "training.epochs": 3,
    "logging.tensorboard": False,
}
"""Overrides that make ``ewt-upos`` a matter of a second."""


def write_tagged(folder: Path) -> Path:
    """Write three CoNLL-U files, with a multiword token, an empty node and a word with a space."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in (("train", TAGGED * 5), ("dev", TAGGED[:3]), ("test", [*TAGGED[2:], ("xyzzy/NN ate/V", "x-1")])):
        text = ""
        for sentence, name in part:
            text += f"# sent_id = {name}\n1-2\t" + "\t".join("_" * 9) + "\n"
            for k, pair in enumerate(sentence.split(), 1):
                word, tag = pair.replace("_", " ").rsplit("/", 1)
                text += f"{k}\t{word}\t_\t{tag}\t_\t_\t0\troot\t_\t_\n"
            text += "1.1\t" + "\t".join("_" * 9) + "\n\n"
        (folder / f"toy-ud-{split}.conllu").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small CoNLL-U files."""
    return write_tagged(tmp_path_factory.mktemp("tagged"))


@pytest.fixture(scope="session")
def tagger_run(tagged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``ewt-upos`` on them; tests that change a run copy it first."""
    import gatewise as gw

    return gw.train("ewt-upos", data=tagged, out=tmp_path_factory.mktemp("runs") / "tagger", overrides=TINY_TAGGER).path


def real_data(name: str) -> Path:
    """Return the folder of a real corpus, or skip the test, saying so."""
    root = Path(os.environ.get("GATEWISE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / name).is_dir():
        pytest.skip(f"the real corpus {name} is not at {root} (set GATEWISE_DATA)")
    return root / name
