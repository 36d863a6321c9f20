"""``gatewise serve`` as a process, for the tests of its clients."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(*arguments: str | Path, key: str = "", port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve within the block; yield the address and the process."""
    command = [sys.executable, "-m", "gatewise", "serve", *map(str, arguments), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "GATEWISE_KEY"}
    if key:
        environment["GATEWISE_KEY"] = key
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            line = server.stdout.readline()
            found = re.fullmatch(r"serving on (http://\S+:\d+)\n", line)
            assert found, line
            yield found[1], server
        finally:
            server.terminate()
            server.wait(20)
