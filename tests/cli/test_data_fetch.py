"""The command ``data fetch`` with a local server."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gatewise.data.corpora import CORPORA, RemoteCorpus, RemoteFile
from tests.cli.conftest import Gatewise, contents

TEXTS = {"ptb.train.txt": b"the dog ate\n" * 50, "ptb.valid.txt": b"the dog\n", "ptb.test.txt": b"the apple\n"}


class Server(HTTPServer):
    """Serves ``texts`` by name, from the requested byte on; ``asked`` lists the requests."""

    texts: dict[str, bytes]
    asked: list[tuple[str, str | None]]
    cut_at: int | None = None


class Handler(BaseHTTPRequestHandler):
    """Answers GET; with ``cut_at``, the connection ends after that many bytes."""

    server: Server

    def do_GET(self) -> None:
        name, ranged = self.path.rpartition("/")[2], self.headers.get("Range")
        self.server.asked.append((name, ranged))
        if name not in self.server.texts:
            self.send_error(404)
            return
        start = int(ranged.removeprefix("bytes=").rstrip("-")) if ranged else 0
        content = self.server.texts[name][start:]
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.cut_at])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose small texts replace the corpus ptb."""
    files = tuple(RemoteFile(name, len(text), hashlib.sha256(text).hexdigest()) for name, text in TEXTS.items())
    monkeypatch.setitem(
        CORPORA, "ptb", RemoteCorpus("http://127.0.0.1:9/closed", files, CORPORA["ptb"].next_command, "")
    )
    server = Server(("127.0.0.1", 0), Handler)
    server.texts, server.asked = dict(TEXTS), []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(server: Server, to: Path) -> tuple[str, ...]:
    """Return the arguments of the command that fetches from the server."""
    return "data", "fetch", "ptb", "--to", str(to), "--mirror", f"http://127.0.0.1:{server.server_port}/texts"


def test_fetch_checks_and_says_what_comes_next(gatewise: Gatewise, server: Server, tmp_path: Path) -> None:
    """All files are downloaded, the next command is shown, and a second call downloads nothing."""
    words = fetch(server, tmp_path / "ptb")
    result = gatewise(*words)
    assert result.status == 0, result.err
    assert contents(tmp_path / "ptb") == TEXTS
    assert f"next: gatewise train ptb-small --data {tmp_path / 'ptb'}" in result.out
    assert len(result.out.splitlines()) == 1
    server.asked.clear()
    assert gatewise(*words).status == 0
    assert server.asked == []


def test_default_folder(gatewise: Gatewise, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --to, the corpus is saved to data/NAME in the current folder; the environment may name the mirror."""
    monkeypatch.setenv("GATEWISE_MIRROR", f"http://127.0.0.1:{server.server_port}/texts/")
    assert gatewise("data", "fetch", "ptb").status == 0
    assert contents(tmp_path / "data" / "ptb") == TEXTS


def test_wrong_hash_leaves_no_file(gatewise: Gatewise, server: Server, tmp_path: Path) -> None:
    """A file of the right length with other bytes is deleted: status 3."""
    server.texts["ptb.train.txt"] = TEXTS["ptb.train.txt"].replace(b"dog", b"cat")
    result = gatewise(*fetch(server, tmp_path / "ptb"))
    expected = hashlib.sha256(TEXTS["ptb.train.txt"]).hexdigest()
    result.check_refused(3, "ptb.train.txt: SHA-256 is", f"expected {expected}", "another --mirror", progress=True)
    assert contents(tmp_path / "ptb") == {}


def test_longer_than_announced_leaves_no_file(gatewise: Gatewise, server: Server, tmp_path: Path) -> None:
    """A file with extra bytes is deleted: status 3."""
    server.texts["ptb.train.txt"] = TEXTS["ptb.train.txt"] + b"more"
    result = gatewise(*fetch(server, tmp_path / "ptb"))
    result.check_refused(3, "SHA-256 is", "another --mirror", progress=True)
    assert contents(tmp_path / "ptb") == {}


def test_cut_off_download_is_resumed(gatewise: Gatewise, server: Server, tmp_path: Path) -> None:
    """An interrupted download is status 3, with advice to run again, which then requests only the rest."""
    words = fetch(server, tmp_path / "ptb")
    server.cut_at = 100
    gatewise(*words).check_refused(3, "download interrupted", "run the same command again", progress=True)
    server.cut_at = None
    server.asked.clear()
    assert gatewise(*words).status == 0
    assert server.asked[0] == ("ptb.train.txt", "bytes=100-")
    assert contents(tmp_path / "ptb") == TEXTS


def test_file_not_on_the_server(gatewise: Gatewise, server: Server, tmp_path: Path) -> None:
    """A file missing on the server is status 3, and no file is left."""
    del server.texts["ptb.train.txt"]
    result = gatewise(*fetch(server, tmp_path / "ptb"))
    result.check_refused(3, "ptb.train.txt: the server returned 404", "another --mirror", progress=True)
    assert contents(tmp_path / "ptb") == {}


def test_nobody_answers(gatewise: Gatewise, server: Server, tmp_path: Path) -> None:
    """A connection that is refused, or reset by a server that is about to end, is status 3."""
    words = fetch(server, tmp_path / "ptb")
    server.server_close()
    result = gatewise(*words)
    result.check_refused(3, "ptb.train.txt: ", progress=True)
    assert "no connection" in result.err or "download interrupted" in result.err
    assert contents(tmp_path / "ptb") == {}


def test_answer_that_is_no_http(
    gatewise: Gatewise, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with another protocol is status 3, not unforeseen."""
    monkeypatch.setattr(Handler, "do_GET", lambda handler: handler.wfile.write(b"220 mail ready\r\n\r\n"))
    result = gatewise(*fetch(server, tmp_path / "ptb"))
    result.check_refused(3, "ptb.train.txt", progress=True)
    assert contents(tmp_path / "ptb") == {}


@pytest.mark.parametrize("mirror", ["example", "http://127.0.0.1:9/a b", "gopher://127.0.0.1"])
def test_mirror_that_is_no_address(mirror: str, gatewise: Gatewise, tmp_path: Path) -> None:
    """A --mirror that is not an HTTP address is a usage or data error, not unforeseen."""
    result = gatewise("data", "fetch", "ptb", "--to", tmp_path / "ptb", "--mirror", mirror)
    assert result.status in (2, 3), result.err
    assert mirror in result.err


def test_folder_that_cannot_be_made(gatewise: Gatewise, server: Server, tmp_path: Path) -> None:
    """A --to below a file is status 3, without a request to the server."""
    (tmp_path / "file").write_text("text")
    result = gatewise(*fetch(server, tmp_path / "file" / "ptb"))
    result.check_refused(3, "cannot create this folder", "choose another --to", progress=True)
    assert server.asked == []


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_of_the_catalogue(name: str, gatewise: Gatewise, server: Server, tmp_path: Path) -> None:
    """The corpus is requested by its file names, rejected if its files differ, and listed in the help."""
    first = CORPORA[name].files[0].name
    server.texts = {first: b"something else\n"}
    mirror = f"http://127.0.0.1:{server.server_port}/texts"
    result = gatewise("data", "fetch", name, "--to", tmp_path / "to", "--mirror", mirror)
    assert server.asked[0] == (first, None)
    result.check_refused(3, first, progress=True)
    assert name in gatewise("data", "fetch", "--help").out


def test_a_corpus_that_is_not_there(gatewise: Gatewise) -> None:
    """An unknown name is status 2, with a list of the known names."""
    gatewise("data", "fetch", "ptp").check_refused(2, "unknown corpus 'ptp'; expected one of ptb, mnist, ud-ewt")
