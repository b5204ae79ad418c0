"""The interactive page: what a step holds, in one dimension.

The directive ``explorer`` puts the page's data (explorer_data.py) and its markup where it stands.
The page has no formula of a solver. The role ``picture`` links to one of its states, as in
{picture}`see this <solver=heun&n=4>`.
"""

from __future__ import annotations

import html
from typing import Any

from docutils import nodes
from explorer_data import HERE, SCRIPTS, STATIC, asked_of_node, sigmas, written
from explorer_plans import COUNTS, ETAS, GRIDS, LAWS, PROCESSES, SOLVERS, STARTS
from sphinx.application import Sphinx
from sphinx.util.docutils import ReferenceRole, SphinxDirective

#: The guided stops: what to press, and what to see.
STOPS = {
    name: f"#data={law}&process=vp&solver={solver}&n={n}&grid=logistic&eta=0&path={path}"
    for name, law, solver, n, path in (
        ("One point, one evaluation", "point", "ddim", 1, 7),
        ("Two clusters, ddim", "two", "ddim", 4, 4),
        ("The same, second order", "two", "dpmpp2m", 4, 4),
    )
}


def options(names: dict[str, str]) -> str:
    return "".join(
        f'<option value="{value}">{html.escape(name)}</option>' for value, name in names.items()
    )


LINE = {
    "law": "the data",
    "exact": "exact path",
    "run": "the solver’s path",
    "noise": "fresh noise",
    "asked": "the network is asked",
    "inside": "asked inside a step",
}
POINTS = {
    "cloud": "the data",
    "start": "start",
    "run": "the solver’s path",
    "point": "where it is",
    "ring": "where the exact path ends",
}


def legend(kinds: dict[str, str]) -> str:
    items = (f'<li class="{kind}"><span></span>{words}</li>' for kind, words in kinds.items())
    return f'<ul class="legend">{"".join(items)}</ul>'


def markup() -> str:
    """The page's body: guided stops, controls, panels, and the data."""
    selects = {
        "data": ("Data", {key: law.name for key, law in LAWS.items()}),
        "process": ("Process", {key: shown.name for key, shown in PROCESSES.items()}),
        "solver": ("Solver", {name: name for name in SOLVERS}),
        "grid": ("Grid", GRIDS),
        "eta": ("η, noise of ddim", {f"{eta:g}": f"{eta:g}" for eta in ETAS}),
    }
    controls = "".join(
        f'<label>{label} <select name="{name}" autocomplete="off">{options(names)}</select></label>'
        for name, (label, names) in selects.items()
    )
    ranges = "".join(
        f"<label>{label} <output data-{shown}></output>"
        f'<input type="range" name="{name}" min="{low}" max="{high}" autocomplete="off"></label>'
        for label, name, shown, low, high in (
            ("Evaluations:", "n", "count", 0, len(COUNTS) - 1),
            ("Path:", "path", "number", 1, len(STARTS)),
            ("Noise level σ̄:", "level", "level", 0, len(sigmas()) - 1),
        )
    )
    stops = "".join(f'<a href="{html.escape(to)}">{name}</a>' for name, to in STOPS.items())
    picture = '<svg viewBox="0 0 360 {}" role="img" aria-label="{}" data-{}></svg>'
    panels = "".join(
        picture.format(290, label, name)
        for name, label in (
            ("left", "State x against time t"),
            ("right", "Scaled state x̄ against noise level σ̄"),
        )
    )
    tabs = "".join(
        f'<button type="button" role="tab" id="explorer-tab-{view}" data-view="{view}" '
        f'aria-controls="explorer-{view}">{label}</button>'
        for view, label in (("line", "One dimension"), ("plane", "Two dimensions"))
    )
    panel = '<div role="tabpanel" id="explorer-{0}" aria-labelledby="explorer-tab-{0}">'
    still = asked_of_node("return Explorer.still(D, given)", next(iter(STOPS.values())))
    return f"""<div class="explorer">
<nav class="stops" aria-label="Guided stops">{stops}</nav>
<div class="scripted tabs" role="tablist" aria-label="The picture" hidden>{tabs}</div>
<form class="scripted" hidden onsubmit="return false"><fieldset>
<legend class="unseen">What to run</legend>
{controls}{ranges}<button type="button" data-play>Play</button></fieldset></form>
<noscript><div class="panels">{still["pictures"]}</div>
<p>One data point: {still["words"]} With JavaScript the picture can be changed.</p></noscript>
<div class="scripted" hidden>
{panel.format("line")}<div class="panels">{panels}
<div class="said">{legend(LINE)}
<p aria-live="polite" data-words></p></div>
{picture.format(190, "The network’s ε̂ along the chosen path", "noise")}</div>
<div class="panels">{picture.format(290, "Mean error against evaluations", "chart")}
<table><caption>Mean error with these evaluations (η = 0)</caption>
<tbody data-rows></tbody></table></div></div>
{panel.format("plane")}<div class="panels wide">
<svg viewBox="0 0 360 360" role="img" aria-label="Points moved from noise to data" data-plane></svg>
<div class="said">{legend(POINTS)}
<p aria-live="polite" data-plane-words></p></div></div></div>
<p class="python">The Python that makes this run:</p>
<div class="highlight-python notranslate"><div class="highlight">
<pre data-code tabindex="0"></pre></div></div></div>
<script type="application/json">{written()}</script>
</div>"""


class Explorer(SphinxDirective):
    """Puts the interactive page where it stands."""

    def run(self) -> list[nodes.Node]:
        # A change of these files makes the page anew, and so do flowsolve's plans in a new build.
        for name in SCRIPTS:
            self.env.note_dependency(str(STATIC / name))
        for name in ("explorer", "explorer_data", "explorer_plans"):
            self.env.note_dependency(str(HERE / f"{name}.py"))
        return [nodes.raw("", markup(), format="html", classes=["explorer-page"])]


class Picture(ReferenceRole):
    """A link to a state of the interactive page, which its address holds."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        page = self.env.app.builder.get_relative_uri(self.env.docname, "explore")
        link = nodes.reference("", self.title, internal=True, refuri=f"{page}#{self.target}")
        return [link], []


def add_files(app: Sphinx, page: str, template: str, context: Any, doctree: Any) -> None:
    """Scripts and styles, on the page alone."""
    if doctree is not None and any(
        "explorer-page" in raw["classes"] for raw in doctree.findall(nodes.raw)
    ):
        app.add_css_file("explorer.css")
        for name in SCRIPTS:
            app.add_js_file(name, loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("explorer", Explorer)
    app.add_role("picture", Picture())
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
