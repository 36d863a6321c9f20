"""The unit for systemd is one, and lets the server do nothing but serve."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

UNIT = REPOSITORY / "examples" / "serve" / "gatewise@.service"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit of port 8001, with a program that exists."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    text = UNIT.read_text(encoding="utf-8")
    assert "/opt/gatewise/bin/gatewise serve" in text
    file = tmp_path / "gatewise@8001.service"
    file.write_text(text.replace("/opt/gatewise/bin/gatewise", sys.executable), encoding="utf-8")
    return file


def analyzed(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_reads_the_unit(unit: Path) -> None:
    done = analyzed("verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=strictly"))
    assert "strictly" in analyzed("verify", "--man=no", unit).stderr


def test_the_unit_is_hardened(unit: Path) -> None:
    """Its exposure, of which 10.0 is a unit without any protection."""
    done = analyzed("security", "--offline=yes", "--threshold=15", unit)
    assert done.returncode == 0, done.stdout + done.stderr
    unit.write_text(re.sub(r"(Protect|Private|Restrict)\w+=.*\n", "", unit.read_text()))
    assert analyzed("security", "--offline=yes", "--threshold=15", unit).returncode != 0


def test_the_key_is_a_credential_and_no_argument() -> None:
    text = UNIT.read_text(encoding="utf-8")
    assert "LoadCredential=key:/etc/gatewise/key" in text
    assert "--key-file ${CREDENTIALS_DIRECTORY}/key" in text
    assert "GATEWISE_KEY" not in text
