"""``make docs-refresh``: the guide in the repository shows what its commands print and draw today."""

from pathlib import Path

from making.pages import refresh

ROOT = Path(__file__).resolve().parents[2]
refresh(ROOT, ROOT / "build" / "docs" / "work")
