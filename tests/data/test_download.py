"""Downloads from a server on this machine: whole, cut off, resumed, refused, wrong."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import socket
import threading
import urllib.error
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gatewise.data import download
from gatewise.data.corpora import CORPORA, RemoteCorpus, RemoteFile
from gatewise.data.download import fetch
from gatewise.errors import DataError, UsageError
from gatewise.files import file_hash
from tests.child import in_child
from tests.conftest import real_data

CONTENT = {"toy.train.txt": bytes(range(256)) * 1200, "toy.valid.txt": b"the dog ate\n", "toy.test.txt": b"the apple\n"}
FILES = tuple(RemoteFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())
TRAIN = CONTENT["toy.train.txt"]


class Server(ThreadingHTTPServer):
    """Serves CONTENT, and misbehaves as a test asks it to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = dict(CONTENT)
        self.ranges = True
        self.cut_after: int | None = None
        self.chunked = False
        self.speaks_http = True
        self.requests: list[tuple[str, str | None]] = []
        self.answer: Callable[[Handler], None] | None = None  # what it does instead, once

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, name = self.server, self.path.removeprefix("/data/")
        asked = self.headers.get("Range")
        server.requests.append((name, asked))
        if server.answer is not None:
            answer, server.answer = server.answer, None
            answer(self)
            return
        if not server.speaks_http:
            self.wfile.write(b"SSH-2.0-OpenSSH\r\n")
            return
        if name not in server.content:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        body = server.content[name][start:]
        self.protocol_version = "HTTP/1.1" if server.chunked else "HTTP/1.0"
        self.send_response(206 if asked and server.ranges else 200)
        self.send_header(*(("Transfer-Encoding", "chunked") if server.chunked else ("Content-Length", str(len(body)))))
        self.end_headers()
        self.wfile.write(f"{len(body):x}\r\n".encode() if server.chunked else b"")
        self.wfile.write(body[: server.cut_after])
        self.close_connection = True

    def say(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("GATEWISE_MIRROR", raising=False)
    with Server() as server:
        monkeypatch.setattr(download, "CORPORA", {"toy": RemoteCorpus(server.url, FILES, "", "gatewise train demo")})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def inside(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_success_and_progress(server: Server, tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {name: [] for name in CONTENT}
    found = fetch("toy", tmp_path / "new" / "place", report=lambda file, here: seen[file.name].append(here))
    assert found == [tmp_path / "new" / "place" / name for name in CONTENT]
    assert inside(tmp_path / "new" / "place") == CONTENT
    for file in FILES:
        assert seen[file.name] == sorted(set(seen[file.name])) and seen[file.name][-1] == file.size
    assert len(seen["toy.train.txt"]) > 2


def test_cut_off_then_resumed(server: Server, tmp_path: Path) -> None:
    server.cut_after = 100_000
    with pytest.raises(DataError, match=r"toy\.train\.txt: download interrupted .*to resume it"):
        fetch("toy", tmp_path)
    assert inside(tmp_path) == {"toy.train.txt.part": TRAIN[:100_000]}
    server.cut_after = None
    seen: list[int] = []
    fetch("toy", str(tmp_path), report=lambda file, here: seen.append(here))
    assert server.requests[1] == ("toy.train.txt", "bytes=100000-")
    assert seen[0] > 100_000, "what is here already counts as progress"
    assert inside(tmp_path) == CONTENT


def test_server_that_cannot_resume(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "toy.train.txt.part").write_bytes(TRAIN[:1000])
    fetch("toy", tmp_path)
    assert server.requests[0] == ("toy.train.txt", "bytes=1000-")
    assert inside(tmp_path) == CONTENT


def test_part_that_is_whole_or_too_long(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.train.txt.part").write_bytes(TRAIN)
    (tmp_path / "toy.valid.txt.part").write_bytes(b"x" * 1000)
    fetch("toy", tmp_path)
    assert server.requests == [("toy.valid.txt", None), ("toy.test.txt", None)]
    assert inside(tmp_path) == CONTENT


@pytest.mark.parametrize("content", [b"the dig ate\n", b"the dog ate\nand more"])
def test_wrong_content_is_thrown_away(server: Server, tmp_path: Path, content: bytes) -> None:
    server.content["toy.valid.txt"] = content
    with pytest.raises(DataError, match=rf"toy\.valid\.txt: SHA-256 is .*expected {FILES[1].sha256}"):
        fetch("toy", tmp_path)
    assert inside(tmp_path) == {"toy.train.txt": TRAIN}


def test_part_of_another_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.train.txt.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="SHA-256"):
        fetch("toy", tmp_path)
    assert inside(tmp_path) == {}
    fetch("toy", tmp_path)
    assert inside(tmp_path) == CONTENT


def test_file_not_there(server: Server, tmp_path: Path) -> None:
    del server.content["toy.test.txt"]
    with pytest.raises(DataError, match=r"toy\.test\.txt: the server returned 404 "):
        fetch("toy", tmp_path)
    assert set(inside(tmp_path)) == {"toy.train.txt", "toy.valid.txt"}


def test_nothing_listens(server: Server, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but it does not listen
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            DataError, match=rf"{url}/toy\.train\.txt: no connection \(.*refused\); connect to .*: gatewise train demo$"
        ):
            fetch("toy", tmp_path, mirror=url)


@pytest.mark.parametrize("cause", [socket.gaierror(-2, "Name not known"), OSError(errno.ENETUNREACH, "unreachable")])
def test_without_a_network(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: OSError) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError(cause)

    monkeypatch.setattr("urllib.request.OpenerDirector.open", no_network)
    with pytest.raises(DataError, match=rf"no connection \(.*\); connect to a network, .* the files into {tmp_path}"):
        fetch("toy", tmp_path)


def test_chunked_answer_cut_off(server: Server, tmp_path: Path) -> None:
    server.chunked, server.cut_after = True, 100_000
    with pytest.raises(DataError, match="download interrupted"):
        fetch("toy", tmp_path)


def test_server_that_speaks_no_http(server: Server, tmp_path: Path) -> None:
    server.speaks_http = False
    with pytest.raises(DataError, match=r"toy\.train\.txt"):
        fetch("toy", tmp_path)


def test_files_that_are_right_are_left_alone(server: Server, tmp_path: Path) -> None:
    fetch("toy", tmp_path)
    (tmp_path / "toy.valid.txt").write_bytes(b"the dig ate\n")
    server.requests.clear()
    seen: list[tuple[str, int]] = []
    fetch("toy", tmp_path, report=lambda file, here: seen.append((file.name, here)))
    assert server.requests == [("toy.valid.txt", None)]
    assert seen == [(file.name, file.size) for file in FILES]
    assert inside(tmp_path) == CONTENT


def test_mirror(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CORPORA", {"toy": RemoteCorpus("http://127.0.0.1:9/nothing", FILES, "", "")})
    fetch("toy", tmp_path / "argument", mirror=f"{server.url}/")
    monkeypatch.setenv("GATEWISE_MIRROR", server.url)
    fetch("toy", tmp_path / "variable")
    assert inside(tmp_path / "argument") == inside(tmp_path / "variable") == CONTENT
    monkeypatch.setenv("GATEWISE_MIRROR", "http://127.0.0.1:9/nothing")
    fetch("toy", tmp_path / "both", mirror=server.url)


def test_mirror_that_is_no_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="my-mirror"):
        fetch("toy", tmp_path, mirror="my-mirror")


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown corpus 'ptp'; expected one of ptb"):
        fetch("ptp", tmp_path)


def test_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot create this folder"):
        fetch("toy", tmp_path / "file")


@pytest.mark.parametrize("name", CORPORA)
def test_the_catalogue(name: str) -> None:
    """Every entry can be what it says: addresses, names that differ, sizes, SHA-256, a command of this program."""
    corpus = CORPORA[name]
    assert corpus.url.startswith("https://")
    assert not corpus.url.endswith("/")
    assert len({file.name for file in corpus.files}) == len({file.sha256 for file in corpus.files}) == len(corpus.files)
    assert all(file.size > 0 and re.fullmatch("[0-9a-f]{64}", file.sha256) for file in corpus.files)
    assert re.fullmatch("gatewise train [a-z-]+ --data", corpus.next_command)


@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("ptb", "ptb", ["ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"]),
        # The training text stands there with its documents in another order; MNIST was packed anew.
        ("ud-ewt", "ud_en_ewt", ["en_ewt-ud-dev.conllu", "en_ewt-ud-test.conllu"]),
    ],
)
def test_the_catalogue_has_the_real_bytes(name: str, folder: str, files: list[str]) -> None:
    expected = {file.name: (file.size, file.sha256) for file in CORPORA[name].files}
    for file in files:
        path = real_data(folder) / file
        assert (path.stat().st_size, file_hash(path)) == expected[file]


def make_link(part: Path) -> None:
    part.with_name("elsewhere").write_bytes(b"mine")
    part.symlink_to("elsewhere")


@pytest.mark.parametrize("name", ["toy.train.txt.part", "toy.train.txt"])
@pytest.mark.parametrize(
    ("make", "kind"), [(make_link, "a link"), (Path.mkdir, "a folder"), (os.mkfifo, "a device or pipe")]
)
def test_what_is_no_file_in_the_place_of_one(
    server: Server, tmp_path: Path, make: Callable[[Path], None], kind: str, name: str
) -> None:
    """A link is not followed: what it leads to stays; in the file's own place the file replaces it."""
    make(tmp_path / name)
    if kind == "a link" and not name.endswith("part"):
        fetch("toy", tmp_path)
        assert not (tmp_path / name).is_symlink()
    else:
        with pytest.raises(DataError, match=rf"{name}: {kind}, expected a regular file or nothing; remove it"):
            fetch("toy", tmp_path)
        assert server.requests == []
    if kind == "a link":
        assert (tmp_path / "elsewhere").read_bytes() == b"mine"


def test_a_right_file_may_be_a_link(server: Server, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(TRAIN)
    (tmp_path / "toy.train.txt").symlink_to("elsewhere")
    fetch("toy", tmp_path)
    assert (tmp_path / "toy.train.txt").is_symlink()


def test_part_that_another_download_writes(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "toy.train.txt.part"
    part.write_bytes(TRAIN[:1000])
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"toy\.train\.txt\.part: in use by another download; wait"):
            fetch("toy", tmp_path)
        assert part.read_bytes() == TRAIN[:1000]
    fetch("toy", tmp_path)
    assert inside(tmp_path) == CONTENT


def test_part_that_was_finished_between_opening_and_locking(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process gave the file its name just then: it is not written into."""
    part, target, lock = tmp_path / "toy.train.txt.part", tmp_path / "toy.train.txt", fcntl.flock

    def finish_first(file: object, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        os.replace(part, target)
        target.write_bytes(b"whole")

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with download._own(part) as out:
        out.write(b"new")
        assert (part.read_bytes(), target.read_bytes()) == (b"new", b"whole")


@pytest.mark.parametrize("status", [416, 206])
def test_stale_part_is_begun_anew(server: Server, tmp_path: Path, status: int) -> None:
    """The server has nothing from there on, or sends another piece than was asked for."""
    (tmp_path / "toy.train.txt.part").write_bytes(b"x" * 1000)
    headers = {"Content-Range": "bytes 0-99/*"} if status == 206 else {}
    server.answer = lambda handler: handler.say(status, headers, b"y" * 100)
    fetch("toy", tmp_path)
    assert server.requests[:2] == [("toy.train.txt", "bytes=1000-"), ("toy.train.txt", None)]
    assert inside(tmp_path) == CONTENT


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (206, {"Content-Range": "bytes 5-9/10"}, "the server returned status 206 instead of the file"),
        (204, {}, "the server returned status 204 instead of the file"),
        (416, {}, "the server returned 416 "),
        (200, {"Content-Encoding": "gzip"}, "unexpected content encoding gzip; expected none"),
    ],
)
def test_answers_that_are_not_the_file(
    server: Server, tmp_path: Path, status: int, headers: dict[str, str], message: str
) -> None:
    server.answer = lambda handler: handler.say(status, headers, b"" if status == 204 else b"12345")
    with pytest.raises(DataError, match=message):
        fetch("toy", tmp_path)
    assert inside(tmp_path) == {}


def test_body_without_end(server: Server, tmp_path: Path) -> None:
    """It is read to one byte beyond what the catalogue says."""

    def pour(handler: Handler) -> None:
        handler.say(200, {})
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(bytes(1 << 16))

    server.answer = pour
    seen: list[int] = []
    with pytest.raises(DataError, match="SHA-256 is"):
        fetch("toy", tmp_path, report=lambda file, here: seen.append(here))
    assert max(seen) == len(TRAIN) + 1
    assert inside(tmp_path) == {}


def test_what_a_server_says_is_one_line_without_commands(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler: handler.wfile.write(b"HTTP/1.0 500 \x1b[2Jgone\x9b1m\r\n\r\n")
    with pytest.raises(DataError, match=r"the server returned 500 \\x1b\[2Jgone"):
        fetch("toy", tmp_path)


def test_disk_that_is_full(server: Server, tmp_path: Path) -> None:
    """What came is kept, and the place is named."""
    found = in_child(lambda: fetch("toy", tmp_path), largest_file=100_000)
    assert re.match(r"DataError: .*toy\.train\.txt\.part: cannot write it \(File too large\); free disk space", found)
    assert inside(tmp_path) == {"toy.train.txt.part": TRAIN[:100_000]}
    fetch("toy", tmp_path)
    assert inside(tmp_path) == CONTENT
