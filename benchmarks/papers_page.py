"""The tables of docs/learn/papers.md, made of the results.

    python -m benchmarks.papers_page            # prints them
    python -m benchmarks.papers_page --write    # puts them into the page, in place of what is there

A table of the page is known by its first cell. tests/test_papers.py holds the page to this.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .papers_judge import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "learn" / "papers.md"
RULES = ("η = 0", "η = 0.2", "η = 0.5", "η = 1", "σ̂")
STEPS = ("5", "10", "20", "50", "100", "1000")


def result(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def number(x: float) -> str:
    """Three digits; a power of ten from a thousand on."""
    if abs(x) >= 1e3:
        return f"{x:.0e}".replace("e+0", "e").replace("e+", "e")
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:#.3g}" if abs(x) >= 0.1 else f"{x:.2g}"


def cell(row: dict[str, Any], measure: str) -> str:
    """The mean over seeds ± its standard error; a dash where nothing is measured."""
    values = row.get(measure)
    if not values:
        return "–"
    said = number(statistics.mean(values))
    if len(values) < 2 or "e" in said:
        return said
    return f"{said} ± {statistics.stdev(values) / len(values) ** 0.5:.1g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of Markdown; columns of dashes alone are left out."""
    rows = [list(row) for row in rows]
    kept = [k for k in range(len(head)) if k == 0 or any(row[k] != "–" for row in rows)]
    lines = ["| " + " | ".join(line[k] for k in kept) + " |" for line in (list(head), *rows)]
    return [lines[0], "|---" * len(kept) + "|", *lines[1:]]


def by_steps(first: str, levels: str, measure: str) -> list[str]:
    cells = result("table1")["cells"]
    return table(
        [first, *(f"S = {n}" for n in STEPS)],
        ([rule, *(cell(cells.get(f"{levels}, {rule}, {n}", {}), measure) for n in STEPS)]
         for rule in RULES),
    )  # fmt: skip


def few_steps() -> list[str]:
    """What the samples of S = 5 are made of."""
    found, measures = result("table1"), ("residue", "variance", "nearest", "accuracy")
    rows = [
        [f"{rule}, {name}", *(cell(found["cells"][f"{levels}, {rule}, 5"], m) for m in measures)]
        for levels, name in (("table", "the paper's levels"), ("cosine", "own levels"))
        for rule in ("η = 0", "η = 1", "σ̂")
    ]
    held = ["held-out digits", *(number(found["yardstick"][m]) for m in measures)]
    head = ["five steps", "noise left", "variance", "nearest", "accuracy"]
    return table(head, [*rows, held])


def controls() -> list[str]:
    """What makes the distance in pixels small at S = 5 on the model's own levels."""
    rows = result("sigma_hat")["rows"]
    measures = ("pixels", "features", "nearest", "empty", "between", "largest")
    head = ["own levels, S = 5", *measures[:3], "variance: empty", "between", "largest"]
    return table(head, ([name, *(cell(row, m) for m in measures)] for name, row in rows.items()))


def times() -> list[str]:
    ratio = result("figure4")["ratio"]
    return table(
        ["time, S", *ratio], [["over that of S = 10", *(f"{v:.1f}" for v in ratio.values())]]
    )


def weights() -> list[str]:
    rows = result("gamma")["rows"]
    head = ["objective", "noisy third", "middle", "quiet third", "largest γ over least", "factor"]
    return table(
        head,
        ([name, *(f"{100 * part:.1f} %" for part in row["thirds"]),
          f"{row['largest_over_least']:.0f}", f"{row['factor']:.4f}"]
         for name, row in rows.items()),
    )  # fmt: skip


def by_evaluations(first: str, name: str, budgets: Sequence[str]) -> list[str]:
    """Both distances of a table of gDDIM, by the evaluations."""
    cells = result(name)["cells"]
    rows = dict.fromkeys(key.rpartition(", ")[0] for key in cells)
    head = [first, *(f"{m}, {n}" for m in ("pixels", "features") for n in budgets)]
    return table(
        head,
        ([row.replace("vp,", "VP,").replace("cld,", "CLD,"),
          *(cell(cells.get(f"{row}, {n}", {}), m) for m in ("pixels", "features") for n in budgets)]
         for row in sorted(rows, key=order)),
    )  # fmt: skip


def order(row: str) -> tuple[Any, ...]:
    names = ("vp", "blurring", "cld", "R", "L", "gDDIM", "Euler-Maruyama", "Heun", "ddim", "ab3")
    return tuple(names.index(part) if part in names else part for part in row.split(", "))


def tables() -> list[list[str]]:
    return [
        by_steps("pixels, the paper's levels", "table", "pixels"),
        by_steps("features, the paper's levels", "table", "features"),
        by_steps("pixels, own levels", "cosine", "pixels"),
        few_steps(),
        controls(),
        times(),
        weights(),
        by_evaluations("root, order", "table_cld", ("10", "20", "50")),
        by_evaluations("rule, noise", "table_lambda", ("20", "50")),
        by_evaluations("process, method", "table_process", ("10", "20", "50")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="The tables of docs/learn/papers.md.")
    parser.add_argument("--write", action="store_true", help="put them into the page")
    asked = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8") if asked.write else ""
    for lines in tables():
        if not asked.write:
            print("\n".join(lines), end="\n\n")
            continue
        begin = text.index("\n| " + lines[0].split("|")[1].strip() + " |") + 1
        end = text.index("\n\n", begin)
        text = text[:begin] + "\n".join(lines) + text[end:]
    if asked.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
