"""The Python of the README and the documentation runs, and says what it says it says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import flowsolve

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if BLOCK.search(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page share one namespace, in order; ``>>>`` blocks must print what they
    show."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        code = block.group(1)
        if code.startswith(">>>"):
            check_session(code, namespace, page, line)
        else:
            exec(compile("\n" * line + code, str(page), "exec"), namespace)


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
