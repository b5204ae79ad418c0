"""What Sphinx would leave in the pages: "Alias for field number" for each field of a named tuple,
which its class's text describes, links back from sources to entries that there are not, and what
the theme leaves a screen reader, the keyboard and a search engine without."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

BACK = re.compile(r'<a class="viewcode-back" href="([^"#]*)#([^"]*)">\[docs\]</a>')


def without_aliases(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave a field of a named tuple out."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field") else None


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Tell search engines what a page begins with: its first paragraph that has no formula."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree is not None else ():
        text = " ".join(paragraph.astext().split())
        if len(text) > 40 and not any(paragraph.findall(nodes.math)):
            said = text if len(text) <= 160 else text[:157].rsplit(" ", 1)[0] + " ..."
            context["metatags"] += f'<meta name="description" content="{html.escape(said)}">'
            return


def finish(app: Sphinx, error: Exception | None) -> None:
    """Take links back to no entry out of the pages of sources; in all pages say how deep the
    sidebar's headings are, and let the keyboard scroll code."""
    if error is not None or app.builder.name != "html":
        return
    anchors: dict[Path, set[str]] = {}
    for page in Path(app.outdir).rglob("*.html"):

        def kept(link: re.Match[str], page: Path = page) -> str:
            target = (page.parent / link[1]).resolve()
            if target not in anchors:
                text = target.read_text(encoding="utf-8") if target.exists() else ""
                anchors[target] = set(re.findall(r'id="([^"]+)"', text))
            return link[0] if link[2] in anchors[target] else ""

        text = page.read_text(encoding="utf-8")
        mended = BACK.sub(kept, text)
        mended = mended.replace('role="heading">', 'role="heading" aria-level="2">')
        mended = mended.replace('class="highlight"><pre>', 'class="highlight"><pre tabindex="0">')
        if mended != text:
            page.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("html-page-context", describe)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
