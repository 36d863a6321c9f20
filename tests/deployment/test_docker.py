"""The Dockerfile's steps, run without Docker, give a server that works and has no PyTorch."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import gatewise as gw
from tests.conftest import REPOSITORY
from tests.deployment.dockerfile import Image, steps
from tests.end_to_end import fresh
from tests.library.builds import model_file

FILE = REPOSITORY / "examples" / "serve" / "Dockerfile"
BUILDING = ("scikit-build-core", "nanobind", "packaging", "pathspec")


def copied(names: set[str], target: Path) -> None:
    """Copy distributions of this environment."""
    for name in names:
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target / file)


def required(name: str, extra: str = "") -> set[str]:
    """The distributions that one needs, with those that they need."""
    found = set[str]()
    for line in importlib.metadata.requires(name) or []:
        requirement, _, condition = line.partition(";")
        if not condition or _holds(condition, extra):
            one = re.match(r"[\w.-]+", requirement)[0]  # type: ignore[index]
            found |= {one, *required(one)}
    return found


def _holds(condition: str, extra: str) -> bool:
    from packaging.markers import Marker

    return Marker(condition.strip()).evaluate({"extra": extra})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image; in the place of the network are the packages of this environment."""
    if what := fresh.missing():
        pytest.skip(f"to build the package {what} is missing")
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("image")
    copied(set(BUILDING), folder / "building")
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "building"),  # in the place of an environment for the build
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "SKBUILD_CMAKE_DEFINE": "GATEWISE_QUICK=ON;CMAKE_CXX_FLAGS_RELEASE=-O0",
    }

    class Prepared(Image):
        def _run(self, arguments: str) -> None:
            super()._run(arguments)
            if " -m venv " in arguments:
                lib = Path(sysconfig.get_path("purelib", vars={"base": self.here("/opt/gatewise")}))
                copied(required("gatewise", "serve"), lib)

    made = Prepared(REPOSITORY, folder / "root", environment)
    made.build(FILE)
    return made


def test_what_the_image_is_told() -> None:
    words = [word for word, _ in steps(FILE)]
    given = dict(steps(FILE))  # of the last stage where both have one
    assert words.count("FROM") == 2 and words.index("USER") > words.index("COPY")
    assert int(given["USER"]) > 0
    assert given["STOPSIGNAL"] == "SIGTERM"
    assert given["VOLUME"] == "/state"
    installed = [arguments for word, arguments in steps(FILE) if word == "RUN" and "pip install" in arguments]
    assert len(installed) == 1 and installed[0].endswith("'.[serve]'")


@pytest.mark.slow
def test_the_image_has_what_serving_needs_and_no_more(image: Image) -> None:
    python = image.here("/opt/gatewise/bin/python")
    program = (
        "import importlib.metadata as m, importlib.util as u, pathlib, gatewise;"
        "print(sorted({d.metadata['Name'].lower() for d in m.distributions()}));"
        "print([name for name in ('torch', 'tokenizers', 'pyarrow', 'httpx', 'nanobind') if u.find_spec(name)]);"
        "print(gatewise.__file__); print(len([*pathlib.Path(gatewise.__file__).parent.rglob('*.so')]) > 0)"
    )
    names, unwanted, where, compiled = fresh.run(python, "-I", "-c", program).splitlines()
    assert "starlette" in names and "uvicorn" in names
    assert unwanted == "[]"
    assert where.startswith(image.here("/opt/gatewise"))
    assert compiled == "True"
    assert image.left[0].endswith("update") and len(image.left) == 4, image.left


@pytest.mark.slow
def test_the_server_of_the_image_serves_is_healthy_and_stops(image: Image, tmp_path: Path) -> None:
    pytest.importorskip("gatewise.serving.server")
    model = model_file(tmp_path, "lm lstm")
    target = Path(image.here("/models/model.gatewise"))
    target.parent.mkdir(exist_ok=True)
    shutil.copy(model, target)
    assert oct(Path(image.here("/state")).stat().st_mode)[-3:] == "700"
    command = [*image.words("ENTRYPOINT"), *image.words("CMD"), "--port", "0"]
    path = image.here(image.config["ENV"].partition("=")[2].replace("$PATH", os.environ["PATH"]))
    environment = {"PATH": path, "GATEWISE_KEY": "a-key"}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            found = re.fullmatch(r"serving on http://0\.0\.0\.0:(\d+)\n", server.stdout.readline())
            assert found
            healthy = [word.replace("8000", found[1]) for word in image.words("HEALTHCHECK")]
            assert subprocess.run(healthy, env=environment, timeout=30).returncode == 0
            with gw.Client(f"http://127.0.0.1:{found[1]}", key="a-key") as client, client.session() as session:
                session.feed("the dog")
                assert session.position == 2
                assert len([*Path(image.here("/state")).glob("*.session")]) == 1
        finally:
            began = time.monotonic()
            server.terminate()  # STOPSIGNAL
            server.wait(15)
    assert server.returncode == 0
    assert time.monotonic() - began < 10
    unhealthy = subprocess.run(healthy, env=environment, timeout=30, capture_output=True)
    assert unhealthy.returncode == 1
