"""``gatewise serve`` starts, or says in one line why not; it needs no PyTorch."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gatewise.errors import UsageError
from gatewise.serving.catalog import Catalog
from gatewise.serving.server import find_key
from tests.cli.test_score_alone import ALONE, needed
from tests.serving.rig import served

EXTRA = (
    "numpy", "tomli", "fastjsonschema", "filelock", "prometheus-client", "starlette", "typer", "uvicorn", "websockets"
)  # fmt: skip
TRAINING = {"torch", "tokenizers", "safetensors", "tomli_w", "httpx"}
DIRECT = ALONE.replace(
    "from gatewise.__main__ import run\nrun()",
    """
from gatewise.serving.server import serve
from gatewise.serving.settings import Settings
serve(sys.argv[2:sys.argv.index("--port")], Settings(port=0), say=lambda line: print(line, flush=True))
""",
)
"""The server without the command line, whose package may need pydantic."""


def failed(*words: Any, env: dict[str, str] | None = None, command: Any = ("-m", "gatewise")) -> tuple[int, str]:
    """Start a server that cannot start; return its status and what it says, which is one line."""
    settings = {name: value for name, value in os.environ.items() if name != "GATEWISE_KEY"} | (env or {})
    done = subprocess.run(
        [sys.executable, *command, "serve", *map(str, words)], capture_output=True, text=True, timeout=60, env=settings,
        check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("gatewise: "), done.stderr
    return done.returncode, done.stderr.removeprefix("gatewise: ").strip()


def test_addresses(runs: dict[str, Path]) -> None:
    run = runs["words"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert failed(run, "--port", port) == (
            2, f"127.0.0.1, port {port}: is in use; choose another --port, or 0 for a free one"
        )  # fmt: skip
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        status, said = failed(run, "--host", host, "--port", 0)
        assert status == 2 and "others can reach that address, and there is no key; set GATEWISE_KEY or" in said
    status, said = failed(run, "--host", "no.such.host.invalid", "--port", 0, env={"GATEWISE_KEY": "key"})
    assert status == 2 and "expected an address of this machine" in said
    status, said = failed(run, "--host", "192.0.2.1", "--port", 0, env={"GATEWISE_KEY": "key"})
    assert status == 2 and said.startswith("192.0.2.1, port 0: ")


def test_keys(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["words"]
    assert failed(run, "--key-file", tmp_path / "none") == (
        2, f"{tmp_path / 'none'}: No such file or directory; expected a file with the key in one line"
    )  # fmt: skip
    assert failed(run, "--key-file", tmp_path)[0] == 2
    (tmp_path / "key").write_text("two words")
    status, said = failed(run, "--key-file", tmp_path / "key")
    assert status == 2 and said.startswith(f"{tmp_path / 'key'}: not a key") and "two" not in said
    for content in (b"", b"\n", b"  \n", b"two\nlines", "schlüssel".encode(), b"\xff\xfe", b"a\0b"):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(UsageError, match=": not"):
            find_key(tmp_path / "key")
    (tmp_path / "key").write_bytes(b" key\r\n")
    assert find_key(tmp_path / "key") == "key"
    status, said = failed(run, env={"GATEWISE_KEY": ""})
    assert (status, said.partition(":")[0]) == (2, "GATEWISE_KEY")


def test_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.gatewise").write_bytes(b"damaged")
    for wrong in ("nothing", "empty", "damaged.gatewise"):
        status, said = failed(runs["words"], tmp_path / wrong, "--port", 0)
        assert status == 4 and str(tmp_path / wrong) in said
    assert failed(runs["words"], runs["words"]) == (
        2, f"two models are called 'words'; give one another name: other={runs['words']}"
    )  # fmt: skip
    for name in ("", "a/b", "a\tb", "x" * 101):
        with pytest.raises(UsageError, match="the model has no usable name; expected NAME=PATH"):
            Catalog([f"{name}={runs['words']}"])
    assert failed(runs["words"], "--weights", "fp8")[0] == 2


@pytest.mark.skipif(os.geteuid() == 0 and sys.platform != "linux", reason="/proc is where even root cannot write")
def test_state_folders(runs: dict[str, Path], tmp_path: Path) -> None:
    run, states = runs["words"], tmp_path / "states"
    with served([run], "--state-dir", states):
        status, said = failed(run, "--port", 0, "--state-dir", states)
        assert (status, said) == (
            2, f"{states} is in use by another server; expected a folder of its own for each --state-dir"
        )  # fmt: skip
    with served([run], "--state-dir", states):
        pass
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/states")):
        status, said = failed(run, "--port", 0, "--state-dir", wrong)
        assert status == 2 and said.startswith(f"{wrong}: ") and "expected a folder that can be written to" in said


def test_names_of_models(runs: dict[str, Path], tmp_path: Path) -> None:
    link = tmp_path / "by=link"
    link.symlink_to(runs["letters"])
    with served([f"first={runs['words']}", runs["relu"], f"Ä b={runs['tagger']}", link]) as server:
        names = [one["id"] for one in server.get("/v1/models")["data"]]
        assert names == ["first", "relu", "Ä b", "letters"]
        for name in names:
            assert server.get(f"/v1/models/{name}")["id"] == name
        assert server.post("/v1/tag", {"text": "the"})["model"] == "Ä b"  # the only tagger
        server.post("/v1/score", {"texts": ["the"]}, 422)  # three language models
        body = {"model": "first", "prompt": "the", "seed": 1}
        assert server.post("/v1/completions", body)["model"] == "first"
    with served([runs["words"], runs["crf"]]) as server:
        assert server.post("/v1/sessions", {}, 201)["model"] == "words"  # the only one that streams
        assert server.post("/v1/score", {"texts": ["the"]})["model"] == "words"
        assert "not served here" in server.post("/v1/classify", {"inputs": ["the"]}, 422)["error"]["message"]


@pytest.mark.parametrize("by", ["command", "call"])
def test_without_pytorch(runs: dict[str, Path], by: str) -> None:
    """Every route, where only what the extra brings can be imported."""
    assert "run()" not in DIRECT
    allowed = needed(*EXTRA) if by == "command" else needed(*(name for name in EXTRA if name != "typer"))
    assert not allowed & (TRAINING if by == "command" else TRAINING | {"pydantic", "typer"})
    command = (sys.executable, "-c", ALONE if by == "command" else DIRECT, " ".join(allowed | {"gatewise"}))
    with served(runs, command=command) as server:
        body = {"model": "words", "prompt": "the dog", "seed": 1, "logprobs": 2}
        assert server.post("/v1/completions", body)["choices"][0]["text"]
        for name in ("words", "tagger", "text", "classifier", "regressor"):
            id_ = server.session(name)
            content = server.http.get(f"/v1/sessions/{id_}/state").content
            assert server.http.put(f"/v1/sessions/{id_}/state", content=content).status_code == 200
        id_ = server.session("words")
        assert server.post(f"/v1/sessions/{id_}/feed", {"text": "the dog"})["position"] == 2
        stream = server.http.post(f"/v1/sessions/{id_}/generate", json={"stream": True, "gates": True, "top": 2})
        assert stream.text.count("event: token") == 50
        for route, asked in (
            ("tag", {"model": "crf", "text": "the dog"}), ("classify", {"model": "text-mean", "inputs": ["the dog"]}),
            ("forecast", {"model": "regressor", "inputs": [[[1000, 2, -3]]]}),
            ("score", {"model": "words", "texts": [""]}),
        ):  # fmt: skip
            server.post(f"/v1/{route}", asked)
        for path in ("/health", "/ready", "/metrics", "/openapi.json", "/v1/models"):
            server.get(path)
        assert server.end() == 0
        assert server.stderr() == ""


@pytest.mark.parametrize("lacking", ["starlette", "uvicorn", "fastjsonschema", "prometheus_client", "websockets"])
def test_what_brings_what_is_missing_is_said(runs: dict[str, Path], lacking: str) -> None:
    names = [name for name in EXTRA if name.replace("-", "_") != lacking]
    command = ("-c", ALONE, " ".join((needed(*names) | {"gatewise"}) - {lacking}))
    status, said = failed(runs["words"], command=command)
    assert status == 2 and said.endswith(f" needs {lacking}, which is not installed; it comes with the extra 'serve'")


def test_the_base_alone(runs: dict[str, Path]) -> None:
    command = ("-c", ALONE, " ".join(needed("numpy", "tomli") | {"gatewise"}))
    assert failed(runs["words"], command=command) == (
        2, "the command line needs typer, which is not installed; it comes with the extra 'serve'"
    )  # fmt: skip


def test_what_nothing_foresees(runs: dict[str, Path]) -> None:
    fails = """
from gatewise.serving.app import Engine
def start(engine): raise RuntimeError("no engine")
Engine.start = start
from gatewise.__main__ import run
run()
"""
    status, line = failed(runs["words"], "--port", 0, command=("-c", fails))
    assert status == 1 and "unforeseen: RuntimeError: no engine" in line
