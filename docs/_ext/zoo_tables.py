"""Directives that list what the library has, read from the library: ``solver-table`` and
``grid-table``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Sequence

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import flowsolve
from flowsolve.grids import Grid
from flowsolve.solvers import Row, options_of
from flowsolve.solvers.zoo import FAMILIES

Cell = list[nodes.Node]


_MARKED = re.compile(r"((?:arXiv )?\b\d{4}\.\d{5}\b|``[^`]+``)")


def text(words: str) -> Cell:
    """Words, with arXiv numbers linked and what is in double backquotes as code."""
    cell: Cell = []
    for k, part in enumerate(_MARKED.split(words)):
        if k % 2 and part[0] == "`":
            cell.append(nodes.literal("", part.strip("`")))
        elif k % 2:
            number = part.removeprefix("arXiv ")
            cell.append(
                nodes.reference("", part, refuri=f"https://arxiv.org/abs/{number}", internal=False)
            )
        elif part:
            cell.append(nodes.Text(part))
    return cell


def code(words: Sequence[str]) -> Cell:
    """Names, as literals separated by commas."""
    cell: Cell = []
    for word in words:
        cell += [*([nodes.Text(", ")] if cell else []), nodes.literal("", word)]
    return cell


def table(
    head: Sequence[str], widths: Sequence[int], body: Sequence[Sequence[Cell]]
) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", _row([text(word) for word in head]))
    group += nodes.tbody("", *(_row(cells) for cells in body))
    return nodes.table("", group, classes=["zoo"])


def _row(cells: Sequence[Cell]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))


#: Without JavaScript there is nothing to filter with, and the field stays away.
FILTER = """<div class="zoo-filter" hidden><label>Show solvers with
<input type="search" class="zoo-filter" placeholder="order 3, flow, arXiv 2206.00364, k-diffusion">
</label> <output aria-live="polite"></output></div>"""


class SolverTable(SphinxDirective):
    """The rows of ``flowsolve.solver_table()``, a table for each family."""

    def run(self) -> list[nodes.Node]:
        families: dict[str, list[Row]] = {}
        for row in flowsolve.solver_table():
            families.setdefault(row.family, []).append(row)
        head = (
            "name",
            "order",
            "evaluations",
            "coordinates, variable",
            "options",
            "source",
            "elsewhere",
        )
        result: list[nodes.Node] = [nodes.raw("", FILTER, format="html")]
        for family, rows in families.items():
            result.append(
                nodes.rubric(
                    "",
                    family
                    if family in ("scipy", "torchdiffeq")
                    else family[0].upper() + family[1:],
                )
            )
            result.append(nodes.paragraph("", "", *text(FAMILIES[family])))
            made = table(head, (22, 6, 12, 14, 18, 24, 24), [self._cells(row) for row in rows])
            made["classes"].append("solvers")
            result.append(made)
        return result

    @staticmethod
    def _cells(row: Row) -> list[Cell]:
        evaluations = row.solver.evaluations
        return [
            code((row.name, *row.aliases)),
            text(str(row.solver.order)),
            text("adaptive" if evaluations is None else f"{evaluations} a step"),
            text(f"{row.solver.coordinates!r}, {row.solver.variable!r}"),
            code([f"{key}={value:g}" for key, value in options_of(row.solver).items()]),
            text(row.source),
            text(", ".join(row.elsewhere)),
        ]


class GridTable(SphinxDirective):
    """The named grids, with their options and the first paragraph of their docstrings."""

    def run(self) -> list[nodes.Node]:
        names: dict[type[Grid], list[str]] = {}
        for name, grid in Grid.known.items():
            names.setdefault(grid, []).append(name)
        body = [
            [
                code(aliases),
                code([grid.__name__]),
                code([f"{f.name}={f.default!r}" for f in dataclasses.fields(grid)]),
                text((inspect.getdoc(grid) or "").split("\n\n")[0].replace("\n", " ")),
            ]
            for grid, aliases in names.items()
        ]
        return [table(("name", "class", "options", "levels"), (18, 12, 14, 56), body)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("solver-table", SolverTable)
    app.add_directive("grid-table", GridTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
