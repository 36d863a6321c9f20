"""Downloads from a server on this machine: whole, cut off, resumed, refused, wrong."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gatewise.data import download
from gatewise.data.corpora import CORPORA, RemoteCorpus, RemoteFile
from gatewise.data.download import fetch
from gatewise.data.token_cache import file_hash
from gatewise.errors import DataError, UsageError
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

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, name = self.server, self.path.removeprefix("/data/")
        asked = self.headers.get("Range")
        server.requests.append((name, asked))
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

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("GATEWISE_MIRROR", raising=False)
    with Server() as server:
        monkeypatch.setattr(download, "CORPORA", {"toy": RemoteCorpus(server.url, FILES, "")})
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
    with pytest.raises(DataError, match=r"toy\.train\.txt: the download broke off .*resumed"):
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
    with pytest.raises(DataError, match=r"toy\.test\.txt: the server answers 404 "):
        fetch("toy", tmp_path)
    assert set(inside(tmp_path)) == {"toy.train.txt", "toy.valid.txt"}


def test_nothing_listens(server: Server, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but it does not listen
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(DataError, match=rf"{url}/toy\.train\.txt: the download broke off \(.*refused"):
            fetch("toy", tmp_path, mirror=url)


def test_chunked_answer_cut_off(server: Server, tmp_path: Path) -> None:
    server.chunked, server.cut_after = True, 100_000
    with pytest.raises(DataError, match="broke off"):
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
    monkeypatch.setattr(download, "CORPORA", {"toy": RemoteCorpus("http://127.0.0.1:9/nothing", FILES, "")})
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
    with pytest.raises(UsageError, match=r"no corpus 'ptp'; expected one of ptb"):
        fetch("ptp", tmp_path)


def test_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot make this folder"):
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
