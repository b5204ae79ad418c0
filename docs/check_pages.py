"""The built pages in a real browser, without a network, as a reader has them.

    python docs/check_pages.py docs/_build/html          # every page wide and narrow, four dark
    python docs/check_pages.py docs/_build/html --few    # some of them

Of each page: no error in the console, no request that leaves, nothing that sticks out and cannot
be scrolled to, no markup left as text, every picture described; on some pages axe finds nothing
serious; every control of the explorer changes its picture and its address; what people look for is
found. Needs Debian's chromium and the packages playwright and axe-playwright-python (pip install -e
'.[browser]').
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTHS = (1280, 390)
PLANE = "explore#view=plane"
DARK = ("index", "learn/ode", "explore", PLANE, "solvers")
#: What the explorer's tabs have to choose from.
CONTROLS = {
    "line": "data process solver grid eta n path",
    "plane": "process solver grid eta n level",
}
#: What people look for.
SEARCHED = ("guidance", "classifier-free", "FID", "interpolation", "slerp", "glossary", "ddim",
            "generalized_steps")  # fmt: skip
CHROMIUM = ("/usr/lib/chromium/chromium", "chromium", "chromium-browser", "google-chrome")
#: What a browser knows of a page, in the page's own words.
STICKS_OUT = """() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = (e) => {
    for (; e && e.tagName !== "ARTICLE"; e = e.parentElement)
      if (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX)) return true;
    return false;
  };
  const all = [...document.querySelectorAll("article :is(math, img, table, p, pre, svg)")];
  return all.filter((e) => e.getBoundingClientRect().right > wide + 1 && !scrolls(e))
    .map((e) => e.tagName + ": " + e.textContent.trim().slice(0, 60));
}"""
RAW = r"""() => [...document.querySelectorAll("article :is(p, td, li, figcaption)")]
  .filter((e) => /^\s*\||``|\{(doc|ref|func|class|cite)\}|\\\(|\$\$/.test(e.textContent))
  .map((e) => e.textContent.trim().slice(0, 60))"""
UNSAID = """() => [...document.querySelectorAll("article img")]
  .filter((e) => !e.alt).map((e) => e.src)"""


def chromium() -> str:
    for name in CHROMIUM:
        path = shutil.which(name)
        if path:
            return path
    sys.exit("check_pages needs Chromium: apt-get install -y --no-install-recommends chromium")


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda request, client: None  # of a page that was left before its end
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def look(browser: Any, base: str, name: str, width: int, scheme: str, axe: Any) -> Iterator[str]:
    """What is wrong with a page."""
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("console", lambda m: said.append(f"console: {m.text}") if m.type == "error" else None)
    page.on(
        "request",
        lambda r: None if r.url.startswith((base, "data:")) else said.append(f"asks for {r.url}"),
    )
    name, _, address = name.partition("#")
    page.goto(f"{base}{name}.html#{address}" if address else f"{base}{name}.html")
    yield from said
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        yield "the page is wider than the window"
    for what, script in (("sticks out", STICKS_OUT), ("raw", RAW), ("no alt text", UNSAID)):
        for text in page.evaluate(script):
            yield f"{what}: {text}"
    if axe is not None:
        for found in axe.run(page).response["violations"]:
            if found["impact"] in ("serious", "critical"):
                where = found["nodes"][0]["target"]
                yield f"axe: {found['id']}, {len(found['nodes'])} times, as at {where}"
    page.close()


def explore(browser: Any, base: str) -> Iterator[str]:
    """Every control of the explorer, on both tabs, changes the picture and the address; so does a
    link from a chapter; and Play shows a step at a time to whom motion is too much."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
    for view, expected in CONTROLS.items():
        page.goto(f"{base}explore.html")
        if view == "plane":
            page.locator("[role=tab][aria-selected=true]").press("ArrowRight")
        shown = page.locator("[role=tabpanel]:visible")
        focus = page.evaluate("document.activeElement.id")
        if shown.count() != 1 or shown.get_attribute("id") != f"explorer-{view}":
            yield f"the explorer's tab {view} does not show its picture"
        if view == "plane" and focus != "explorer-tab-plane":
            yield f"an arrow key moves from tab to tab, but the focus to {focus!r}"
        controls = page.locator(".explorer :is(select, input[type=range]):visible")
        names = [controls.nth(k).get_attribute("name") for k in range(controls.count())]
        if {*names} != {*expected.split()}:
            yield f"the explorer's {view} has the controls {names}; expected {expected}"
        for k in reversed(range(len(names))):  # η before the solver, as it is ddim's
            if not controls.nth(k).is_enabled() or not _changes(page, controls.nth(k)):
                yield f"the explorer's {names[k]} does not change the picture or the address"
        before = _state(page)
        page.locator("[data-play]").click()
        if before[0] == _state(page)[0]:
            yield f"the explorer's Play does not change the {view}"
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        for selector in ("[data-noise] circle.asked", "[data-plane] circle.point"):
            address = "#view=plane" if "plane" in selector else "#path=4"
            page.goto(f"{base}index.html")
            page.goto(f"{base}explore.html{address}")
            if not page.locator(selector).count():
                yield f"the explorer at {width} px has no {selector}"
    page.goto(f"{base}learn/stochastic.html")
    page.get_by_text("See this picture").click()
    page.wait_for_url("**/explore.html#*")
    if page.locator("[name=eta]").input_value() != "1":
        yield "the link of learn/stochastic does not set the explorer's controls"
    page.close()


def _changes(page: Any, control: Any) -> bool:
    """Whether another choice changes both the picture and the address."""
    before = _state(page)
    if control.evaluate("e => e.tagName") == "SELECT":
        options = control.evaluate("e => [...e.options].filter(o => !o.disabled).map(o => o.value)")
        control.select_option(next(o for o in options if o != control.input_value()))
    else:
        low, now = control.get_attribute("min"), control.input_value()
        control.focus()
        control.press("ArrowRight" if now == low else "ArrowLeft")
    after = _state(page)
    return before[0] != after[0] and before[1] != after[1]


def _state(page: Any) -> tuple[str, str]:
    return page.evaluate("[document.querySelector('.explorer').innerHTML, location.hash]")


def searched(browser: Any, base: str) -> Iterator[str]:
    """A search for what people look for finds a page that explains, before the API."""
    page = browser.new_page()
    for word in SEARCHED:
        page.goto(f"{base}search.html?q={word}")
        links = page.locator("#search-results li a")
        try:
            links.first.wait_for(timeout=10_000)
        except Exception:  # playwright's timeout
            yield f"a search for {word} finds nothing"
            continue
        first = [link.get_attribute("href") or "" for link in links.all()[:3]]
        if all(href.startswith("api/") for href in first):
            yield f"a search for {word} finds {', '.join(first)} first"
    page.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--few", action="store_true", help="the pages of the dark, in one width")
    asked = parser.parse_args()
    try:
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        sys.exit(f"check_pages needs {error.name}: pip install -e '.[browser]'")
    pages = sorted(
        str(path.relative_to(asked.folder).with_suffix(""))
        for path in asked.folder.rglob("*.html")
        if not {"_modules", "_static"} & set(path.parts)
    )
    pages = [name for name in pages if name not in ("genindex", "search", "py-modindex")]
    pages.append(PLANE)
    server, wrong = serve(asked.folder), list[str]()
    base = f"http://127.0.0.1:{server.server_port}/"
    arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    jobs = [(name, width, "light") for name in pages for width in WIDTHS]
    jobs = [(n, w, s) for n, w, s in jobs if not asked.few or (n in DARK and w == WIDTHS[0])]
    jobs += [(name, WIDTHS[0], "dark") for name in DARK]
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium(), args=arguments)
        for name, width, scheme in jobs:
            axe = Axe() if name in DARK and width == WIDTHS[0] else None
            for what in look(browser, base, name, width, scheme, axe):
                wrong.append(f"{name}, {width} px, {scheme}: {what}")
        wrong += explore(browser, base)
        wrong += searched(browser, base)
        browser.close()
    server.shutdown()
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"check_pages: {len(jobs)} times a page, {len(wrong)} things wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
