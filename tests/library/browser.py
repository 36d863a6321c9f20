"""A page in headless Chromium, asked through the DevTools protocol on two pipes."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Page:
    """A page, and what it reported.

    Attributes:
        requests: the addresses that it asked for.
        complaints: its uncaught exceptions, and what the browser reports as errors, such as violations of its policy.
    """

    def __init__(self, to: int, of: int) -> None:
        self._to, self._of, self._unread, self._count = to, of, b"", 0
        self.requests, self.complaints = list[str](), list[str]()
        self._session: str | None = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        question = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            question["sessionId"] = self._session
        os.write(self._to, json.dumps(question).encode() + b"\0")
        while (message := self._next()).get("id") != self._count:
            self._note(message)
        assert "error" not in message, message
        return message["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            piece = os.read(self._of, 1 << 16)
            assert piece, "the browser has ended"
            self._unread += piece
        first, self._unread = self._unread.split(b"\0", 1)
        found: dict[str, Any] = json.loads(first)
        return found

    def _note(self, message: dict[str, Any]) -> None:
        match message:
            case {"method": "Network.requestWillBeSent", "params": {"request": {"url": url}}}:
                self.requests.append(url)
            case {"method": "Log.entryAdded", "params": {"entry": {"level": "error", "text": text}}}:
                self.complaints.append(text)
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
                self.complaints.append(str(details))

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + 60
        while not self.value(expression):
            assert time.monotonic() < until, f"{expression} stays false; {self.complaints}"
            time.sleep(0.05)


@contextmanager
def browser(chromium: str, profile: Path) -> Iterator[Page]:
    """Start a browser with a page, and end it."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # The protocol's pipes are descriptors 3 and 4.
    command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    process = subprocess.Popen(
        ["bash", "-c", command, chromium, *options, f"--user-data-dir={profile}", "--remote-debugging-pipe"],
        pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in), os.close(theirs_out)
    try:
        yield Page(ours_out, ours_in)
    finally:
        process.terminate()
        process.wait(30)
        os.close(ours_in), os.close(ours_out)
