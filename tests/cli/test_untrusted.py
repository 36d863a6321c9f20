"""Untrusted files, names and values on the command line: one line, the right status, no control characters."""

import io
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

import gatewise as gw
from gatewise import files
from gatewise.cli.output import write
from gatewise.config import load_config, parse_override
from gatewise.errors import UsageError
from gatewise.training.progress import note
from tests.cli.conftest import TINY_OPTIONS, Gatewise, contents
from tests.conftest import TINY_TAGGER, write_tagged

EVIL = "a\x1b]0;owned\x07\x9b2J\u202eb\nc[bold red]d"
SHOWN = "a\\x1b]0;owned\\x07\\x9b2J\\u202eb\\nc[bold red]d"


class Terminal(io.TextIOWrapper):
    """Standard output with a given encoding, as a terminal or not."""

    def __init__(self, encoding: str = "utf-8", terminal: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def written(self) -> bytes:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


def calm(text: str) -> bool:
    """Return whether a text has no control characters and none that change the writing direction."""
    return not any(c < " " or "\x7f" <= c <= "\x9f" or c in "\u202e\u2028" for c in text.replace("\n", ""))


@pytest.mark.parametrize(
    ("encoding", "terminal", "text", "written"),
    [
        ("utf-8", False, EVIL + "\r\0", (EVIL + "\r\0").encode()),
        ("utf-8", True, EVIL + "\t", (SHOWN.replace("\\n", "\n") + "\t").encode()),
        ("utf-8", False, "caf\udce9 é", b"caf\xe9 \xc3\xa9"),
        ("utf-8", True, "caf\udce9", b"caf\\udce9"),
        ("utf-8", False, "\ud800", b"\\ud800"),
        ("ascii", False, "é中", "é中".encode()),
        ("ascii", True, "é中", b"\\xe9\\u4e2d"),
        ("latin-1", False, "é\x9b", b"\xe9\x9b"),
        ("latin-1", False, "é中", b"\xe9\\u4e2d"),
    ],
)
def test_what_is_written(
    encoding: str, terminal: bool, text: str, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file or a pipe gets every byte; a terminal, or an encoding without the letters, gets escapes."""
    stream = Terminal(encoding, terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    write(text)
    assert stream.written == written + b"\n"


def test_a_stream_of_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    write(EVIL, end="")
    assert stream.getvalue() == EVIL


def test_progress_is_one_line_without_markup() -> None:
    from rich.console import Console

    stream = io.StringIO()
    note(Console(file=stream, force_terminal=True, width=40), f"data in {EVIL} [link=http://x]y[/link]")
    assert stream.getvalue() == f"data in {SHOWN} [link=http://x]y[/link]\n"


def test_tags_keep_every_byte_and_a_terminal_gets_none(
    gatewise: Gatewise, tagger_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("the \x1b[31mdog\x9b2J a\u202eb\n")
    result = gatewise("tag", tagger_run, "a.txt", "--pretokenized")
    assert [pair.rpartition("/")[0] for pair in result.out.split()] == ["the", "\x1b[31mdog\x9b2J", "a\u202eb"]
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    gatewise("tag", tagger_run, "a.txt", "--pretokenized")
    assert b"/" in stream.written and calm(stream.written.decode())
    assert "\\x1b[31mdog\\x9b2J/" in stream.written.decode()


def test_names_of_files(gatewise: Gatewise, classifier_run: Path, sequences: Path, tmp_path: Path) -> None:
    """With a line end, escapes, or invalid UTF-8: written unchanged, and as one line in an error."""
    for raw in (b"a\nb\x1b[2J.npz", b"caf\xe9.npz"):
        path = Path(os.fsdecode(bytes(tmp_path) + b"/" + raw))
        gatewise("classify", classifier_run, path).check_refused(3, "cannot read it (No such file")
        path.write_bytes(b"PK")
        gatewise("classify", classifier_run, path).check_refused(3, "not a readable array of numbers")
        shutil.copy(sequences / "toy.test.npz", path)
        assert gatewise("classify", classifier_run, path).status == 0
        assert json.loads(gatewise("classify", classifier_run, path, "--json").out)["predictions"][0]["file"] == (
            f"{path}[0]"
        )


def test_data_in_a_folder_that_is_no_utf8(gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """``config.toml`` could not name it."""
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    shutil.copytree(corpus, folder)
    result = gatewise("train", "--data", folder, "--out", tmp_path / "out", *TINY_OPTIONS)
    result.check_refused(2, "caf\\udce9', which is not valid UTF-8", "rename")
    assert not (tmp_path / "out").exists()
    result = gatewise("train", "--data", corpus, "--out", folder / "run", *TINY_OPTIONS, "--set", "training.epochs=1")
    assert result.status == 0, result.err
    assert gatewise("evaluate", folder / "run").status == 0


def test_labels_in_a_table(gatewise: Gatewise, tmp_path: Path) -> None:
    """Escapes, markup and a label of a thousand letters: a table with lines of bounded length."""
    folder = write_tagged(tmp_path / "data")
    evil, long = "$\x1b[31m\\NN{\u202e$", "x" * 1000
    for path in folder.iterdir():
        path.write_text(path.read_text().replace("\tNN\t", f"\t{evil}\t").replace("\tV\t", f"\t{long}\t"))
    run = gw.train("ewt-upos", data=folder, out=tmp_path / "run", overrides={**TINY_TAGGER, "training.epochs": 1}).path
    result = gatewise("evaluate", run)
    assert (result.status, result.err) == (0, "")
    assert calm(result.out)
    assert max(map(len, result.out.splitlines())) < 300
    assert any(line.startswith("$\\x1b[31m\\NN{\\u202e$ ") for line in result.out.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ["train", f"no{EVIL}"],
        ["train", "--set", f"training.{EVIL}=1"],
        ["train", "--set", f"model.cell={EVIL}{'x' * 5000}"],
        ["train", f"--no{EVIL}"],
        [f"no{EVIL}"],
        ["data", "fetch", f"x{EVIL}"],
        ["data", "fetch", "ptb", "--mirror", f"http://x{EVIL}"],
        ["evaluate", f"no{EVIL}"],
        ["train", "--data", f"no{EVIL}"],
    ],
)
def test_what_the_command_line_holds(words: list[str], gatewise: Gatewise) -> None:
    result = gatewise(*words)
    result.check_refused(result.status)
    assert result.status in (2, 3, 4)
    assert calm(result.err) and len(result.err) < 1100


def test_words_that_are_not_known(gatewise: Gatewise, tiny_run: Path) -> None:
    result = gatewise("generate", tiny_run, "--prompt", f"the {EVIL} " + "zyx " * 1 + "y" * 5000, "--seed", "1")
    assert result.status == 0
    assert calm(result.err) and len(result.err) < 1100 and result.err.startswith("not in the vocabulary")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a = " + "[" * 100_000, "nested too deep"),
        ("a = " + "{a=" * 40_000, "nested too deep"),
        ("[training]\nepochs = " + "9" * 5000, "invalid TOML"),
        ("[training]\nepochs = " + "9" * 4000, "less than 2147483648"),
        ("[training]\nepochs = 2147483648", "training.epochs is 2147483648; input should be less than 2147483648"),
        ("[training]\nseed = 0x" + "f" * 9000, "training.seed is a"),
        ("[training]\nepochs = 2020-01-01", "training.epochs is datetime.date"),
        ("[model]\nhidden_size" + ".a" * 50_000 + " = 1", "nested too deep"),
        ("[model]\nhidden_size" + ".a" * 900 + " = 1", "model.hidden_size is "),
        ("[model]\n" + "a" * 50_000 + " = 1", "unknown key model.aaa"),
        ("[model]\n'" + "\x7f" * 3 + "' = 1", "invalid TOML"),
        ('[model]\n"\\u001B[2J\\u202E" = 1', "unknown key model.\\x1b[2J\\u202e"),
        ('[data]\npath = "a\\u0000b"', "data: "),
        ("# " + "x" * (1 << 17), "larger than 128 KiB; expected a TOML file"),
        ("\ufeff\ufeff[model]", "invalid TOML"),
    ],
)
def test_recipes_that_are_odd(text: str, fragment: str, gatewise: Gatewise, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    before = contents(tmp_path)
    result = gatewise("train", "a.toml", "--out", "out")
    result.check_refused(3 if "path" in text else 2, fragment)
    assert calm(result.err) and len(result.err) < 1100
    assert contents(tmp_path) == before


def test_settings_that_are_odd() -> None:
    for value in ("[" * 50_000, "9" * 5000, "1\nmodel.cell='gru'", "2020-01-01", "0x" + "f" * 9000):
        key, found = parse_override(f"training.epochs={value}")
        with pytest.raises(UsageError, match=r"training\.epochs is ") as caught:
            load_config("demo", {key: found})
        assert len(str(caught.value)) < 1100
    with pytest.raises(UsageError, match=r"training\.epochs"):
        load_config("demo", {"training.epochs": 10**30})


def test_recipes_that_are_no_files(gatewise: Gatewise, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.toml")
    gatewise("train", "a.toml").check_refused(2, "a.toml: a named pipe", "expected a TOML file")
    (tmp_path / "b.toml").symlink_to("/dev/zero")
    gatewise("train", "b.toml").check_refused(2, "b.toml: a device, not a regular file; expected a TOML file")


COMMANDS = {
    "tag": ("tagger_run", "a.txt", "a text file"),
    "classify": ("classifier_run", "a.npy", "an array file"),
    "classify picture": ("classifier_run", "a.png", "an image"),
    "forecast": ("regressor_run", "a.csv", "a text file"),
    "evaluate": ("tiny_run", "a.txt", "a text file"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_no_file(
    name: str, gatewise: Gatewise, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device, a socket or a pipe without a writer: one line, without delay."""
    monkeypatch.setattr(files, "PATIENCE_S", 0.05)
    run, file, expected = COMMANDS[name]
    words = [name.split()[0], request.getfixturevalue(run), *(["--data"] if name == "evaluate" else [])]
    (tmp_path / file).symlink_to("/dev/zero")
    began = time.monotonic()
    by_device = gatewise(*words, tmp_path / file)
    (tmp_path / file).unlink()
    os.mkfifo(tmp_path / file)
    by_pipe = gatewise(*words, tmp_path / file)
    if name == "evaluate":
        by_device.check_refused(3, f"{file}: a file; expected a folder")
        by_pipe.check_refused(3, f"{file}: a pipe that nothing writes to")
    else:
        by_device.check_refused(3, f"{file}: a device; expected {expected}")
        by_pipe.check_refused(3, f"{file}: a pipe")
    assert time.monotonic() - began < 3


def test_training_data_that_is_no_file(gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "data")
    (tmp_path / "data" / "toy.valid.txt").unlink()
    os.mkfifo(tmp_path / "data" / "toy.valid.txt")
    result = gatewise("train", "--data", tmp_path / "data", "--out", tmp_path / "out", *TINY_OPTIONS)
    result.check_refused(3, "toy.valid.txt: a pipe, which can be read only once; expected a text file")


def through_pipe(gatewise: Gatewise, content: bytes, *words: str | Path) -> object:
    """Run a command with a pipe, as from ``<(command)``, in place of the last argument."""
    read, end = os.pipe()
    writer = threading.Thread(target=lambda: [os.write(end, content), os.close(end)])
    writer.start()
    try:
        return gatewise(*words, f"/dev/fd/{read}")
    finally:
        writer.join()
        os.close(read)


def test_pipes_are_read(
    gatewise: Gatewise, tagger_run: Path, tagged: Path, regressor_run: Path, waves: Path, tmp_path: Path
) -> None:
    """Same result as for a file with the same bytes, also for CoNLL-U, which is read three times."""
    for form in ("text", "conllu"):
        source = tagged / "toy-ud-test.conllu"
        expected = gatewise("tag", tagger_run, source, "--format", form)
        assert expected.status == 0
        assert through_pipe(gatewise, source.read_bytes(), "tag", tagger_run, "--format", form) == expected
    expected = gatewise("forecast", regressor_run, waves)
    assert expected.status == 0
    assert through_pipe(gatewise, waves.read_bytes(), "forecast", regressor_run) == expected
    found = through_pipe(gatewise, b"1\tx\n", "tag", tagger_run)
    assert getattr(found, "status", None) == 0


def test_a_table_that_is_wrong_in_a_pipe(gatewise: Gatewise, regressor_run: Path) -> None:
    """The error names the pipe, not the copy."""
    found = through_pipe(gatewise, b"day,level\n1,2\n2,x\n", "forecast", regressor_run)
    assert "/dev/fd/" in getattr(found, "err", "") and ":3: 'x' in column 'level'" in getattr(found, "err", "")
