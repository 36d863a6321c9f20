"""Pictures of the page for the documentation: ``python -m tests.serving.screenshots OUT NAME=RUN…``.

The names are those of ``SHOTS``: a language model, a tagger, a classifier of texts, one of pictures, a forecaster. The
pictures in the documentation are of the recipe demo; of the starters for tags and texts, in one direction, with UD
English-EWT and SST-2; of MNIST read by one layer of 64 units; of the recipe sunspots.
"""

import base64
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from tests.library.browser import Page
from tests.serving.pages import choose, open_page
from tests.serving.rig import serve

WIDE, NARROW = (1440, 900), (390, 844)
MOST_COLOURS, LARGEST = 256, 120_000
WRITE = "$('seed').value = 5, gatewise.part.texts[0].continue()"
SELECT = "gatewise.view.select(12, 14), gatewise.view.point(13, 20, true)"
FORK = "gatewise.view.point(13), $('from-here-b').click()"
MINUS = "$('gate').value = 'c', $('record').value = 2, $('gate').dispatchEvent(new Event('change'))"
SHOTS: Sequence[tuple[str, Sequence[tuple[str, Sequence[str]]], tuple[int, int], str]] = [
    ("page-language", [("language", [WRITE, SELECT])], WIDE, "light"),
    ("page-compare", [("language", [WRITE, FORK, MINUS])], WIDE, "dark"),
    ("page-digits", [("digits", [])], WIDE, "dark"),
    ("page-text", [("text", [])], WIDE, "light"),
    ("page-tagger", [("tagger", [])], WIDE, "dark"),
    ("page-forecast", [("forecast", [])], WIDE, "light"),
    ("page-narrow", [("digits", []), ("text", [])], NARROW, "light"),
    ("page-narrow-dark", [("tagger", []), ("forecast", [])], NARROW, "dark"),
]
"""The name of a picture, the models beside each other in it with what is done first, the window, the scheme."""


def shot(page: Page, model: str, first: Sequence[str]) -> Image.Image:
    """The whole page with a model."""
    choose(page, model)
    time.sleep(2)
    for step in first:
        page.value(f"(async () => {{ await ({step}) }})()")
        time.sleep(1.5)
    taken = page.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


def beside(images: Sequence[Image.Image]) -> Image.Image:
    """Images in a row."""
    space = 16
    whole = Image.new(
        "RGB", (sum(one.width + space for one in images) - space, max(one.height for one in images)), "grey"
    )
    left = 0
    for one in images:
        whole.paste(one, (left, 0))
        left += one.width + space
    return whole


def main(out: Path, runs: Sequence[str]) -> None:
    """Take all pictures."""
    with TemporaryDirectory() as folder, serve(*runs, port=8000) as (url, _), open_page(Path(folder), url) as page:
        for name, models, (width, height), scheme in SHOTS:
            page.ask(
                "Emulation.setDeviceMetricsOverride",
                width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
            )  # fmt: skip
            page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            page.ask("Page.navigate", url=url)
            page.wait("window.gatewise?.model")
            page.value("globalThis.$ = (id) => document.getElementById(id)")
            path = out / f"{name}.png"
            beside([shot(page, *one) for one in models]).quantize(MOST_COLOURS, dither=Image.Dither.NONE).save(
                path, optimize=True
            )
            size = path.stat().st_size
            print(f"{path}: {size} bytes{'; too large' if size > LARGEST else ''}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
