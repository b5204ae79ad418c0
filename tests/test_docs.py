"""The Python of the README and the documentation runs, and says what it says it says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import flowsolve
from flowsolve.grids import Grid
from flowsolve.parametrizations import Parametrization
from flowsolve.solvers import zoo

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "_build" not in path.parts and BLOCK.search(path.read_text(encoding="utf-8"))
]
#: The pages that a new user reads first run with the other tests, all others for .ci/run.
FIRST = ("README.md", "quickstart.md", "start.md", "which.md")


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page.name in FIRST else pytest.mark.late) for page in PAGES],
    ids=[str(page.relative_to(ROOT)) for page in PAGES],
)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page share one namespace, in order; ``>>>`` blocks must print what they
    show."""
    monkeypatch.chdir(tmp_path)
    for of, name in ((zoo, "_KNOWN"), (Grid, "known"), (Parametrization, "known")):
        monkeypatch.setattr(of, name, dict(getattr(of, name)))  # of what the reader adds
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__main__", **provided(page.name)}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        code = block.group(1)
        if code.startswith(">>>"):
            check_session(code, namespace, page, line)
        else:
            exec(compile("\n" * line + code, str(page), "exec"), namespace)


def provided(page: str) -> dict[str, object]:
    """What the reader of a page has: a pipeline and how it is called, a network; tiny ones."""
    if page == "networks.md":
        return {"net": lambda x, t, **_: 0.1 * x}
    if page != "diffusers.md":
        return {}
    pytest.importorskip("diffusers", reason="the peers are not installed")
    import tiny

    (pipe, call), (plain, _) = tiny.sd(), tiny.ddpm()
    pipe.set_progress_bar_config(disable=True)
    plain.save_pretrained("folder")
    return {"pipe": pipe, "prompt": call, "net": plain.unet, "folder": "folder"}


def check_session(code: str, namespace: dict[str, object], page: Path, line: int) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    session = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), line)
    session.globs = namespace
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=options, verbose=False).run(
        session, out=report.append, clear_globs=False
    )
    assert not failed, "".join(report)


def test_api_is_complete() -> None:
    """Every public name has its entry in the API reference."""
    pages = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md")
    )
    documented = {
        name.rpartition(".")[2]
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)", pages, re.MULTILINE)
    }
    assert not set(flowsolve.__all__) - documented
