"""What Sphinx would leave in the pages: "Alias for field number" for each field of a named tuple,
which its class's text describes, and links back from sources to entries that there are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

BACK = re.compile(r'<a class="viewcode-back" href="([^"#]*)#([^"]*)">\[docs\]</a>')


def without_aliases(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave a field of a named tuple out."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field") else None


def without_dead_ends(app: Sphinx, error: Exception | None) -> None:
    """Take links back to no entry out of the pages of sources."""
    if error is not None or app.builder.name != "html":
        return
    anchors: dict[Path, set[str]] = {}
    for page in Path(app.outdir, "_modules").rglob("*.html"):

        def kept(link: re.Match[str], page: Path = page) -> str:
            target = (page.parent / link[1]).resolve()
            if target not in anchors:
                text = target.read_text(encoding="utf-8") if target.exists() else ""
                anchors[target] = set(re.findall(r'id="([^"]+)"', text))
            return link[0] if link[2] in anchors[target] else ""

        text = page.read_text(encoding="utf-8")
        mended = BACK.sub(kept, text)
        if mended != text:
            page.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("build-finished", without_dead_ends)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
