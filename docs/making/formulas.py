r"""Typesets formulas as MathML, which browsers show without a script.

Arithmatex has found them and marked them as ``\(…\)`` and ``\[…\]``; Pandoc reads them, all of a page in one call.
"""

import html
import re

import pypandoc
from mkdocs.exceptions import PluginError

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[]\s*(.*?)\s*\\[)\]]</\1>', re.DOTALL)
MATH = re.compile(r"<math.*?</math>", re.DOTALL)
PRIME = re.compile(r"<msup>(<m[io][^>]*>[^<]*</m[io]>)<(m[io])>([′″‴])</\2></msup>")


def typeset(page: str) -> str:
    """Return a page's HTML with MathML in place of each formula.

    Raises:
        PluginError: a formula cannot be read.
    """
    formulas = [(kind, html.unescape(tex)) for kind, tex in FORMULA.findall(page)]
    if not formulas:
        return page
    marks = {"span": "$", "div": "$$"}
    # Pandoc has no \thinspace, which GitHub needs in place of \, inside a line.
    source = "\n\n".join(marks[kind] + tex.replace(r"\thinspace", r"\,") + marks[kind] for kind, tex in formulas)
    try:
        done = pypandoc.convert_text(
            source, "html", "markdown", extra_args=["--mathml", "--wrap=none", "--fail-if-warnings"]
        )
    except RuntimeError as wrong:
        raise PluginError(f"a formula cannot be typeset: {wrong}") from wrong
    found = MATH.findall(done)
    if len(found) != len(formulas):
        raise PluginError(f"{len(formulas)} formulas gave {len(found)} pieces of MathML")
    # A prime is raised already; as a superscript it would be hard to see in fonts that are not made for mathematics.
    pieces = iter(PRIME.sub(r"<mrow>\1<mo>\3</mo></mrow>", math) for math in found)
    return FORMULA.sub(lambda _: next(pieces), page)
