"""The configuration for nginx, tried with nginx: TLS, pinned sessions, streams and WebSockets, what is logged."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

httpx = pytest.importorskip("httpx")
websockets = pytest.importorskip("websockets")
pytest.importorskip("uvicorn")

FILE = REPOSITORY / "examples" / "serve" / "nginx.conf"
NAME = "models.example.org"


@dataclass
class Proxy:
    """nginx, and what it leads to.

    Attributes:
        plain, tls: its ports.
        ports: of the two processes.
        certificate: to believe.
        log: where it logs requests.
        processes: the two.
    """

    plain: int
    tls: int
    ports: tuple[int, int]
    certificate: Path
    log: Path
    processes: list[subprocess.Popen[bytes]]

    @property
    def origin(self) -> str:
        """The address that a browser shows."""
        return f"https://{NAME}:{self.tls}"

    def client(self) -> "httpx.Client":
        """A client that finds the proxy under its name."""
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.tls}",
            headers={"Host": f"{NAME}:{self.tls}"},
            verify=self.trusting(),
            trust_env=False,
            timeout=10,
        )

    def trusting(self) -> ssl.SSLContext:
        """A context that believes the certificate, whatever the address."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.check_hostname = False
        return context


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_:
        return [open_.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, "the program has ended"
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


def program(name: str) -> str:
    """The path of a program of the system; skips the test where it is missing."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        pytest.skip(f"needs {name}")
    return found


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    nginx, openssl = program("nginx"), program("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
         "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    plain, tls, *ports = free_ports(4)
    text = FILE.read_text(encoding="utf-8")
    changes = {
        "8001": str(ports[0]),
        "8002": str(ports[1]),
        "listen [::]:80;": "",
        "listen [::]:443 ssl;": "",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{tls} ssl;",
        f"/etc/letsencrypt/live/{NAME}/fullchain.pem": str(certificate),
        f"/etc/letsencrypt/live/{NAME}/privkey.pem": str(key),
        "/var/log/nginx/gatewise.log": str(tmp_path / "requests.log"),
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / "gatewise.conf").write_text(text)
    places = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{\n{places}access_log off; include {tmp_path}/gatewise.conf;\n}}\n"
    )
    command = [nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=30)
    assert tested.returncode == 0 and "warn" not in tested.stderr, tested.stderr
    started: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            started.append(subprocess.Popen([sys.executable, str(Path(__file__).with_name("upstream.py")), str(port)]))
        started.append(subprocess.Popen(command))
        for port, process in zip([*ports, tls], started, strict=True):
            wait_for(port, process)
        yield Proxy(plain, tls, (ports[0], ports[1]), certificate, tmp_path / "requests.log", started[:2])
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(15)


def test_sessions_stay_where_they_were_made(proxy: Proxy) -> None:
    with proxy.client() as client:
        made = [client.post("/v1/sessions", json={}).json()["id"] for _ in range(12)]
        assert {id_.partition("-")[0] for id_ in made} == set(map(str, proxy.ports))  # both processes make some
        for id_ in made:
            for _ in range(3):
                found = client.get(f"/v1/sessions/{id_}", headers={"Connection": "keep-alive"}).json()
                assert f"{found['port']}-abc" == id_
                assert found["path"] == f"/v1/sessions/{id_}"
                assert found["headers"]["host"] == f"{NAME}:{proxy.tls}"
                assert found["headers"].get("connection") in (None, "close", "keep-alive")
        other = {client.get("/v1/models").json()["port"] for _ in range(12)}
        assert other == set(map(str, proxy.ports))


def test_a_process_that_is_down_takes_only_its_sessions_with_it(proxy: Proxy) -> None:
    first, second = proxy.ports
    proxy.processes[0].terminate()
    proxy.processes[0].wait(15)
    with proxy.client() as client:
        assert client.get(f"/v1/sessions/{first}-abc").status_code == 502  # not 404, which would mean that it is gone
        assert client.get(f"/v1/sessions/{second}-abc").json()["port"] == str(second)
        assert [client.get("/v1/models").json()["port"] for _ in range(6)] == [str(second)] * 6


def test_events_are_not_held_back(proxy: Proxy) -> None:
    with proxy.client() as client:
        address = f"/v1/sessions/{proxy.ports[0]}-abc"
        with client.stream("POST", f"{address}/generate", json={"stream": True}) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: token"  # while the process waits
            assert client.post(f"{address}/finish").status_code == 200
            assert [line for line in lines if line.startswith("event")] == ["event: done"]


def test_websockets(proxy: Proxy) -> None:
    async def ask(port: int) -> tuple[str, str | None]:
        async with websockets.connect(
            f"wss://{NAME}:{proxy.tls}/v1/sessions/{port}-abc/ws",
            host="127.0.0.1",
            port=proxy.tls,
            ssl=proxy.trusting(),
            origin=proxy.origin,
            subprotocols=["gatewise"],
            proxy=None,
        ) as connection:
            await connection.send("hello")
            return str(await connection.recv()), connection.subprotocol

    for port in proxy.ports:
        assert asyncio.run(ask(port)) == (f"{port} hello {proxy.origin}", "gatewise")


def test_a_saved_state_passes_and_metrics_do_not(proxy: Proxy) -> None:
    with proxy.client() as client:
        state = client.put(f"/v1/sessions/{proxy.ports[0]}-abc/state", content=bytes(40_000_000))
        assert state.json()["size"] == 40_000_000
        assert client.get("/metrics").status_code == 404


def test_without_tls_there_is_only_the_way_to_it(proxy: Proxy) -> None:
    found = httpx.get(
        f"http://127.0.0.1:{proxy.plain}/v1/models?a=b", headers={"Host": NAME}, trust_env=False, timeout=10
    )
    assert (found.status_code, found.headers["Location"]) == (301, f"https://{NAME}/v1/models?a=b")


def test_the_log_has_no_ids(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.get(f"/v1/sessions/{proxy.ports[0]}-abc?key=secret")
        client.get(f"/v1/sessions/{proxy.ports[0]}-abc/state", headers={"Authorization": "Bearer secret"})
        client.get("/v1/models")
    for _ in range(100):
        text = proxy.log.read_text() if proxy.log.exists() else ""
        if text.count("\n") == 3:
            break
        time.sleep(0.05)
    assert [line.split("] ")[1].split()[:3] for line in text.splitlines()] == [
        ["GET", "/v1/sessions/-", "200"],
        ["GET", "/v1/sessions/-/state", "200"],
        ["GET", "/v1/models", "200"],
    ]
    assert "abc" not in text and "secret" not in text
