"""The C library as CMake alone builds and installs it, and the examples in C."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from gatewise import runtime
from tests.conftest import REPOSITORY
from tests.library.builds import SANITIZED, built, model_file, run, tool
from tests.runtime.rig import Case

pytestmark = pytest.mark.slow
HEADER = REPOSITORY / "csrc" / "gatewise.h"
DECLARED = set(re.findall(r"^GW_API \S+ (gw_\w+)\(", HEADER.read_text(encoding="utf-8"), re.M))
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror")
SOURCES = REPOSITORY / "examples" / "c"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("prefix")
    run(tool("cmake"), "--install", built("c", {"CMAKE_INSTALL_LIBDIR": "lib"}), "--prefix", prefix)
    return prefix


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("models"), "lm lstm", seed=3)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, with the library, under AddressSanitizer and UndefinedBehaviorSanitizer."""
    folder, library = tmp_path_factory.mktemp("sanitized"), built("sanitized", SANITIZED, "gatewise_static")
    for name in ("generate", "tag_stream"):
        run(tool("gcc"), *STRICT, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
            f"-I{HEADER.parent}", SOURCES / f"{name}.c", library / "libgatewise.a", "-lstdc++", "-lm", "-ldl",
            "-pthread", "-o", folder / name)  # fmt: skip
    return folder


def refused(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run([str(part) for part in command], input="", capture_output=True, text=True, timeout=60)
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


def test_the_library_exports_the_interface_and_nothing_else(installed: Path) -> None:
    lines = run(tool("nm"), "-D", "--defined-only", installed / "lib" / "libgatewise.so").splitlines()
    assert {line.split()[-1] for line in lines} == DECLARED
    assert 12 <= len(DECLARED) <= 20


def test_the_library_has_the_name_of_its_abi(installed: Path) -> None:
    abi = re.search(r"#define GW_ABI (\d+)", HEADER.read_text(encoding="utf-8"))
    assert abi is not None
    described = run(tool("readelf"), "-d", installed / "lib" / "libgatewise.so")
    assert f"soname: [libgatewise.so.{abi[1]}]" in described


def test_what_is_installed(installed: Path) -> None:
    names = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert {name for name in names if ".so." not in name} == {
        "include/gatewise.h", "lib/libgatewise.a", "lib/libgatewise.so", "lib/pkgconfig/gatewise.pc",
    }  # fmt: skip


@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_an_example_builds_with_pkg_config_as_its_readme_says(
    static: bool, installed: Path, language: Path, tmp_path: Path
) -> None:
    settings = {**os.environ, "PKG_CONFIG_PATH": str(installed / "lib" / "pkgconfig")}
    flags = run(
        tool("pkg-config"), "--cflags", "--libs", *(["--static"] if static else []), "gatewise", env=settings
    ).split()
    if static:
        flags = [str(installed / "lib" / "libgatewise.a") if flag == "-lgatewise" else flag for flag in flags]
    program = tmp_path / "generate"
    run(tool("gcc"), *STRICT, SOURCES / "generate.c", *flags, "-lm", f"-Wl,-rpath,{installed / 'lib'}", "-o", program)
    assert run(program, language, "the dog", "5").startswith("the dog ")


def test_the_generator_takes_the_most_probable_tokens(sanitized: Path, language: Path) -> None:
    expected = runtime.load(language).generate("the dog", max_tokens=12, temperature=0)
    found = run(sanitized / "generate", language, "the dog", "12")
    assert found.split() == expected.split() and len(set(found.split())) > 4


def test_the_generator_draws_with_a_temperature_and_a_seed(sanitized: Path, language: Path) -> None:
    texts = [run(sanitized / "generate", language, "the", "30", "1", seed) for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0].split())) > 3


@pytest.mark.parametrize("case", ["lm gru tied characters", "lm rnn_tanh prose", "lm one-hot gru"])
def test_the_generator_runs_models_of_characters_and_sentences(case: str, sanitized: Path, tmp_path: Path) -> None:
    model = model_file(tmp_path, case, "int8")
    assert len(run(sanitized / "generate", model, "it", "40", "1")) > 40


def test_the_tagger_answers_each_word_at_once(sanitized: Path, tmp_path: Path) -> None:
    model = model_file(tmp_path, "tagger", seed=6)
    sentences = [["the", "dog", "ate", "xyzzy"], ["中文"]]
    expected = runtime.load(model).tag(sentences)
    assert len(set(expected[0])) > 1
    with subprocess.Popen(
        [sanitized / "tag_stream", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as p:
        assert p.stdin and p.stdout
        for words, tags in zip(sentences, expected, strict=True):
            for word, tag in zip(words, tags, strict=True):
                p.stdin.write(word + "\n")
                p.stdin.flush()
                assert p.stdout.readline() == f"{word}\t{tag}\n"
            p.stdin.write("\n")
            p.stdin.flush()
            assert p.stdout.readline() == "\n"
        p.stdin.close()
    assert p.returncode == 0


def test_what_the_examples_refuse(sanitized: Path, language: Path, tmp_path: Path) -> None:
    both = model_file(tmp_path, Case("tagger", {"bidirectional": True}))
    damaged = tmp_path / "damaged.gatewise"
    damaged.write_bytes(language.read_bytes()[:-1])
    assert refused(sanitized / "generate", language, "the") == (
        2,
        "generate: expected MODEL PROMPT COUNT [TEMPERATURE [SEED]]\n",
    )
    assert refused(sanitized / "generate", language, "the", "0")[0] == 2
    assert refused(sanitized / "generate", both, "the", "5") == (2, "generate: this model is not a language model\n")
    assert refused(sanitized / "generate", language, "the", "5", "nan")[0] == 2
    for path, what in (
        (damaged, "bytes of data; expected"),
        (tmp_path / "none", "cannot open it"),
        (tmp_path, "not a regular file"),
    ):
        status, message = refused(sanitized / "generate", path, "the", "5")
        assert status == 4 and message.startswith(f"generate: {path}: ") and what in message
    status, message = refused(sanitized / "tag_stream", both)
    assert status == 2 and "both directions" in message
