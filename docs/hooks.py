"""What MkDocs calls: lay out the pages before it reads them, typeset the formulas of each."""

from pathlib import Path

from making.formulas import typeset
from making.pages import lay_out
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build" / "docs"


@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the folder of pages and lead MkDocs there."""
    lay_out(REPOSITORY, BUILD / "pages", BUILD / "work")
    config.docs_dir = str(BUILD / "pages")
    return config


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Typeset formulas."""
    return typeset(html)
