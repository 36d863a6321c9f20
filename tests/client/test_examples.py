"""The examples in examples/serve, against a server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewise import runtime
from tests.conftest import REPOSITORY
from tests.library.builds import varied_language, varied_tagger
from tests.serving.rig import serve

pytest.importorskip("uvicorn")
EXAMPLES = REPOSITORY / "examples" / "serve"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return varied_language(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def address(model: Path) -> Iterator[str]:
    with serve(f"lm={model}", key="a-key") as (address, _):
        yield address


def ran(*command: str | Path, folder: Path, key: str = "a-key") -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, "GATEWISE_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lm(model: Path) -> runtime.LanguageModel:
    loaded = runtime.load(model)
    assert isinstance(loaded, runtime.LanguageModel)
    return loaded


def test_the_client(address: str, model: Path, tmp_path: Path) -> None:
    printed = ran(sys.executable, EXAMPLES / "client.py", address, folder=tmp_path)
    expected = lm(model).generate("the value of", max_tokens=20, temperature=0.7, seed=1)
    assert printed.startswith(expected.removeprefix("the value of") + "\n")
    assert len(re.findall(r"^ *'.*'  probability 0\.\d{3}  i 0\.\d\d$", printed, re.M)) == 10
    assert printed.endswith("the session has read 23 tokens\n")


def test_openai(address: str, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    printed = ran(sys.executable, EXAMPLES / "openai_completions.py", address, folder=tmp_path)
    one, two = (lm(model).generate("the value of", max_tokens=20, temperature=t, seed=s) for t, s in ((0.7, 1), (1, 2)))
    one, two = (text.removeprefix("the value of") for text in (one, two))
    found = re.fullmatch(r"(.*) CompletionUsage\((.*?)\)\n(.*)\n\{(.*)\}\n", printed, re.S)
    assert found
    assert (found[1], found[3]) == (one, two)
    assert "completion_tokens=20" in found[2] and "prompt_tokens=3" in found[2]
    assert found[4].count(": -") == 3


def test_curl(address: str, model: Path, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    printed = ran("bash", EXAMPLES / "curl.sh", address, folder=tmp_path)
    models, completion, session, state = re.split(r"== .*\n", printed)[1:]
    assert [one["id"] for one in json.loads(models)["data"]] == ["lm"]
    expected = lm(model).generate("the value of", max_tokens=10, seed=1).removeprefix("the value of")
    assert json.loads(completion)["choices"][0]["text"] == expected
    fed, *stream, forked = session.strip().splitlines()
    assert json.loads(fed)["position"] == 3
    assert re.findall(r"^event: (\w+)$", "\n".join(stream), re.M) == ["token"] * 3 + ["done"]
    assert json.loads(forked)["position"] == 6
    assert json.loads(state) == {"position": 6}
    assert lm(model).load_state((tmp_path / "session.safetensors").read_bytes()).save()


def test_a_shell_sees_the_error(address: str, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    done = subprocess.run(
        ["bash", EXAMPLES / "curl.sh", address], cwd=tmp_path, env={**os.environ, "GATEWISE_KEY": "wrong"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 22
    assert '"code":"unauthorized"' in done.stdout


def test_the_list_of_examples_is_complete() -> None:
    listed = set(re.findall(r"^\| \[([^\]]+)\]\(\1\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.M))
    assert listed == {file.name for file in EXAMPLES.iterdir()} - {"README.md"}


def test_openai_streams_and_fails_as_its_users_expect(address: str, model: Path) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="a-key", max_retries=0)
    assert client.models.retrieve("lm").id == "lm"
    ids = [lm(model).vocabulary.ids[word] for word in ("the", "dog")]
    several = client.completions.create(model="lm", prompt=[ids, ids], n=2, max_tokens=5, seed=1, echo=True)
    assert len(several.choices) == 4 and several.usage.completion_tokens == 20
    assert several.choices[0].text == lm(model).generate("the dog", max_tokens=5, seed=1)
    with pytest.raises(openai.NotFoundError, match="no model is called 'other'"):
        client.completions.create(model="other", prompt="a")
    with pytest.raises(openai.UnprocessableEntityError, match="max_tokens"):
        client.completions.create(model="lm", prompt="a", max_tokens=-1)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0).models.list()


def test_a_tagger_beside_it(model: Path, tmp_path: Path) -> None:
    """The examples find the language model where there are others."""
    with serve(f"b={varied_tagger(tmp_path)}", f"lm={model}") as (address, _):
        assert "the session has read" in ran(sys.executable, EXAMPLES / "client.py", address, folder=tmp_path, key="")
