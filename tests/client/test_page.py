"""The page on serving: its requests work with a server that runs as it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.test_readme import blocks
from tests.serving.rig import serve

pytest.importorskip("uvicorn")
ADDRESS = "http://127.0.0.1:8000"


@pytest.mark.slow
def test_the_page_on_serving_runs(tmp_path: Path) -> None:
    english, chinese = blocks("docs/serving.md"), blocks("docs/serving.zh.md")
    without_comments = [[re.sub(r" +# .*", "", code) for _, code in part] for part in (english, chinese)]
    assert without_comments[0] == without_comments[1]
    assert len(english) == 4
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def ran(language: str, text: str) -> str:
        command = ["bash", "-e", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return done.stdout

    ran(*english[0])
    with serve(tmp_path / "runs" / "demo") as (address, _):
        assert shutil.which("curl"), "the page needs curl"
        completion, client, sessions = (ran(language, text.replace(ADDRESS, address)) for language, text in english[1:])
    assert '"object":"text_completion"' in completion
    assert re.fullmatch(r"(.+)\n\1\[Score\(nll=.*\)\]\n", client, re.S), client  # whole and in pieces
    assert "\nTrue\n" in sessions
    assert len(re.findall(r"^ ?\S+ [\d.e-]+ \(' ?.+', [\d.e-]+\) \(\d, \d+\)$", sessions, re.M)) >= 4, sessions
