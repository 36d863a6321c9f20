"""What tests ask the page of ``gatewise serve`` in a browser, from a server or beside the WebAssembly module."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.library.browser import Page, browser

FILES = REPOSITORY / "src" / "gatewise" / "serving" / "page"
SPAN = {"g": 2.0, "c": 2.0, "h": 2.0, "n": 2.0}
"""The distance between the lowest and the highest value of a gate, where it is not 1."""


def chromium() -> str:
    """The path of a browser; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("needs chromium")


@contextmanager
def open_page(folder: Path, url: str) -> Iterator[Page]:
    """Start a browser with the page; wait until it shows a model."""
    with browser(chromium(), folder / "profile") as page:
        page.ask("Page.navigate", url=url)
        page.wait("window.gatewise?.model")
        yield page


def choose(page: Page, model: str) -> None:
    """Choose a model in the menu."""
    page.value("gatewise.model = null")  # it may be this one already, and is opened again
    page.value(f"$('model').value = {json.dumps(model)}, $('model').dispatchEvent(new Event('change'))")
    page.wait(f"gatewise.model?.id === {json.dumps(model)}")


def type_into(page: Page, selector: str, text: str) -> None:
    """Put text into a field, in place of what it has, as if typed."""
    page.value(f"document.querySelector({json.dumps(selector)}).select()")
    page.value(f"document.querySelector({json.dumps(selector)}).focus()")
    page.ask("Input.insertText", text=text)


def press(page: Page, key: str, shift: bool = False) -> None:
    """Press a key."""
    for kind in ("rawKeyDown", "keyUp"):
        page.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, modifiers=8 if shift else 0)


def pixels(page: Page) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """What the page says that it has drawn, and the levels that the colours on its canvas stand for (columns, rows).

    The level of a cell is looked up from the pixel in its middle, in the table of colours.
    """
    found = page.value(
        """(async () => {
          const { view } = gatewise;
          view.point(-1);
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          const { gate, first, columns, order, levels, x, y, cells, column, row, top: above } = view.drawn;
          const canvas = $("heat"), to = canvas.getContext("2d"), known = new Map();
          for (let k = 0; k < cells.length / 4; ++k) known.set(String(cells.slice(4 * k, 4 * k + 3)), k);
          const seen = [];
          for (let t = 0; t < columns; ++t)
            for (let u = 0; u < order.length; ++u) {
              const [left, top] = [x + (t + 0.5) * column, y + (u + 0.5) * row];
              const inside = left < canvas.clientWidth && top < canvas.clientHeight && left > 58 && top > above;
              const [r, g, b] = inside ? to.getImageData(left, top, 1, 1).data : [];
              seen.push(inside ? known.get([r, g, b].join()) ?? -1 : levels[t * order.length + u]);
            }
          return { gate, first, columns, order, levels: [...levels], seen };
        })()"""
    )
    shape = (found["columns"], len(found["order"]))
    seen = np.array(found.pop("seen")).reshape(shape)
    assert np.array_equal(seen, np.array(found["levels"]).reshape(shape))
    return found, seen


def drawn_gates(page: Page, gate: str, layer: int) -> np.ndarray[Any, Any]:
    """The numbers that the heat map shows of a gate (steps, units), by unit."""
    page.value(f"$('gate').value = {json.dumps(gate)}, $('layer').value = {layer}")
    page.value("$('gate').dispatchEvent(new Event('change'))")
    about, levels = pixels(page)
    assert about["gate"] == gate and about["first"] == 0
    by_unit = np.empty_like(levels, dtype=float)
    by_unit[:, about["order"]] = levels
    span = SPAN.get(gate, 1.0)
    found: np.ndarray[Any, Any] = by_unit / 255 * span - (span - 1)
    return found


def controls_without_a_name(page: Page) -> list[str]:
    """The controls that a screen reader finds and has no name for, and fields whose name is no label."""
    roles = {"button", "textbox", "combobox", "slider", "spinbutton", "listbox", "option", "application", "image"}
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in nodes if not node["ignored"] and node.get("role", {}).get("value") in roles]
    assert len(seen) > 8, "the page has controls"
    unlabelled: list[str] = page.value(
        """[...document.querySelectorAll("input, select, textarea")]
          .filter((one) => !one.labels.length && !one.ariaLabel).map((one) => one.id)"""
    )
    return unlabelled + [node["role"]["value"] for node in seen if not node.get("name", {}).get("value", "").strip()]


class Cable:
    """A connection to a server that can be cut: what comes from it is passed on, until so many bytes have come.

    Attributes:
        cuts: how many bytes may come before each cut; no cut is made after the last.
        made: the cuts that were made.
    """

    def __init__(self, port: int) -> None:
        self.port, self.cuts, self.made = port, list[int](), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._open, self._lock, self._count = list[socket.socket](), threading.Lock(), 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                return
            with self._lock:
                self._open += [near, far]
            for source, target, counted in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pass, args=(source, target, counted), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):  # it was cut
            while piece := source.recv(1 << 12):
                target.sendall(piece)
                with self._lock:
                    self._count += len(piece) if counted else 0
                    due = self.made < len(self.cuts) and self._count > self.cuts[self.made]
                if due:
                    self.cut()
        for one in (source, target):
            one.close()

    def plan(self, cuts: Sequence[int]) -> None:
        """Count from now on, and cut after so many bytes each time."""
        with self._lock:
            self.cuts, self.made, self._count = list(cuts), 0, 0

    def cut(self) -> None:
        """Cut all connections."""
        with self._lock:
            self.made, self._count = self.made + 1, 0
            for one in self._open:
                with suppress(OSError):  # it has ended already
                    one.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def close(self) -> None:
        """Take no more connections, and cut those there are."""
        self._listener.close()
        self.cut()
