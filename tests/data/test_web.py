"""A server that leads astray, is slow, or says what commands a terminal."""

import contextlib
import time
import urllib.request
from pathlib import Path

import pytest

from gatewise.data import web
from gatewise.data.download import fetch
from gatewise.errors import DataError, UsageError
from tests.data.test_download import CONTENT, Handler, Server, inside
from tests.data.test_download import server as server


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file:///etc/passwd", r"302 .*'file:///etc/passwd' is not allowed"),
        ("ftp://127.0.0.1/toy.train.txt", r"the server redirects to 'ftp://127\.0\.0\.1/toy\.train\.txt'"),
        ("http://[::1/toy", r"invalid redirect \(Invalid IPv6"),
        ("http://127.0.0.1:99999/toy", r"the server redirects to 'http://127.0.0.1:99999/toy'"),
        (None, r"the server returned 302 Found"),
    ],
)
def test_redirects_that_lead_nowhere(server: Server, tmp_path: Path, location: str | None, message: str) -> None:
    server.answer = lambda handler: handler.say(302, {} if location is None else {"Location": location})
    with pytest.raises(DataError, match=message) as caught:
        fetch("toy", tmp_path)
    assert "\n" not in str(caught.value) and "another mirror" in str(caught.value)
    assert inside(tmp_path) == {}


def test_redirects(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is followed, a circle is left."""
    server.answer = lambda handler: handler.say(307, {"Location": f"{server.url}/toy.train.txt"})
    fetch("toy", tmp_path / "one")
    assert inside(tmp_path / "one") == CONTENT
    monkeypatch.setattr(Handler, "do_GET", lambda handler: handler.say(302, {"Location": handler.path}))
    with pytest.raises(DataError, match=r"toy\.train\.txt: redirect loop; try later") as caught:
        fetch("toy", tmp_path / "circle")
    assert "\n" not in str(caught.value)


def test_https_is_not_left() -> None:
    asked = urllib.request.Request("https://example.org/a")
    follow = web._Redirects().redirect_request
    with pytest.raises(DataError, match=r"https://example\.org/a: the server redirects to 'http://example\.org/a'"):
        follow(asked, None, 302, "Found", {}, "http://example.org/a")
    assert follow(asked, None, 302, "Found", {}, "https://example.org/b").full_url == "https://example.org/b"


@pytest.mark.parametrize("where", ["headers", "body"])
def test_server_that_sends_a_byte_now_and_then(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Each wait is short, all together are not."""
    monkeypatch.setattr(web, "PATIENCE_S", 0.3)

    def drip(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + b"\r\n" * (where == "body"))
        with contextlib.suppress(OSError):
            for _ in range(40):
                handler.wfile.write(b"x")
                time.sleep(0.05)

    server.answer = drip
    began = time.monotonic()
    with pytest.raises(DataError, match=r"download interrupted \((no response within|only \d+ bytes received in)"):
        fetch("toy", tmp_path)
    assert time.monotonic() - began < 1.8


@pytest.mark.parametrize(
    "mirror", ["http://", "http://[::1", "https://ex\u00e4mple.org/ptb", "http://127.0.0.1:x/", "http://a/\x1b[2J"]
)
def test_mirrors_of_odd_letters(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(UsageError, match="is not a URL; expected a base URL"):
        fetch("ptb", tmp_path, mirror=mirror)


def test_host_of_an_impossible_name(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="download interrupted"):
        fetch("toy", tmp_path, mirror=f"http://{'a' * 70}.127.0.0.1/")
